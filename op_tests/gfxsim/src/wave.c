/* The life of a wave: start, run loop, reports. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#ifdef __SSE2__
#include <xmmintrin.h>
#endif

#include "exec.h"
#include "findings.h"
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

gs_report_kind_t gs_wave_report_kind(const gs_wave_t *wave) { return wave->report_kind; }
const char *gs_wave_report_text(const gs_wave_t *wave) { return wave->report_text; }
uint64_t gs_wave_instruction_count(const gs_wave_t *wave) { return wave->instruction_count; }
uintptr_t gs_wave_pc(const gs_wave_t *wave) { return wave->pc; }

/* ---- reports ---------------------------------------------------------------------------------------------------- */

static void instruction_text(const gs_wave_t *wave, char *text, int size) {
    const gs_insn_t *insn = wave->insn;
    if (!insn) snprintf(text, (size_t)size, "outside of the code");
    else if (insn->name) gs_print(wave->program->arch, insn, wave->insn_pc, text, size);
    else snprintf(text, (size_t)size, "not an instruction: 0x%08x", *(const uint32_t *)wave->insn_pc);
}

static void describe(gs_wave_t *wave, const char *format, va_list arguments) {
    char instruction[256] = "";
    const uint32_t *id = wave->workgroup->id;
    instruction_text(wave, instruction, sizeof instruction);
    int length = snprintf(wave->report_text, sizeof wave->report_text,
                          "kernel %s, workgroup (%u,%u,%u), wave %d, code+0x%zx: %s: ", wave->program->kernel, id[0],
                          id[1], id[2], wave->index, (size_t)(wave->insn_pc - wave->program->code_low), instruction);
    if (length < (int)sizeof wave->report_text) {
        vsnprintf(wave->report_text + length, sizeof wave->report_text - (size_t)length, format, arguments);
    }
}

static _Noreturn void stop_with_report(gs_wave_t *wave, gs_report_kind_t kind) {
    wave->report_kind = kind;
    longjmp(wave->on_report, 1);
}

void gs_report(gs_wave_t *wave, gs_report_kind_t kind, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    describe(wave, format, arguments);
    va_end(arguments);
    stop_with_report(wave, kind);
}

/* By the clock: how long ago the access was over; GS_NO_SLACK: it is not timed, or not known. */
static int64_t slack_of(const gs_wave_t *wave, gs_access_by_t by) {
    if (!wave->trace || !by.wave || !by.wave->arrivals) return GS_NO_SLACK;
    return wave->trace->now - by.wave->arrivals[(by.pc - wave->program->code_low) / 4];
}

void gs_found(gs_wave_t *wave, gs_report_kind_t kind, gs_access_by_t by, const char *format, ...) {
    const char *kernel = wave->program->kernel;
    uint64_t offset = wave->insn_pc - wave->program->code_low;
    int64_t slack = slack_of(wave, by);
    if (wave->program->keep_going && gs_findings_again(kernel, offset, kind, slack)) return;
    va_list arguments;
    va_start(arguments, format);
    describe(wave, format, arguments);
    va_end(arguments);
    if (!wave->program->keep_going) stop_with_report(wave, kind);
    gs_findings_add(kernel, offset, kind, slack, wave->report_text);
}

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
