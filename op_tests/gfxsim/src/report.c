/* Reports: what is wrong, where, in which instruction. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "findings.h"
#include "launch.h"
#include "trace.h"
#include "wave.h"

const char *gs_report_kind_name(gs_report_kind_t kind) {
    static const char *const NAMES[] = {
        [GS_REPORT_NONE] = "none",
        [GS_REPORT_UNKNOWN_INSTRUCTION] = "unknown instruction",
        [GS_REPORT_UNSUPPORTED] = "unsupported",
        [GS_REPORT_GLOBAL_BOUNDS] = "global bounds",
        [GS_REPORT_LDS_BOUNDS] = "LDS bounds",
        [GS_REPORT_SCRATCH_BOUNDS] = "scratch bounds",
        [GS_REPORT_WRITE_TO_READ_ONLY] = "write to read-only",
        [GS_REPORT_MISALIGNED] = "misaligned",
        [GS_REPORT_LDS_RACE] = "LDS race",
        [GS_REPORT_MISSING_WAIT] = "missing wait",
        [GS_REPORT_UNINITIALIZED] = "uninitialized",
        [GS_REPORT_BARRIER] = "barrier",
        [GS_REPORT_TIMEOUT] = "timeout",
        [GS_REPORT_BAD_PC] = "bad pc",
        [GS_REPORT_ORDER] = "order",
    };
    return kind < sizeof NAMES / sizeof *NAMES && NAMES[kind] ? NAMES[kind] : "?";
}

/* ---- of a wave ----------------------------------------------------------------------------------------------------
 */

gs_report_kind_t gs_wave_report_kind(const gs_wave_t *wave) { return wave->report_kind; }
const char *gs_wave_report_text(const gs_wave_t *wave) { return wave->report_text; }

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

void gs_report_of_wave(gs_report_t *report, const gs_wave_t *wave) {
    report->kind = gs_wave_report_kind(wave);
    snprintf(report->text, sizeof report->text, "%s", gs_wave_report_text(wave));
}

/* ---- of what is around it -----------------------------------------------------------------------------------------
 */

void gs_report_of_machine(gs_report_t *report, const gs_dispatch_t *dispatch, const gs_workgroup_t *workgroup, int wave,
                          uintptr_t pc, gs_report_kind_t kind, const char *format, ...) {
    const gs_program_t *program = &dispatch->program;
    uintptr_t word = (pc - program->code_low) / 4;
    char insn[256] = "?";
    if (word < program->code_words && program->insns[word].name) {
        gs_print(program->arch, &program->insns[word], pc, insn, sizeof insn);
    }
    char what[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    report->kind = kind;
    snprintf(report->text, sizeof report->text, "kernel %.512s, workgroup (%u,%u,%u), wave %d, code+0x%zx: %s: %s",
             program->kernel, workgroup->id[0], workgroup->id[1], workgroup->id[2], wave,
             (size_t)(pc - program->code_low), insn, what);
}

void gs_add_counters(gs_counters_t *sum, const gs_counters_t *more) {
    for (int i = 0; i < GS_CLASS_COUNT; i++) sum->instructions[i] += more->instructions[i];
    sum->mfma_clocks += more->mfma_clocks;
    sum->global_read_bytes += more->global_read_bytes;
    sum->global_write_bytes += more->global_write_bytes;
    sum->lds_read_bytes += more->lds_read_bytes;
    sum->lds_write_bytes += more->lds_write_bytes;
}
