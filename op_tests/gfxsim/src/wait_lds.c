/* Which accesses of LDS, and loads to it, of a wave may be under way: what lds.c notes and asks. */
#include "wait.h"

void gs_wait_use_lds(gs_wave_t *wave, const uint32_t address[GS_LANES], uint64_t lanes, uint32_t size,
                     gs_lds_access_t access) {
    gs_stream_id_t stream = wave->insn->format == GS_DS ? GS_STREAM_LDS : GS_STREAM_FLAT;
    const gs_stream_t *lds = &wave->waits.streams[GS_STREAM_LDS], *flat = &wave->waits.streams[GS_STREAM_FLAT];
    if (wave->waits.lds_use_count && flat->issued == flat->retired) {
        const gs_lds_use_t *last = &wave->waits.lds_uses[(wave->waits.lds_use_count - 1) % GS_MAX_LDS_USES];
        bool all_landed = last->stream == GS_STREAM_LDS && gs_wait_is_over(lds, last->sequence);
        if (all_landed) wave->waits.lds_use_count = 0; /* memory that is at hand */
    }
    gs_lds_use_t *use = &wave->waits.lds_uses[wave->waits.lds_use_count++ % GS_MAX_LDS_USES];
    memcpy(use->address, address, sizeof use->address);
    use->lanes = lanes;
    use->sequence = wave->waits.streams[stream].issued + 1; /* which the instruction gets when it is done */
    use->size = size;
    use->stream = (uint8_t)stream;
    use->access = (uint8_t)access;
    use->pc = wave->insn_pc;
}

uintptr_t gs_wait_direct_pc(const gs_wave_t *wave, uint32_t address) {
    for (int i = 0; i < wave->waits.direct_load_count; i++) {
        const gs_direct_load_t *load = &wave->waits.direct_loads[i];
        uint32_t offset = address - load->address, lane = offset / load->spacing;
        if (lane < GS_LANES && load->lanes >> lane & 1 && offset % load->spacing < load->size) return load->pc;
    }
    return wave->program->code_low;
}
