#include "lds.h"

#include <stdio.h>

#include "wait.h"

/* lds_written of a byte: never written, written, or IN_FLIGHT + the index of the wave whose load will write it. */
enum { UNWRITTEN, WRITTEN, IN_FLIGHT };

/* ---- bounds, alignment ------------------------------------------------------------------------------------------ */

static _Noreturn void report_place(gs_wave_t *wave, uint32_t address, uint32_t size, uint32_t alignment, int lane) {
    if ((uint64_t)address + size > wave->workgroup->lds_bytes) {
        gs_report(wave, GS_REPORT_LDS_BOUNDS, "lane %d: LDS bytes [%u, %llu) of %u", lane, address,
                  (unsigned long long)address + size, wave->workgroup->lds_bytes);
    }
    gs_report(wave, GS_REPORT_MISALIGNED, "lane %d: LDS address %u is not a multiple of %u", lane, address, alignment);
}

static void check_places(gs_wave_t *wave, const uint32_t *address, uint64_t lanes, uint32_t size, uint32_t alignment) {
    uint32_t limit = wave->workgroup->lds_bytes, bad = 0;
    for (int lane = 0; lane < GS_LANES; lane++) {
        uint32_t wrong = address[lane] & (alignment - 1);
        wrong |= size > limit || address[lane] > limit - size;
        bad |= lanes >> lane & 1 ? wrong : 0;
    }
    if (!bad) return;
    for (int lane = 0; lane < GS_LANES; lane++) {
        bool inside = (uint64_t)address[lane] + size <= limit, aligned = !(address[lane] & (alignment - 1));
        if (lanes >> lane & 1 && !(inside && aligned)) report_place(wave, address[lane], size, alignment, lane);
    }
}

/* ---- what the bytes hold ---------------------------------------------------------------------------------------- */

static _Noreturn void report_in_flight(gs_wave_t *wave, uint32_t address, int lane) {
    int owner = wave->workgroup->lds_written[address] - IN_FLIGHT;
    if (owner != wave->index) {
        gs_report(wave, GS_REPORT_MISSING_WAIT,
                  "lane %d: LDS byte %u is used before wave %d waited for the load to LDS that writes it", lane,
                  address, owner);
    }
    gs_report(wave, GS_REPORT_MISSING_WAIT,
              "lane %d: LDS byte %u is used before a wait on vmcnt for the load to LDS at code+0x%zx", lane, address,
              (size_t)(gs_wait_direct_pc(wave, address) - wave->program->code_low));
}

/* Whether all bytes of all lanes are written; reports if one of them is in flight. `size` is a constant where this is
 * inlined. */
static inline __attribute__((always_inline)) bool check_states(gs_wave_t *wave, const uint32_t *address, uint64_t lanes,
                                                               uint32_t size) {
    const uint8_t *states = wave->workgroup->lds_written;
    uint8_t seen[16] = {0};
    for (uint64_t rest = lanes; rest; rest &= rest - 1) {
        const uint8_t *state = states + address[__builtin_ctzll(rest)];
        for (uint32_t i = 0; i < size; i++) seen[i] |= state[i] ^ WRITTEN;
    }
    uint8_t any = 0;
    for (int i = 0; i < 16; i++) any |= seen[i];
    for (uint64_t rest = any ? lanes : 0; rest; rest &= rest - 1) {
        int lane = __builtin_ctzll(rest);
        for (uint32_t i = 0; i < size; i++) {
            if (states[address[lane] + i] >= IN_FLIGHT) report_in_flight(wave, address[lane] + i, lane);
        }
    }
    return any == 0;
}

uint32_t gs_lds_undefined(const gs_wave_t *wave, uint32_t address, uint32_t size) {
    uint32_t bits = 0;
    for (uint32_t i = 0; i < size; i++) {
        if (wave->workgroup->lds_written[address + i] == UNWRITTEN) bits |= 0xffu << 8 * i;
    }
    return bits;
}

void gs_lds_set_undefined(gs_wave_t *wave, uint32_t address, uint32_t size, uint32_t bits) {
    for (uint32_t i = 0; i < size; i++) {
        if (bits >> 8 * i & 0xff) wave->workgroup->lds_written[address + i] = UNWRITTEN;
    }
}

/* ---- races ------------------------------------------------------------------------------------------------------ */

/* A record of lds_writer and lds_reader: epoch << 13 | by atomics only << 12 | bytes of the dword << 8 | wave + 1. If
 * several waves accessed the dword, `bytes` are those that surely more than one of them did, so that a report is never
 * wrong. Atomics do not race with each other. */
enum { SEVERAL = 0xff, BYTES_SHIFT = 8, ALL_BYTES = 0xf << BYTES_SHIFT, ATOMIC = 1 << 12, EPOCH_SHIFT = 13 };

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

static _Noreturn void report_race(gs_wave_t *wave, uint32_t dword, uint32_t record, bool wrote, bool writes, int lane) {
    char other[24] = "several waves";
    if ((uint8_t)record != SEVERAL) snprintf(other, sizeof other, "wave %d", (int)(uint8_t)record - 1);
    gs_report(wave, GS_REPORT_LDS_RACE, "lane %d %s LDS dword at %u, which %s %s since the last barrier", lane,
              writes ? "writes" : "reads", dword * 4, other, wrote ? "wrote" : "read");
}

static void record_dword(gs_wave_t *wave, uint32_t dword, uint32_t mine, bool writes, int lane) {
    uint32_t *writer = &wave->workgroup->lds_writer[dword], *reader = &wave->workgroup->lds_reader[dword];
    if (is_race(*writer, mine)) report_race(wave, dword, *writer, true, writes, lane);
    if (!writes) {
        if (*reader != mine) *reader = merge(*reader, mine);
        return;
    }
    if (is_race(*reader, mine)) report_race(wave, dword, *reader, false, true, lane);
    if (*writer != mine) *writer = merge(*writer, mine);
}

/* What other waves left on whole dwords: nonzero if a race or a merge of atomics has to be looked at one by one. */
static inline __attribute__((always_inline)) uint32_t conflicts(const uint32_t *record, uint32_t mine) {
    uint32_t change = *record ^ mine;
    return (change >> EPOCH_SHIFT == 0) & ((uint8_t)change != 0);
}

/* Records accesses of `count` whole dwords by all lanes, first looking, then writing, without a branch per lane. False:
 * nothing is recorded, something is suspicious. `count` is a constant where this is inlined. */
static inline __attribute__((always_inline)) bool record_lanes(gs_wave_t *wave, const uint32_t *address, uint64_t lanes,
                                                               uint32_t count, uint32_t mine, bool writes) {
    uint32_t *writers = wave->workgroup->lds_writer, *readers = wave->workgroup->lds_reader, suspicious[4] = {0};
    for (uint64_t rest = lanes; rest; rest &= rest - 1) {
        uint32_t first = address[__builtin_ctzll(rest)] / 4;
        for (uint32_t i = 0; i < count; i++) {
            suspicious[i] |= conflicts(&writers[first + i], mine);
            if (writes) suspicious[i] |= conflicts(&readers[first + i], mine);
        }
    }
    if (suspicious[0] | suspicious[1] | suspicious[2] | suspicious[3]) return false;
    for (uint64_t rest = lanes; rest; rest &= rest - 1) {
        uint32_t first = address[__builtin_ctzll(rest)] / 4;
        for (uint32_t i = 0; i < count; i++) {
            uint32_t old = readers[first + i], several = (old & ~(uint32_t)(ATOMIC | 0xff)) | SEVERAL;
            bool shared = (old ^ mine) >> EPOCH_SHIFT == 0 && (uint8_t)old != (uint8_t)mine && (uint8_t)old != 0;
            if (writes) {
                writers[first + i] = mine;
            } else {
                readers[first + i] = shared ? several : mine;
            }
        }
    }
    return true;
}

static void record_access(gs_wave_t *wave, uint32_t address, uint32_t size, uint32_t base, bool writes, int lane) {
    uint32_t end = address + size;
    if (!(address & 3) && !(size & 3)) {
        for (uint32_t dword = address / 4; dword < end / 4; dword++) {
            record_dword(wave, dword, base | ALL_BYTES, writes, lane);
        }
        return;
    }
    for (uint32_t dword = address / 4; dword * 4 < end; dword++) {
        uint32_t bytes = 0xf;
        if (dword * 4 < address) bytes &= 0xf << (address & 3);
        if (end - dword * 4 < 4) bytes &= 0xfu >> (4 - (end & 3));
        record_dword(wave, dword, base | bytes << BYTES_SHIFT, writes, lane);
    }
}

static bool races_matter(const gs_wave_t *wave) {
    return wave->program->check_races && wave->workgroup->wave_count > 1;
}

static uint32_t record_base(const gs_wave_t *wave, gs_lds_access_t access) {
    uint32_t atomic = access == GS_LDS_ATOMIC ? ATOMIC : 0;
    return wave->workgroup->epoch << EPOCH_SHIFT | atomic | (uint32_t)(wave->index + 1);
}

/* ---- access ----------------------------------------------------------------------------------------------------- */

/* `size` is a constant where this is inlined. */
static inline __attribute__((always_inline)) bool access_lanes(gs_wave_t *wave, const uint32_t *address, uint64_t lanes,
                                                               uint32_t size, gs_lds_access_t access) {
    bool defined = check_states(wave, address, lanes, size), writes = access != GS_LDS_READ;
    uint32_t base = record_base(wave, access);
    bool dwords = (size == 4 || size == 8 || size == 16) && access != GS_LDS_ATOMIC;
    for (uint64_t rest = lanes; dwords && rest; rest &= rest - 1) dwords = !(address[__builtin_ctzll(rest)] & 3);
    if (races_matter(wave) && !(dwords && record_lanes(wave, address, lanes, size / 4, base | ALL_BYTES, writes))) {
        for (uint64_t rest = lanes; rest; rest &= rest - 1) {
            int lane = __builtin_ctzll(rest);
            record_access(wave, address[lane], size, base, writes, lane);
        }
    }
    for (uint64_t rest = access == GS_LDS_WRITE ? lanes : 0; rest; rest &= rest - 1) {
        memset(wave->workgroup->lds_written + address[__builtin_ctzll(rest)], WRITTEN, size);
    }
    return defined;
}

bool gs_lds_access(gs_wave_t *wave, const uint32_t address[GS_LANES], uint64_t lanes, uint32_t size, uint32_t alignment,
                   gs_lds_access_t access) {
    check_places(wave, address, lanes, size, alignment);
    switch (size) {
    case 4: return access_lanes(wave, address, lanes, 4, access);
    case 8: return access_lanes(wave, address, lanes, 8, access);
    case 16: return access_lanes(wave, address, lanes, 16, access);
    case 12: return access_lanes(wave, address, lanes, 12, access);
    case 2: return access_lanes(wave, address, lanes, 2, access);
    default: return access_lanes(wave, address, lanes, 1, access);
    }
}

uint8_t *gs_lds_lane(gs_wave_t *wave, uint32_t address, uint32_t size, gs_lds_access_t access, int lane) {
    uint32_t addresses[GS_LANES] = {0};
    addresses[lane] = address;
    gs_lds_access(wave, addresses, UINT64_C(1) << lane, size, 1, access);
    return wave->workgroup->lds + address;
}

/* ---- loads from memory to LDS ----------------------------------------------------------------------------------- */

static void set_states(gs_wave_t *wave, const gs_direct_load_t *load, uint8_t state) {
    uint8_t *states = wave->workgroup->lds_written + load->address;
    if (load->lanes == UINT64_MAX && load->size == load->spacing) {
        memset(states, state, load->size * GS_LANES);
        return;
    }
    for (uint64_t rest = load->lanes; rest; rest &= rest - 1) {
        memset(states + (uint32_t)__builtin_ctzll(rest) * load->spacing, state, load->size);
    }
}

void gs_lds_announce(gs_wave_t *wave, const gs_direct_load_t *load) {
    set_states(wave, load, (uint8_t)(IN_FLIGHT + wave->index));
}

/* It may land at any time up to the wait: the write counts in the barrier interval of the wait, too. */
void gs_lds_land(gs_wave_t *wave, const gs_direct_load_t *load) {
    set_states(wave, load, WRITTEN);
    if (!races_matter(wave) || load->epoch == wave->workgroup->epoch) return;
    for (uint64_t rest = load->lanes; rest; rest &= rest - 1) {
        int lane = __builtin_ctzll(rest);
        uint32_t address = load->address + (uint32_t)lane * load->spacing;
        record_access(wave, address, load->size, record_base(wave, GS_LDS_WRITE), true, lane);
    }
}
