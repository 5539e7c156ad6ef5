/* The decoder: which format a word has, then the format's own function. Formats stand at fixed bits of the first word,
 * see "Microcode Formats" in AMD's CDNA3 and CDNA4 ISA documents. */
#include "decode.h"

#include <string.h>

static bool decode_any(gs_decoder_t *decoder) {
    uint32_t word = decoder->words[0];
    if (word >> 31 == 0) return gs_decode_vop12c(decoder, word);
    if (word >> 30 == 2) return gs_decode_scalar_alu(decoder, word);
    if (word >> 26 == 0x30) return gs_decode_smem(decoder, word);
    if (word >> 23 == 0x1a7) return gs_decode_vop3p(decoder, word);
    if (word >> 26 == 0x34) return gs_decode_vop3(decoder, word);
    if (word >> 26 == 0x36) return gs_decode_ds(decoder, word);
    if (word >> 26 == 0x37) return gs_decode_flat(decoder, word);
    if (word >> 26 == 0x38) return gs_decode_mubuf(decoder, word);
    return false;
}

int gs_decode(gs_arch_t arch, const uint32_t *words, int available, gs_insn_t *out_insn) {
    memset(out_insn, 0, sizeof *out_insn);
    if (available < 1) return 0;
    gs_decoder_t decoder = {.arch = arch, .words = words, .available = available, .used = 1, .insn = out_insn};
    if (!decode_any(&decoder) || decoder.used > available) {
        memset(out_insn, 0, sizeof *out_insn);
        return 0;
    }
    out_insn->bytes = (uint8_t)(4 * decoder.used);
    return out_insn->bytes;
}
