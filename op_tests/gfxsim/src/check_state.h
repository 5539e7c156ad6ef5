/* What the checks keep of one wave, which holds it (wave.h): of data that is under way, and of data that was never
 * written. Others reach it by the functions of wait.h and taint.h. */
#ifndef GFXSIM_CHECK_STATE_H
#define GFXSIM_CHECK_STATE_H

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

/* wait.c */
typedef struct gs_waits_t {
    gs_stream_t streams[GS_STREAM_COUNT];
    uint32_t flat_vmem_retired, flat_lgkm_retired;
    bool any_pending;
    uint64_t pending[GS_PENDING_WORDS]; /* one bit per register; the scalar ones follow the vector ones */
    gs_pending_t pending_by[GS_VREGS + GS_SREGS];
    int direct_load_count;
    gs_direct_load_t direct_loads[GS_MAX_DIRECT_LOADS];
    uint32_t lds_use_count; /* since the start; the last ones are kept, landed or not */
    gs_lds_use_t lds_uses[GS_MAX_LDS_USES];
} gs_waits_t;

/* taint.c: undefined data. A lane's bits count only where `lanes` has the lane. */
typedef struct gs_taint_t {
    uint64_t lanes[GS_VREGS];
    uint32_t bits[GS_VREGS][GS_LANES];
    uint32_t sreg[GS_SREGS];
    bool scc;
} gs_taint_t;

#endif
