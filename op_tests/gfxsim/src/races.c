#include "races.h"
#include "findings.h"

#include <stdio.h>
#include <stdlib.h>

/* A record of a dword: epoch << 13 | by atomics only << 12 | bytes of the dword << 8 | wave + 1. If several waves
 * accessed the dword, `bytes` are those that surely more than one of them did, so that a report is never wrong. Atomics
 * do not race with each other. A record of a block has no bytes. */
enum { SEVERAL = 0xff, BYTES_SHIFT = 8, ALL_BYTES = 0xf << BYTES_SHIFT, ATOMIC = 1 << 12, EPOCH_SHIFT = 13 };
enum { LAST_EPOCH = UINT32_MAX >> EPOCH_SHIFT, BLOCK_BYTES = 512, MAX_READS = 256, MAX_CARRIED = 64 };

/* ---- intervals -------------------------------------------------------------------------------------------------- */

static uint32_t block_count(uint32_t lds_bytes) { return lds_bytes / BLOCK_BYTES + 1; }

/* One allocation: dwords of writers, of readers, blocks of writers, of readers. */
static size_t record_count(uint32_t lds_bytes) { return 2 * ((size_t)lds_bytes / 4 + 1) + 2 * block_count(lds_bytes); }

bool gs_races_reserve(gs_races_t *races, uint32_t lds_bytes) {
    if (!races->reads) races->reads = malloc(MAX_READS * sizeof *races->reads);
    if (!races->carried) races->carried = malloc(MAX_CARRIED * sizeof *races->carried);
    if (!races->writer || lds_bytes > races->capacity) {
        uint32_t dwords = lds_bytes / 4 + 1;
        free(races->writer);
        races->writer = calloc(record_count(lds_bytes), sizeof *races->writer);
        races->reader = races->writer + dwords;
        races->block_writer = races->reader + dwords;
        races->block_reader = races->block_writer + block_count(lds_bytes);
        races->capacity = lds_bytes;
        races->epoch = 1;
        races->read_count = 0;
    }
    return races->reads && races->carried && races->writer;
}

void gs_races_free(gs_races_t *races) {
    free(races->reads);
    free(races->carried);
    free(races->writer);
    memset(races, 0, sizeof *races);
}

void gs_races_next_interval(gs_races_t *races) {
    races->read_count = 0;
    races->carried_count = 0;
    if (races->epoch++ < LAST_EPOCH) return;
    memset(races->writer, 0, record_count(races->capacity) * sizeof *races->writer);
    races->epoch = 1;
}

/* ---- records ---------------------------------------------------------------------------------------------------- */

static inline bool same_epoch(uint32_t record, uint32_t mine) { return (record ^ mine) >> EPOCH_SHIFT == 0; }

static inline bool is_race(uint32_t record, uint32_t mine) {
    bool other_wave = (uint8_t)record && (uint8_t)record != (uint8_t)mine, both_atomic = record & mine & ATOMIC;
    return same_epoch(record, mine) && other_wave && !both_atomic && (record & mine & ALL_BYTES);
}

static uint32_t merge(uint32_t record, uint32_t mine) {
    if (!same_epoch(record, mine) || !(uint8_t)record) return mine;
    uint32_t atomic = record & mine & ATOMIC;
    if ((uint8_t)record == (uint8_t)mine) return ((record | mine) & ~(uint32_t)ATOMIC) | atomic;
    if ((uint8_t)record == SEVERAL) return (record & ~(uint32_t)ATOMIC) | atomic;
    return (record & mine & ~0xffu) | SEVERAL;
}

/* The access of another wave, begun before the last barrier, that a record of this dword may come from; NULL: none. */
static const gs_race_carried_t *find_carried(const gs_wave_t *wave, uint32_t dword, bool wrote) {
    const gs_races_t *races = wave->workgroup->races;
    for (int i = 0; i < races->carried_count; i++) {
        const gs_race_carried_t *carried = &races->carried[i];
        bool same_kind = (carried->use.access != GS_LDS_READ) == wrote;
        if (carried->wave != wave->index && same_kind && gs_lds_use_touches(&carried->use, dword * 4, 4))
            return carried;
    }
    return NULL;
}

static void report_race(gs_wave_t *wave, uint32_t dword, uint32_t record, bool wrote, bool writes, int lane) {
    char other[24] = "several waves";
    const gs_race_carried_t *carried = find_carried(wave, dword, wrote);
    if (carried) {
        gs_found(wave, GS_REPORT_MISSING_WAIT, (gs_access_by_t){carried->by, carried->use.pc},
                 "lane %d %s LDS dword at %u, which wave %d %s before the barrier, at code+0x%zx, without a wait on "
                 "lgkmcnt",
                 lane, writes ? "writes" : "reads", dword * 4, carried->wave, wrote ? "wrote" : "read",
                 (size_t)(carried->use.pc - wave->program->code_low));
        return;
    }
    if ((uint8_t)record != SEVERAL) snprintf(other, sizeof other, "wave %d", (int)(uint8_t)record - 1);
    gs_found(wave, GS_REPORT_LDS_RACE, (gs_access_by_t){NULL, 0},
             "lane %d %s LDS dword at %u, which %s %s since the last barrier", lane, writes ? "writes" : "reads",
             dword * 4, other, wrote ? "wrote" : "read");
}

static void record_dword(gs_wave_t *wave, uint32_t dword, uint32_t mine, bool writes, int lane) {
    uint32_t *writer = &wave->workgroup->races->writer[dword], *reader = &wave->workgroup->races->reader[dword];
    if (is_race(*writer, mine)) report_race(wave, dword, *writer, true, writes, lane);
    if (!writes) {
        *reader = merge(*reader, mine);
        return;
    }
    if (is_race(*reader, mine)) report_race(wave, dword, *reader, false, true, lane);
    *writer = merge(*writer, mine);
}

/* The bytes of a dword that lie in [address, end), as records have them. */
static inline uint32_t bytes_within(uint32_t dword, uint32_t address, uint32_t end) {
    uint32_t bytes = 0xf;
    if (dword * 4 < address) bytes &= 0xf << (address & 3);
    if (end - dword * 4 < 4) bytes &= 0xfu >> (4 - (end & 3));
    return bytes << BYTES_SHIFT;
}

static void record_access(gs_wave_t *wave, uint32_t address, uint32_t size, uint32_t base, bool writes, int lane) {
    uint32_t end = address + size;
    for (uint32_t dword = address / 4; dword * 4 < end; dword++)
        record_dword(wave, dword, base | bytes_within(dword, address, end), writes, lane);
}

static void record_lanes(gs_wave_t *wave, const uint32_t *address, uint64_t lanes, uint32_t size, uint32_t base,
                         bool writes) {
    for (uint64_t rest = lanes; rest; rest &= rest - 1) {
        int lane = __builtin_ctzll(rest);
        record_access(wave, address[lane], size, base, writes, lane);
    }
}

/* ---- blocks ----------------------------------------------------------------------------------------------------- */

/* Whether another wave was there in this interval. */
static bool others_in(const uint32_t *blocks, gs_span_t span, uint32_t mine) {
    uint32_t found = 0;
    for (uint32_t i = span.first; i <= span.last; i++) {
        uint32_t change = blocks[i] ^ mine;
        found |= (change >> EPOCH_SHIFT == 0) & ((uint8_t)change != 0);
    }
    return found;
}

static void mark_blocks(uint32_t *blocks, gs_span_t span, uint32_t mine) {
    for (uint32_t i = span.first; i <= span.last; i++) {
        uint32_t change = blocks[i] ^ mine;
        bool shared = (change >> EPOCH_SHIFT == 0) & ((uint8_t)change != 0);
        blocks[i] = shared ? mine | SEVERAL : mine;
    }
}

/* ---- reads that wait for a write -------------------------------------------------------------------------------- */

static void enter_read(gs_races_t *races, const gs_race_read_t *read) {
    for (uint64_t rest = read->lanes; rest; rest &= rest - 1) {
        uint32_t first = read->address[__builtin_ctzll(rest)] / 4;
        for (uint32_t k = 0; k < read->size / 4; k++) {
            uint32_t *record = &races->reader[first + k];
            if (*record != read->record) *record = merge(*record, read->record);
        }
    }
}

/* Those that come close to `span`. No other wave has written to their blocks since, or they were entered before. */
static void enter_reads(gs_races_t *races, gs_span_t span) {
    int kept = 0;
    for (int i = 0; i < races->read_count; i++) {
        gs_race_read_t *read = &races->reads[i];
        if (read->span.first <= span.last && span.first <= read->span.last) enter_read(races, read);
        else if (kept++ != i) races->reads[kept - 1] = *read;
    }
    races->read_count = kept;
}

static void put_on_list(gs_races_t *races, const uint32_t *address, uint64_t lanes, gs_span_t span, uint32_t size,
                        uint32_t record) {
    if (races->read_count == MAX_READS) enter_reads(races, (gs_span_t){0, UINT32_MAX});
    gs_race_read_t *read = &races->reads[races->read_count++];
    for (int lane = 0; lane < GS_LANES; lane++) read->address[lane] = address[lane];
    read->lanes = lanes;
    read->span = span;
    read->size = size;
    read->record = record;
}

/* ---- accesses --------------------------------------------------------------------------------------------------- */

/* `count` is a constant where this is inlined. */
static inline __attribute__((always_inline)) void set_writers(uint32_t *writers, const uint32_t *address,
                                                              uint64_t lanes, uint32_t count, uint32_t record) {
    for (uint64_t rest = lanes; rest; rest &= rest - 1) {
        uint32_t first = address[__builtin_ctzll(rest)] / 4;
        for (uint32_t i = 0; i < count; i++) writers[first + i] = record;
    }
}

void gs_races_access(gs_wave_t *wave, const uint32_t address[GS_LANES], uint64_t lanes, const gs_extent_t *extent,
                     uint32_t size, gs_lds_access_t access) {
    gs_races_t *races = wave->workgroup->races;
    if (!lanes) return;
    uint32_t mine = races->epoch << EPOCH_SHIFT | (uint32_t)(wave->index + 1);
    gs_span_t span = {extent->low / BLOCK_BYTES, (extent->high + size - 1) / BLOCK_BYTES};
    bool alone = !others_in(races->block_writer, span, mine), dwords = !((extent->bits | size) & 3);
    if (access == GS_LDS_READ) {
        if (alone && dwords) put_on_list(races, address, lanes, span, size, mine | ALL_BYTES);
        else record_lanes(wave, address, lanes, size, mine, false);
        mark_blocks(races->block_reader, span, mine);
        return;
    }
    if (others_in(races->block_reader, span, mine)) {
        enter_reads(races, span);
        alone = false;
    }
    if (!alone || !dwords || access == GS_LDS_ATOMIC)
        record_lanes(wave, address, lanes, size, mine | (access == GS_LDS_ATOMIC ? ATOMIC : 0), true);
    else if (size == 16) set_writers(races->writer, address, lanes, 4, mine | ALL_BYTES);
    else if (size == 8) set_writers(races->writer, address, lanes, 2, mine | ALL_BYTES);
    else set_writers(races->writer, address, lanes, size / 4, mine | ALL_BYTES);
    mark_blocks(races->block_writer, span, mine);
}

/* ---- accesses that outlive their interval ----------------------------------------------------------------------- */

static void carry_access(gs_races_t *races, uint32_t address, uint32_t size, uint32_t base, bool writes) {
    uint32_t *records = writes ? races->writer : races->reader, end = address + size;
    for (uint32_t dword = address / 4; dword * 4 < end; dword++)
        records[dword] = merge(records[dword], base | bytes_within(dword, address, end));
}

void gs_races_carry(const gs_wave_t *wave, const gs_lds_use_t *use) {
    gs_races_t *races = wave->workgroup->races;
    bool writes = use->access != GS_LDS_READ;
    uint32_t mine = races->epoch << EPOCH_SHIFT | (uint32_t)(wave->index + 1);
    uint32_t base = mine | (use->access == GS_LDS_ATOMIC ? ATOMIC : 0);
    for (uint64_t rest = use->lanes; rest; rest &= rest - 1) {
        uint32_t address = use->address[__builtin_ctzll(rest)];
        gs_span_t span = {address / BLOCK_BYTES, (address + use->size - 1) / BLOCK_BYTES};
        carry_access(races, address, use->size, base, writes);
        mark_blocks(writes ? races->block_writer : races->block_reader, span, mine);
    }
    if (races->carried_count < MAX_CARRIED) {
        races->carried[races->carried_count++] = (gs_race_carried_t){*use, wave->index, wave};
    }
}
