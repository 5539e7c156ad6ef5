/* What the clock tells tests and tools: its constants, and the last timed launch. */
#include "clock.h"
#include "hip_state.h"

typedef struct constant_t {
    const char *name, *source;
    int64_t values[GS_ARCH_COUNT];
} constant_t;

static const constant_t CONSTANTS[] = {
#define X(name, gfx942, gfx950, source) {#name, source, {gfx942, gfx950}},
    GS_CLOCK_CONSTANTS(X)
#undef X
};

static const char *const CAUSES[] = {
#define X(name, text) text,
    GS_CAUSES(X)
#undef X
};

/* The name of a constant, NULL behind the last. */
GS_EXPORT const char *gfxsim_clock_constant(int index, int arch, int64_t *value, const char **source) {
    if (index < 0 || (size_t)index >= sizeof CONSTANTS / sizeof *CONSTANTS) return NULL;
    *value = CONSTANTS[index].values[arch];
    *source = CONSTANTS[index].source;
    return CONSTANTS[index].name;
}

/* Why instructions wait; NULL behind the last. */
GS_EXPORT const char *gfxsim_clock_cause(int index) {
    return index >= 0 && index < GS_CAUSE_COUNT ? CAUSES[index] : NULL;
}

GS_EXPORT void gfxsim_clock_summary(gs_clock_summary_t *summary) {
    gs_lock();
    *summary = gs_clock_result.summary;
    gs_unlock();
}

/* The profiles of all instructions, by word of the code, and the pieces of waves' times. Good until the next launch. */
GS_EXPORT uint32_t gfxsim_clock_instructions(const gs_clock_insn_t **insns) {
    *insns = gs_clock_result.insns;
    return gs_clock_result.words;
}

GS_EXPORT uint32_t gfxsim_clock_spans(const gs_clock_span_t **spans) {
    *spans = gs_clock_result.spans;
    return gs_clock_result.span_count;
}
