/* The life of a wave: start, run loop. */
#include <stdlib.h>

#ifdef __SSE2__
#include <xmmintrin.h>
#endif

#include "exec.h"
#include "trace.h"

enum { POISON = 0xff }; /* a NaN in every format */

gs_wave_t *gs_wave_new(void) {
    gs_float_formats_init();
    gs_wave_t *wave = aligned_alloc(64, (sizeof(gs_wave_t) + 63) / 64 * 64);
    if (!wave) return NULL;
    memset(wave, 0, sizeof *wave);
    memset(wave->v, POISON, sizeof wave->v);
    memset(wave->taint.bits, 0xff, sizeof wave->taint.bits);
    return wave;
}

void gs_wave_free(gs_wave_t *wave) { free(wave); }

void gs_wave_start(gs_wave_t *wave, const gs_program_t *program, gs_workgroup_t *workgroup, int index_in_workgroup,
                   uintptr_t entry, uint64_t active, uint8_t *scratch) {
    memset(wave->v, POISON, (size_t)program->vgprs * sizeof *wave->v);
    memset(wave->v[GS_FIRST_AGPR], POISON, (size_t)program->agprs * sizeof *wave->v);
    memset(wave->s, POISON, sizeof wave->s);
    gs_taint_start(wave, program);
    wave->scc = 0;
    wave->mode = program->float_mode | 1u << 8 | 1u << 9; /* DX10_CLAMP and IEEE, as clang sets them */
    wave->gpr_index_on = 0;
    wave->pc = entry;
    wave->stopped = false;
    gs_set_pair(wave->s, GS_EXEC, active);
    gs_taint_define_scalars(wave, GS_EXEC, 2);

    gs_wait_start(wave);
    wave->trace = NULL;
    wave->arrivals = NULL;
    wave->program = program;
    wave->workgroup = workgroup;
    wave->index = index_in_workgroup;
    wave->scratch = scratch;
    wave->last_buffer = NULL;
    wave->instruction_count = 0;
    wave->report_kind = GS_REPORT_NONE;
    wave->report_text[0] = 0;
}

void gs_wave_set_sgpr(gs_wave_t *wave, int reg, uint32_t value) {
    wave->s[reg] = value;
    gs_taint_define_scalars(wave, reg, 1);
}

void gs_wave_set_vgpr(gs_wave_t *wave, int reg, const uint32_t *lanes) {
    memcpy(wave->v[reg], lanes, sizeof wave->v[reg]);
    gs_taint_clear(wave, reg, 1, UINT64_MAX);
}

uint64_t gs_wave_instruction_count(const gs_wave_t *wave) { return wave->instruction_count; }
uintptr_t gs_wave_pc(const gs_wave_t *wave) { return wave->pc; }

/* ---- run -------------------------------------------------------------------------------------------------------- */

/* The host's flush-to-zero state stands for the kernel's denormal mode of fp32. */
#ifdef __SSE2__
static unsigned enter_float_mode(const gs_wave_t *wave) {
    unsigned old = _mm_getcsr(), denormals = wave->mode >> 4 & 3, csr = 0x1f80; /* round to nearest, no traps */
    if (!(denormals & 1)) csr |= 0x0040;                                        /* denormal inputs are zero */
    if (!(denormals & 2)) csr |= 0x8000;                                        /* denormal results are zero */
    _mm_setcsr(csr);
    return old;
}

static void leave_float_mode(unsigned old) { _mm_setcsr(old); }
#else
static unsigned enter_float_mode(const gs_wave_t *wave) { return wave->mode & 0; }
static void leave_float_mode(unsigned old) { (void)old; }
#endif

void gs_wave_float_mode_changed(gs_wave_t *wave) { (void)enter_float_mode(wave); }

static void step(gs_wave_t *wave) {
    const gs_program_t *program = wave->program;
    uintptr_t word = (wave->pc - program->code_low) / 4;
    wave->insn_pc = wave->pc;
    wave->insn = NULL;
    if (wave->pc < program->code_low || word >= program->code_words || wave->pc & 3) {
        gs_report(wave, GS_REPORT_BAD_PC, "the program counter has left the code");
    }
    const gs_insn_t *insn = &program->insns[word];
    wave->insn = insn;
    if (!insn->execute) gs_report(wave, GS_REPORT_UNKNOWN_INSTRUCTION, "the simulator has no semantics for it");
    if (gs_wait_any(wave)) gs_wait_check(wave, insn);
    wave->pc += insn->bytes;
    wave->lanes = gs_exec(wave);
    gs_counters_t *counters = gs_counters(wave);
    counters->instructions[insn->class_]++;
    counters->mfma_clocks += insn->mfma_clocks;
    wave->instruction_count++;
    if (program->check_uninitialized) gs_taint_execute(wave, insn);
    else insn->execute(wave, insn);
}

gs_stop_t gs_wave_run(gs_wave_t *wave, uint64_t quantum) {
    unsigned old = enter_float_mode(wave);
    wave->stopped = false;
    wave->stop = GS_STOP_QUANTUM;
    if (setjmp(wave->on_report)) wave->stop = GS_STOP_REPORT;
    else
        for (uint64_t left = quantum; left && !wave->stopped; left--) step(wave);
    leave_float_mode(old);
    return wave->stop;
}
