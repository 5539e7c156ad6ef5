#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "launch.h"

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

void gs_report_of_wave(gs_report_t *report, const gs_wave_t *wave) {
    report->kind = gs_wave_report_kind(wave);
    snprintf(report->text, sizeof report->text, "%s", gs_wave_report_text(wave));
}

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
