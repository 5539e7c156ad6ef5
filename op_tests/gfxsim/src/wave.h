/* The state of one wave: private to the executor (wave.c, operand.c, taint.c, wait.c, exec_*.c). */
#ifndef GFXSIM_WAVE_H
#define GFXSIM_WAVE_H

#include <setjmp.h>
#include <string.h>

#include "check_state.h"

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

    gs_taint_t taint;
    gs_waits_t waits;
    gs_trace_t *trace;       /* NULL: the clock does not ask */
    const int64_t *arrivals; /* the clock's [code_words]: when the last access by the instruction there was over */
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
