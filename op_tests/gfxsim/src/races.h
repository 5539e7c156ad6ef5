/* Races in LDS: two waves must not use the same bytes between two barriers, one of them writing. */
#ifndef GFXSIM_RACES_H
#define GFXSIM_RACES_H

#include "lds.h"

typedef struct gs_span_t {
    uint32_t first, last; /* blocks */
} gs_span_t;

/* A read that is not yet in `reader`. */
typedef struct gs_race_read_t {
    uint32_t address[GS_LANES];
    uint64_t lanes;
    gs_span_t span;
    uint32_t size, record;
} gs_race_read_t;

/* An access of an earlier interval that its wave has not waited for. */
typedef struct gs_race_carried_t {
    gs_lds_use_t use;
    int wave;
    const gs_wave_t *by; /* the same */
} gs_race_carried_t;

/* What the waves of a workgroup did in the current barrier interval. Records of dwords and blocks name the interval
 * (races.c), so those of earlier ones count for nothing and are never cleared.
 * The records of blocks are coarse and say quickly that nobody else was there. Only then may a read be put on a list
 * instead of into `reader`; a write that comes close to a read of another wave enters the reads near it. */
typedef struct gs_races_t {
    uint32_t epoch;                        /* the interval, counted on and on over all workgroups */
    uint32_t capacity;                     /* in bytes of LDS */
    uint32_t *writer, *reader;             /* [dwords]: the last access */
    uint32_t *block_writer, *block_reader; /* [blocks] */
    gs_race_read_t *reads;
    int read_count;
    gs_race_carried_t *carried; /* what reports are to say of them; their records are among the others */
    int carried_count;
} gs_races_t;

/* For at least so much LDS; false: out of memory. */
bool gs_races_reserve(gs_races_t *races, uint32_t lds_bytes);
void gs_races_free(gs_races_t *races);

/* A barrier opened, or another workgroup begins. */
void gs_races_next_interval(gs_races_t *races);

/* Checks and records an access of `size` bytes at address[lane] by each of `lanes`, whose extent is given. */
void gs_races_access(gs_wave_t *wave, const uint32_t address[GS_LANES], uint64_t lanes, const gs_extent_t *extent,
                     uint32_t size, gs_lds_access_t access);

/* Records an access of an earlier interval as one of this one, which begins. */
void gs_races_carry(const gs_wave_t *wave, const gs_lds_use_t *use);

#endif
