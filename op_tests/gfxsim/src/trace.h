/* What an instruction accessed, for the clock: filled in while wave->trace is set, by the functions that find places.
 */
#ifndef GFXSIM_TRACE_H
#define GFXSIM_TRACE_H

#include "wave.h"

enum { GS_TRACE_LINE = 128, GS_TRACE_MAX_LINES = 256, GS_TRACE_MAX_LDS = 2 };

typedef struct gs_trace_lds_t {
    uint32_t address[GS_LANES];
    uint64_t lanes;
    uint32_t size;
    bool writes;
} gs_trace_lds_t;

struct gs_trace_t {
    int64_t now;    /* the instruction's clock */
    int line_count; /* cache lines of memory, each once */
    uintptr_t lines[GS_TRACE_MAX_LINES];
    uint32_t bytes; /* of active lanes */
    bool writes;
    int lds_count;
    gs_trace_lds_t lds[GS_TRACE_MAX_LDS];
};

static inline void gs_trace_line(gs_trace_t *trace, uintptr_t line) {
    for (int i = trace->line_count - 1; i >= 0; i--)
        if (trace->lines[i] == line) return;
    if (trace->line_count < GS_TRACE_MAX_LINES) trace->lines[trace->line_count++] = line;
}

static inline void gs_trace_memory(gs_trace_t *trace, uintptr_t address, uint32_t size, bool write) {
    gs_trace_line(trace, address / GS_TRACE_LINE);
    gs_trace_line(trace, (address + size - 1) / GS_TRACE_LINE);
    trace->bytes += size;
    trace->writes |= write;
}

static inline void gs_trace_lds(gs_trace_t *trace, const uint32_t *address, uint64_t lanes, uint32_t size,
                                bool writes) {
    if (trace->lds_count == GS_TRACE_MAX_LDS) return;
    gs_trace_lds_t *access = &trace->lds[trace->lds_count++];
    memcpy(access->address, address, sizeof access->address);
    access->lanes = lanes;
    access->size = size;
    access->writes = writes;
}

#endif
