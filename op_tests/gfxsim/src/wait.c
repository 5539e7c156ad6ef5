#include "wait.h"

#include "findings.h"
#include "races.h"
#include "taint.h"

enum { VMCNT_MAX = 63, LGKMCNT_MAX = 15 }; /* the hardware does not issue beyond these */

void gs_wait_start(gs_wave_t *wave) {
    gs_waits_t *waits = &wave->waits;
    memset(waits->streams, 0, sizeof waits->streams);
    memset(waits->pending, 0, sizeof waits->pending);
    waits->flat_vmem_retired = waits->flat_lgkm_retired = 0;
    waits->any_pending = false;
    waits->direct_load_count = 0;
    waits->lds_use_count = 0;
}

/* The stream in which the loads of this format return in order; STREAM_COUNT: none. */
static gs_stream_id_t ordered_stream(const gs_insn_t *insn) {
    switch (insn->format) {
    case GS_DS: return GS_STREAM_LDS;
    case GS_GLOBAL:
    case GS_SCRATCH:
    case GS_MUBUF: return GS_STREAM_VMEM;
    default: return GS_STREAM_COUNT;
    }
}

static void report_missing(gs_wave_t *wave, int reg, bool written) {
    static const char *const COUNTERS[] = {"vmcnt", "lgkmcnt", "lgkmcnt(0)", "vmcnt(0) and lgkmcnt(0)"};
    const gs_pending_t *by = &wave->waits.pending_by[reg];
    bool scalar = reg >= GS_VREGS;
    int number = scalar ? reg - GS_VREGS : reg % GS_FIRST_AGPR;
    gs_found(wave, GS_REPORT_MISSING_WAIT, (gs_access_by_t){wave, by->pc},
             "%c%d is %s before a wait on %s for the load at code+0x%zx",
             scalar                ? 's'
             : reg < GS_FIRST_AGPR ? 'v'
                                   : 'a',
             number, written ? "overwritten" : "used", COUNTERS[by->stream],
             (size_t)(by->pc - wave->program->code_low));
}

static void check_operand(gs_wave_t *wave, const gs_operand_t *operand, gs_stream_id_t allowed, bool written) {
    int first, end, limit = GS_VREGS + GS_SREGS;
    if (operand->kind == GS_VREG) first = operand->reg;
    else if (operand->kind == GS_SREG && operand->reg < GS_SREGS) first = GS_VREGS + operand->reg;
    else return;
    end = first + gs_operand_registers(operand);
    if (end > limit) end = limit;
    for (int word = first >> 6; word << 6 < end; word++) {
        uint64_t bits = wave->waits.pending[word];
        if (word == first >> 6) bits &= UINT64_MAX << (first & 63);
        if (end - (word << 6) < 64) bits &= (UINT64_C(1) << (end & 63)) - 1;
        for (; bits; bits &= bits - 1) {
            int reg = word * 64 + __builtin_ctzll(bits);
            const gs_pending_t *by = &wave->waits.pending_by[reg];
            bool landed = gs_wait_is_over(&wave->waits.streams[by->stream], by->sequence);
            if (!landed && by->stream != allowed) report_missing(wave, reg, written);
        }
    }
}

void gs_wait_check(gs_wave_t *wave, const gs_insn_t *insn) {
    for (int k = 0; k < insn->src_count; k++) check_operand(wave, &insn->src[k], GS_STREAM_COUNT, false);
    for (int k = 0; k < insn->dst_count; k++) check_operand(wave, &insn->dst[k], ordered_stream(insn), true);
}

/* ---- issue ------------------------------------------------------------------------------------------------------ */

static void retire(gs_wave_t *wave);

static uint32_t next_sequence(gs_wave_t *wave, gs_stream_id_t id) {
    gs_stream_t *stream = &wave->waits.streams[id];
    uint32_t most = id == GS_STREAM_VMEM ? VMCNT_MAX : LGKMCNT_MAX;
    uint32_t sequence = ++stream->issued;
    bool ordered = id == GS_STREAM_VMEM || id == GS_STREAM_LDS;
    if (ordered && stream->issued - stream->retired > most) {
        stream->retired = stream->issued - most;
        if (wave->waits.direct_load_count) retire(wave); /* else it can wait */
    }
    return sequence;
}

void gs_wait_issue(gs_wave_t *wave, gs_stream_id_t stream, int reg, int count) {
    if (!wave->program->check_waits) return;
    uint32_t sequence = next_sequence(wave, stream);
    for (int r = reg; r < reg + count && r < GS_VREGS + GS_SREGS; r++) {
        wave->waits.pending[r >> 6] |= UINT64_C(1) << (r & 63);
        wave->waits.pending_by[r] = (gs_pending_t){sequence, (uint8_t)stream, wave->insn_pc};
    }
    wave->waits.any_pending |= count > 0;
}

void gs_wait_issue_direct(gs_wave_t *wave, gs_direct_load_t load) {
    if (!wave->program->check_waits) return; /* it has landed */
    load.epoch = wave->workgroup->races->epoch;
    load.sequence = next_sequence(wave, GS_STREAM_VMEM); /* at most VMCNT_MAX remain, so the list has room */
    wave->waits.direct_loads[wave->waits.direct_load_count++] = load;
    gs_lds_announce(wave, &load);
}

/* ---- accesses to LDS -------------------------------------------------------------------------------------------- */

/* The kept uses, the newest first, that may still be under way; `*index` begins as 0. NULL: no more. */
static const gs_lds_use_t *next_use(const gs_wave_t *wave, uint32_t *index) {
    while (*index < wave->waits.lds_use_count && *index < GS_MAX_LDS_USES) {
        const gs_lds_use_t *use = &wave->waits.lds_uses[(wave->waits.lds_use_count - ++*index) % GS_MAX_LDS_USES];
        if (!gs_wait_is_over(&wave->waits.streams[use->stream], use->sequence)) return use;
    }
    return NULL;
}

void gs_wait_carry_lds(const gs_wave_t *wave) {
    uint32_t index = 0;
    for (const gs_lds_use_t *use; (use = next_use(wave, &index));) gs_races_carry(wave, use);
}

void gs_wait_check_direct(gs_wave_t *wave, const gs_direct_load_t *load) {
    if (!wave->program->check_waits) return;
    uint32_t index = 0;
    for (const gs_lds_use_t *use; (use = next_use(wave, &index));) {
        if (!gs_lds_use_touches(use, load->address, load->spacing * GS_LANES)) continue;
        for (uint64_t rest = load->lanes; rest; rest &= rest - 1) {
            int lane = __builtin_ctzll(rest);
            uint32_t address = load->address + (uint32_t)lane * load->spacing;
            if (!gs_lds_use_touches(use, address, load->size)) continue;
            gs_found(wave, GS_REPORT_MISSING_WAIT, (gs_access_by_t){wave, use->pc},
                     "lane %d: LDS bytes from %u on are overwritten before a wait on lgkmcnt for the access at "
                     "code+0x%zx",
                     lane, address, (size_t)(use->pc - wave->program->code_low));
            break;
        }
    }
}

/* ---- wait ------------------------------------------------------------------------------------------------------- */

/* Forgets what has landed. */
static void retire(gs_wave_t *wave) {
    if (wave->waits.any_pending) {
        wave->waits.any_pending = false;
        for (int word = 0; word < GS_PENDING_WORDS; word++) {
            for (uint64_t rest = wave->waits.pending[word]; rest; rest &= rest - 1) {
                int bit = __builtin_ctzll(rest);
                const gs_pending_t *by = &wave->waits.pending_by[word * 64 + bit];
                if (gs_wait_is_over(&wave->waits.streams[by->stream], by->sequence))
                    wave->waits.pending[word] &= ~(UINT64_C(1) << bit);
            }
            wave->waits.any_pending |= wave->waits.pending[word] != 0;
        }
    }
    int kept = 0;
    for (int i = 0; i < wave->waits.direct_load_count; i++) {
        const gs_direct_load_t *load = &wave->waits.direct_loads[i];
        if (gs_wait_is_over(&wave->waits.streams[GS_STREAM_VMEM], load->sequence)) gs_lds_land(wave, load);
        else wave->waits.direct_loads[kept++] = *load;
    }
    wave->waits.direct_load_count = kept;
}

/* At most `count` are under way: of an ordered stream these are its newest, however many of the others are among. */
static void wait_ordered(gs_stream_t *stream, int count) {
    if (stream->issued - stream->retired > (uint32_t)count) stream->retired = stream->issued - (uint32_t)count;
}

void gs_wait_for(gs_wave_t *wave, int vmcnt, int lgkmcnt) {
    gs_stream_t *flat = &wave->waits.streams[GS_STREAM_FLAT], *scalar = &wave->waits.streams[GS_STREAM_SMEM];
    wait_ordered(&wave->waits.streams[GS_STREAM_VMEM], vmcnt);
    wait_ordered(&wave->waits.streams[GS_STREAM_LDS], lgkmcnt);
    if (lgkmcnt == 0) {
        scalar->retired = scalar->issued;
        wave->waits.flat_lgkm_retired = flat->issued;
    }
    if (vmcnt == 0) wave->waits.flat_vmem_retired = flat->issued;
    bool vmem_behind = (int32_t)(wave->waits.flat_vmem_retired - wave->waits.flat_lgkm_retired) < 0;
    flat->retired = vmem_behind ? wave->waits.flat_vmem_retired : wave->waits.flat_lgkm_retired;
    retire(wave);
}
