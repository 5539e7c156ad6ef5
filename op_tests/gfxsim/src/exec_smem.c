/* Scalar loads. insn->a: dwords. */
#include "transfer.h"

static void finish(gs_wave_t *wave, const gs_insn_t *insn, const uint32_t *words) {
    int reg = insn->dst[0].reg;
    memcpy(&wave->s[reg], words, (size_t)insn->a * sizeof *words);
    gs_taint_define_scalars(wave, reg, insn->a);
    gs_wait_issue(wave, GS_STREAM_SMEM, GS_VREGS + reg, insn->a);
}

static uint64_t offset_of(gs_wave_t *wave, const gs_insn_t *insn) {
    uint64_t offset = (uint64_t)(int64_t)insn->offset;
    if (insn->src_count > 1 && insn->src[1].kind == GS_SREG) {
        gs_require_defined(wave, &insn->src[1], 0, "the offset");
        offset += gs_read_scalar32(wave, &insn->src[1]);
    }
    return offset;
}

static void s_load(gs_wave_t *wave, const gs_insn_t *insn) {
    gs_require_defined(wave, &insn->src[0], 0, "the address");
    uint64_t address = (gs_read_scalar64(wave, &insn->src[0]) + offset_of(wave, insn)) & ~UINT64_C(3);
    uint32_t words[16];
    memcpy(words, gs_memory_access(wave, (uintptr_t)address, (uint32_t)insn->a * 4, false, 0), (size_t)insn->a * 4);
    gs_counters(wave)->global_read_bytes += (uint64_t)insn->a * 4;
    finish(wave, insn, words);
}

static void s_buffer_load(gs_wave_t *wave, const gs_insn_t *insn) {
    const uint32_t *resource = &wave->s[insn->src[0].reg];
    gs_require_defined(wave, &insn->src[0], 0, "the buffer resource");
    uint64_t base = gs_pair(resource, 0) & 0xffffffffffff, stride = resource[1] >> 16 & 0x3fff;
    uint64_t size = stride ? stride * resource[2] : resource[2], offset = offset_of(wave, insn) & ~UINT64_C(3);
    uint32_t words[16] = {0};
    for (int i = 0; i < insn->a; i++)
        if (offset + 4 * (uint64_t)i + 4 <= size) {
            memcpy(&words[i], gs_memory_access(wave, (uintptr_t)(base + offset + 4 * (uint64_t)i), 4, false, 0), 4);
            gs_counters(wave)->global_read_bytes += 4;
        }
    finish(wave, insn, words);
}

#define LOADS(prefix, function)                                                                                        \
    {prefix "_dword", function, 1, 0, GS_OWN_TAINT, 0}, {prefix "_dwordx2", function, 2, 0, GS_OWN_TAINT, 0},          \
        {prefix "_dwordx4", function, 4, 0, GS_OWN_TAINT, 0}, {prefix "_dwordx8", function, 8, 0, GS_OWN_TAINT, 0},    \
        {prefix "_dwordx16", function, 16, 0, GS_OWN_TAINT, 0}

const gs_semantics_t gs_smem_list[] = {LOADS("s_load", s_load), LOADS("s_buffer_load", s_buffer_load), {0}};
