/* The state of one wave: private to the executor (wave.c, operand.c, taint.c, wait.c, exec_*.c). */
#ifndef GFXSIM_WAVE_H
#define GFXSIM_WAVE_H

#include <setjmp.h>
#include <string.h>

#include "machine.h"

/* Loads of one stream return in order; between the streams there is no order. FLAT needs both counters at zero. */
typedef enum gs_stream_id_t {
    GS_STREAM_VMEM,
    GS_STREAM_LDS,
    GS_STREAM_SMEM,
    GS_STREAM_FLAT,
    GS_STREAM_COUNT
} gs_stream_id_t;

typedef struct gs_stream_t {
    uint32_t issued, retired; /* sequence numbers: what lies in (retired, issued] may still be under way */
} gs_stream_t;

/* What is under way into a register. */
typedef struct gs_pending_t {
    uint32_t sequence;
    uint8_t stream;
    uintptr_t pc; /* of the load */
} gs_pending_t;

/* A load from memory to LDS that no wait has covered yet: `size` bytes at address + lane * spacing of each lane. */
typedef struct gs_direct_load_t {
    uint32_t sequence, address, size, spacing;
    uint32_t epoch; /* the barrier interval in which it was issued */
    uint64_t lanes;
    uintptr_t pc;
} gs_direct_load_t;

/* An LDS access of the wave, which takes place at some time between its issue and the wait on lgkmcnt that covers it.
 */
typedef struct gs_lds_use_t {
    uint32_t address[GS_LANES];
    uint64_t lanes;
    uint32_t sequence, size;
    uint8_t stream, access; /* gs_stream_id_t, gs_lds_access_t */
    uintptr_t pc;
} gs_lds_use_t;

enum { GS_MAX_LDS_USES = 32 }; /* two each of the at most 15 that lgkmcnt counts, and those of this instruction */
enum { GS_MAX_DIRECT_LOADS = 64, GS_PENDING_WORDS = (GS_VREGS + GS_SREGS) / 64 };

struct gs_wave_t {
    _Alignas(64) uint32_t v[GS_VREGS][GS_LANES];
    _Alignas(64) uint32_t s[GS_SREGS];
    uint32_t scc;
    uint32_t mode;         /* the MODE register */
    uint32_t gpr_index_on; /* s_set_gpr_idx_on: M0[7:0] is added to the vector registers that M0[15:12] names */
    uint64_t lanes;        /* that the current instruction writes: EXEC, less what DPP leaves alone */
    uintptr_t pc;          /* of the next instruction */
    const gs_insn_t *insn; /* the current one */
    uintptr_t insn_pc;
    gs_stop_t stop;
    bool stopped; /* set by s_endpgm and s_barrier */

    /* taint.c: undefined data. A lane's bits count only where undefined_lanes has the lane. */
    uint64_t undefined_lanes[GS_VREGS];
    uint32_t undefined_bits[GS_VREGS][GS_LANES];
    uint32_t undefined_sreg[GS_SREGS];
    bool undefined_scc;

    /* wait.c */
    gs_stream_t streams[GS_STREAM_COUNT];
    uint32_t flat_vmem_retired, flat_lgkm_retired;
    bool any_pending;
    uint64_t pending[GS_PENDING_WORDS]; /* one bit per register; the scalar ones follow the vector ones */
    gs_pending_t pending_by[GS_VREGS + GS_SREGS];
    int direct_load_count;
    gs_direct_load_t direct_loads[GS_MAX_DIRECT_LOADS];
    uint32_t lds_use_count; /* since the start; the last ones are kept, landed or not */
    gs_lds_use_t lds_uses[GS_MAX_LDS_USES];

    gs_trace_t *trace; /* NULL: the clock does not ask */
    const gs_program_t *program;
    gs_workgroup_t *workgroup;
    int index;        /* in the workgroup */
    uint8_t *scratch; /* [64][program->scratch_bytes] */
    const gs_buffer_t *last_buffer;
    uint64_t instruction_count;

    jmp_buf on_report;
    gs_report_kind_t report_kind;
    char report_text[1024];
};

/* wave.c: after a change of wave->mode. */
void gs_wave_float_mode_changed(gs_wave_t *wave);

static inline uint64_t gs_pair(const uint32_t *s, int reg) { return s[reg] | (uint64_t)s[reg + 1] << 32; }

static inline void gs_set_pair(uint32_t *s, int reg, uint64_t value) {
    s[reg] = (uint32_t)value;
    s[reg + 1] = (uint32_t)(value >> 32);
}

static inline uint64_t gs_exec(const gs_wave_t *wave) { return gs_pair(wave->s, GS_EXEC); }

static inline gs_counters_t *gs_counters(gs_wave_t *wave) { return &wave->workgroup->counters; }

static inline float gs_f32(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t gs_u32(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static inline double gs_f64(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint64_t gs_u64(double value) {
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

#endif
