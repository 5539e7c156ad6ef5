#include "lds.h"

#include "findings.h"
#include "races.h"
#include "trace.h"
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

static gs_extent_t extent_of(const uint32_t *address, uint64_t lanes) {
    uint32_t some = lanes ? address[__builtin_ctzll(lanes)] : 0;
    gs_extent_t extent = {some, some, some};
    for (int first = 0; first < GS_LANES; first += 32) {
        uint32_t half = (uint32_t)(lanes >> first);
        for (int i = 0; i < 32; i++) {
            uint32_t at = half & 1u << i ? address[first + i] : some;
            extent.low = at < extent.low ? at : extent.low;
            extent.high = at > extent.high ? at : extent.high;
            extent.bits |= at;
        }
    }
    return extent;
}

static void check_places(gs_wave_t *wave, const uint32_t *address, uint64_t lanes, const gs_extent_t *extent,
                         uint32_t size, uint32_t alignment) {
    uint32_t limit = wave->workgroup->lds_bytes;
    if (lanes == 0 || ((uint64_t)extent->high + size <= limit && !(extent->bits & (alignment - 1)))) return;
    for (int lane = 0; lane < GS_LANES; lane++) {
        bool inside = (uint64_t)address[lane] + size <= limit, aligned = !(address[lane] & (alignment - 1));
        if (lanes >> lane & 1 && !(inside && aligned)) report_place(wave, address[lane], size, alignment, lane);
    }
}

/* ---- what the bytes hold ---------------------------------------------------------------------------------------- */

static void report_in_flight(gs_wave_t *wave, uint32_t address, int lane) {
    int owner = wave->workgroup->lds_written[address] - IN_FLIGHT;
    if (owner != wave->index) {
        gs_found(wave, GS_REPORT_MISSING_WAIT, (gs_access_by_t){NULL, 0},
                 "lane %d: LDS byte %u is used before wave %d waited for the load to LDS that writes it", lane, address,
                 owner);
        return;
    }
    uintptr_t load = gs_wait_direct_pc(wave, address);
    gs_found(wave, GS_REPORT_MISSING_WAIT, (gs_access_by_t){wave, load},
             "lane %d: LDS byte %u is used before a wait on vmcnt for the load to LDS at code+0x%zx", lane, address,
             (size_t)(load - wave->program->code_low));
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

/* ---- access ----------------------------------------------------------------------------------------------------- */

static bool races_matter(const gs_wave_t *wave) {
    return wave->program->check_races && wave->workgroup->wave_count > 1;
}

/* `size` is a constant where this is inlined. */
static inline __attribute__((always_inline)) bool access_lanes(gs_wave_t *wave, const uint32_t *address, uint64_t lanes,
                                                               const gs_extent_t *extent, uint32_t size,
                                                               gs_lds_access_t access) {
    bool defined = check_states(wave, address, lanes, size);
    if (races_matter(wave)) gs_races_access(wave, address, lanes, extent, size, access);
    for (uint64_t rest = access == GS_LDS_WRITE ? lanes : 0; rest; rest &= rest - 1) {
        memset(wave->workgroup->lds_written + address[__builtin_ctzll(rest)], WRITTEN, size);
    }
    return defined;
}

bool gs_lds_access(gs_wave_t *wave, const uint32_t address[GS_LANES], uint64_t lanes, uint32_t size, uint32_t alignment,
                   gs_lds_access_t access) {
    gs_extent_t extent = extent_of(address, lanes);
    uint32_t *touched = &wave->workgroup->lds_touched;
    check_places(wave, address, lanes, &extent, size, alignment);
    bool of_load_to_lds = wave->insn->format != GS_DS && wave->insn->format != GS_FLAT; /* vmcnt counts that */
    if (wave->program->check_waits && !of_load_to_lds) gs_wait_use_lds(wave, address, lanes, size, access);
    if (wave->trace) gs_trace_lds(wave->trace, address, lanes, size, access != GS_LDS_READ);
    if (lanes && access != GS_LDS_READ && extent.high + size > *touched) *touched = extent.high + size;
    switch (size) {
    case 4: return access_lanes(wave, address, lanes, &extent, 4, access);
    case 8: return access_lanes(wave, address, lanes, &extent, 8, access);
    case 16: return access_lanes(wave, address, lanes, &extent, 16, access);
    case 12: return access_lanes(wave, address, lanes, &extent, 12, access);
    case 2: return access_lanes(wave, address, lanes, &extent, 2, access);
    default: return access_lanes(wave, address, lanes, &extent, 1, access);
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
    if (!races_matter(wave) || load->epoch == wave->workgroup->races->epoch) return;
    uint32_t address[GS_LANES];
    for (int lane = 0; lane < GS_LANES; lane++) address[lane] = load->address + (uint32_t)lane * load->spacing;
    gs_extent_t extent = extent_of(address, load->lanes);
    gs_races_access(wave, address, load->lanes, &extent, load->size, GS_LDS_WRITE);
}
