/* For the tests: runs a few machine words on waves whose registers the caller gives, without code object and launch. */
#include <stdlib.h>

#include "exec.h"
#include "memory.h"
#include "races.h"

#define EXPORT __attribute__((visibility("default")))

enum { MAX_WORDS = 64, CHECK_WAITS = 1, CHECK_RACES = 2, CHECK_UNINITIALIZED = 4 };

typedef struct gfxsim_exec_t {
    uint32_t *v;          /* [512][64], in and out */
    uint32_t *s;          /* [128], in and out */
    uint8_t *v_defined;   /* [512], in: whether the register counts as written */
    uint8_t *s_defined;   /* [128] */
    uint64_t *v_undefined; /* [512], out: lanes with undefined bits */
    uint8_t *lds;         /* [lds_bytes], in and out */
    uint8_t *lds_defined; /* [lds_bytes], in and out */
    uint32_t lds_bytes, scratch_bytes;
    uint32_t scc, mode, checks, wave_count; /* scc: in and out; mode: MODE[7:0]; the waves run one after the other */
    uint32_t kind, stop;  /* out: gs_report_kind_t, gs_stop_t */
    char text[1024];
    gs_counters_t counters;
} gfxsim_exec_t;

static void start(gs_wave_t *wave, const gfxsim_exec_t *state) {
    for (int reg = 0; reg < GS_VREGS; reg++)
        if (state->v_defined[reg]) gs_wave_set_vgpr(wave, reg, state->v + (size_t)reg * GS_LANES);
    for (int reg = 0; reg < GS_SREGS; reg++)
        if (state->s_defined[reg]) gs_wave_set_sgpr(wave, reg, state->s[reg]);
    wave->scc = state->scc;
    wave->taint.scc = false;
}

static void finish(const gs_wave_t *wave, gfxsim_exec_t *state) {
    memcpy(state->v, wave->v, sizeof wave->v);
    memcpy(state->s, wave->s, sizeof wave->s);
    memcpy(state->v_undefined, wave->taint.lanes, sizeof wave->taint.lanes);
    state->scc = wave->scc;
    state->kind = gs_wave_report_kind(wave);
    memcpy(state->text, gs_wave_report_text(wave), sizeof state->text);
}

/* Decodes every word position, as the launch does; the program ends behind its last word. */
static void decode(gs_arch_t arch, const uint32_t *words, int count, gs_insn_t *insns) {
    for (int i = 0; i < count; i++) {
        gs_decode(arch, words + i, count - i, &insns[i]);
        gs_bind(arch, &insns[i]);
    }
}

/* Runs `count` words and an s_endpgm. 0, or -1: too many words, or no memory. */
EXPORT int gfxsim_exec_run(int arch, const uint32_t *words, int count, gfxsim_exec_t *state) {
    static const uint32_t END = 0xbf810000;
    uint32_t code[MAX_WORDS + 1] = {0};
    if (count > MAX_WORDS) return -1;
    memcpy(code, words, (size_t)count * sizeof *words);
    code[count] = END;
    gs_insn_t *insns = calloc(MAX_WORDS + 1, sizeof *insns);
    gs_races_t races = {0};
    uint8_t *scratch = calloc(GS_LANES, state->scratch_bytes + 1);
    gs_wave_t *wave = gs_wave_new();
    int result = insns && scratch && wave && gs_races_reserve(&races, state->lds_bytes) ? 0 : -1;
    if (result == 0) {
        decode((gs_arch_t)arch, code, count + 1, insns);
        gs_program_t program = {
            .arch = (gs_arch_t)arch, .device = -1, .kernel = "test", .float_mode = (uint8_t)state->mode,
            .code_low = (uintptr_t)code, .code_words = (uint32_t)count + 1, .insns = insns,
            .scratch_bytes = state->scratch_bytes, .vgprs = GS_FIRST_AGPR, .agprs = GS_VREGS - GS_FIRST_AGPR,
            .check_waits = state->checks & CHECK_WAITS,
            .check_races = state->checks & CHECK_RACES, .check_uninitialized = state->checks & CHECK_UNINITIALIZED,
        };
        gs_workgroup_t workgroup = {
            .lds = state->lds, .lds_written = state->lds_defined, .lds_bytes = state->lds_bytes,
            .races = &races, .wave_count = (int)state->wave_count,
        };
        for (int index = 0; index < (int)state->wave_count; index++) {
            gs_wave_start(wave, &program, &workgroup, index, (uintptr_t)code, UINT64_MAX, scratch);
            start(wave, state);
            if (state->wave_count > 1) gs_wave_set_sgpr(wave, 100, (uint32_t)index);
            state->stop = gs_wave_run(wave, 10000);
            if (state->stop == GS_STOP_REPORT) break;
        }
        finish(wave, state);
        state->counters = workgroup.counters;
    }
    gs_wave_free(wave);
    free(scratch);
    gs_races_free(&races);
    free(insns);
    return result;
}

/* Host bytes that the program may touch, until they are removed. */
EXPORT void *gfxsim_exec_add_memory(const void *low, uint64_t bytes, int writable) {
    return gs_memory_add(low, bytes, writable, -1, "test memory");
}

EXPORT void gfxsim_exec_remove_memory(void *memory) { gs_memory_remove(memory); }

/* The names that have semantics, in order; NULL behind the last. */
EXPORT const char *gfxsim_exec_name(int index) { return gs_semantics_name(index); }
