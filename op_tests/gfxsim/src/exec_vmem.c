/* Global, flat and scratch memory. */
#include "lds.h"
#include "transfer.h"

enum { SHARED_HIGH = 0x10000, PRIVATE_HIGH = 0x20000 }; /* the apertures, see operand.c */

enum { ADDRESS, DATA, BASE }; /* sources */

static void count(gs_wave_t *wave, int size, bool write) {
    uint64_t bytes = (uint64_t)__builtin_popcountll(wave->lanes) * (uint64_t)size;
    *(write ? &gs_counters(wave)->global_write_bytes : &gs_counters(wave)->global_read_bytes) += bytes;
}

static gs_stream_id_t stream_of(const gs_insn_t *insn) {
    return insn->format == GS_FLAT ? GS_STREAM_FLAT : GS_STREAM_VMEM;
}

/* ---- addresses -------------------------------------------------------------------------------------------------- */

static void require_address(gs_wave_t *wave, const gs_insn_t *insn) {
    gs_require_defined(wave, &insn->src[ADDRESS], wave->lanes, "the address");
    gs_require_defined(wave, &insn->src[BASE], 0, "the base address");
}

static uint64_t lane_address(gs_wave_t *wave, const gs_insn_t *insn, int lane) {
    const gs_operand_t *address = &insn->src[ADDRESS], *base = &insn->src[BASE];
    uint64_t result = (uint64_t)(int64_t)insn->offset;
    if (base->kind == GS_SREG) {
        result += gs_read_scalar64(wave, base);
        if (address->kind == GS_VREG) result += wave->v[address->reg][lane];
        return result;
    }
    return result + (wave->v[address->reg][lane] | (uint64_t)wave->v[address->reg + 1][lane] << 32);
}

static uint8_t *scratch_bytes(gs_wave_t *wave, int64_t offset, uint32_t size, int lane) {
    int64_t limit = wave->program->scratch_bytes;
    if (offset < 0 || offset + size > limit)
        gs_report(wave, GS_REPORT_SCRATCH_BOUNDS, "lane %d: scratch bytes [%lld, %lld) of %lld", lane,
                  (long long)offset, (long long)(offset + size), (long long)limit);
    return wave->scratch + (size_t)lane * (size_t)limit + offset;
}

static uint8_t *scratch_access(gs_wave_t *wave, const gs_insn_t *insn, uint32_t size, int lane) {
    const gs_operand_t *address = &insn->src[ADDRESS], *base = &insn->src[BASE];
    int64_t offset = insn->offset;
    if (address->kind == GS_VREG) offset += wave->v[address->reg][lane];
    if (base->kind != GS_NONE) offset += (int32_t)gs_read_scalar32(wave, base);
    return scratch_bytes(wave, offset, size, lane);
}

/* Flat addresses may lie in LDS or scratch. */
static uint8_t *flat_access(gs_wave_t *wave, uint64_t address, uint32_t size, bool write, int lane) {
    if (address >> 32 == SHARED_HIGH) {
        return gs_lds_lane(wave, (uint32_t)address, size, write ? GS_LDS_WRITE : GS_LDS_READ, lane);
    }
    if (address >> 32 == PRIVATE_HIGH) return scratch_bytes(wave, (uint32_t)address, size, lane);
    return gs_memory_access(wave, (uintptr_t)address, size, write, lane);
}

/* The bytes that the lanes access, wherever they are. */
static void find_places(gs_wave_t *wave, const gs_insn_t *insn, uint32_t size, bool write, uint8_t *places[GS_LANES]) {
    if (insn->format == GS_GLOBAL) {
        GS_FOR_LANES places[lane] = (uint8_t *)(uintptr_t)lane_address(wave, insn, lane);
        gs_memory_access_lanes(wave, places, wave->lanes, size, write);
        return;
    }
    GS_FOR_LANES if (wave->lanes >> lane & 1)
        places[lane] = insn->format == GS_SCRATCH
                           ? scratch_access(wave, insn, size, lane)
                           : flat_access(wave, lane_address(wave, insn, lane), size, write, lane);
    for (int lane = 0; wave->lanes && lane < GS_LANES; lane++)
        if (!(wave->lanes >> lane & 1)) places[lane] = places[__builtin_ctzll(wave->lanes)];
}

/* ---- loads and stores ------------------------------------------------------------------------------------------- */

static void fetch(gs_wave_t *wave, const gs_insn_t *insn, gs_loaded_t *out_loaded) {
    uint8_t *places[GS_LANES];
    out_loaded->any_undefined = false;
    require_address(wave, insn);
    find_places(wave, insn, (uint32_t)insn->a, false, places);
    if (wave->lanes) gs_load_lanes(out_loaded, places, insn->a);
    if (insn->format != GS_SCRATCH) count(wave, insn->a, false);
}

static void load(gs_wave_t *wave, const gs_insn_t *insn) {
    gs_loaded_t loaded;
    fetch(wave, insn, &loaded);
    gs_finish_load(wave, insn, &loaded, stream_of(insn));
}

static void load_to_lds(gs_wave_t *wave, const gs_insn_t *insn) {
    gs_loaded_t loaded;
    fetch(wave, insn, &loaded);
    gs_finish_direct_load(wave, insn, &loaded);
}

static void store(gs_wave_t *wave, const gs_insn_t *insn) {
    int reg = insn->src[DATA].reg;
    uint8_t *places[GS_LANES];
    require_address(wave, insn);
    if (insn->format != GS_SCRATCH) {
        gs_require_store_data(wave, insn, reg, wave->lanes);
        count(wave, insn->a, true);
    }
    find_places(wave, insn, (uint32_t)insn->a, true, places);
    gs_store_lanes(wave, insn, reg, places, wave->lanes);
    gs_wait_issue(wave, stream_of(insn), 0, 0);
}

/* insn->a: the operation, insn->b: size. */
static void atomic(gs_wave_t *wave, const gs_insn_t *insn) {
    int size = insn->b, data = insn->src[DATA].reg;
    bool compares = insn->a == GS_ATOMIC_CMPSWAP;
    gs_loaded_t loaded;
    loaded.any_undefined = false;
    require_address(wave, insn);
    gs_require_vector(wave, data, size / 4 * (1 + compares), UINT32_MAX, wave->lanes, "the data of the atomic");
    uint8_t *places[GS_LANES];
    find_places(wave, insn, (uint32_t)size, true, places);
    GS_FOR_LANES if (wave->lanes >> lane & 1) {
        uint8_t *target = places[lane];
        if ((uintptr_t)target & (uintptr_t)(size - 1)) {
            gs_report(wave, GS_REPORT_MISALIGNED, "lane %d: an atomic of %d bytes at %p", lane, size, (void *)target);
        }
        uint64_t compare = compares ? gs_lane_value(wave, data + size / 4, lane, size) : 0;
        uint64_t operand = gs_lane_value(wave, data, lane, size);
        uint64_t old = gs_atomic_apply(target, (gs_atomic_t)insn->a, size, operand, compare);
        loaded.words[0][lane] = (uint32_t)old;
        loaded.words[1][lane] = (uint32_t)(old >> 32);
    }
    count(wave, size, true);
    gs_finish_atomic(wave, insn, &loaded, size, stream_of(insn));
}

/* ---- the list --------------------------------------------------------------------------------------------------- */

enum { OWN = GS_OWN_TAINT };

/* One entry per segment. */
#define LOAD(name, size, flags)                                                                                        \
    {"global_load_" name, load, size, flags, OWN, 0}, {"flat_load_" name, load, size, flags, OWN, 0},                  \
        {"scratch_load_" name, load, size, flags, OWN, 0}
#define STORE(name, size, flags)                                                                                       \
    {"global_store_" name, store, size, flags, OWN, 0}, {"flat_store_" name, store, size, flags, OWN, 0},              \
        {"scratch_store_" name, store, size, flags, OWN, 0}
#define TO_LDS(name, size, flags)                                                                                      \
    {"global_load_lds_" name, load_to_lds, size, flags, OWN, 0},                                                       \
    {"scratch_load_lds_" name, load_to_lds, size, flags, OWN, 0}
#define ATOMIC(name, operation, size)                                                                                  \
    {"global_atomic_" name, atomic, operation, size, OWN, 0}, {"flat_atomic_" name, atomic, operation, size, OWN, 0}

const gs_semantics_t gs_vmem_list[] = {
    GS_MEMORY_LOADS(LOAD), GS_MEMORY_STORES(STORE), GS_MEMORY_ATOMICS(ATOMIC),
    TO_LDS("ubyte", 1, 0), TO_LDS("sbyte", 1, GS_SIGNED), TO_LDS("ushort", 2, 0), TO_LDS("sshort", 2, GS_SIGNED),
    TO_LDS("dword", 4, 0), {"global_load_lds_dwordx3", load_to_lds, 12, 0, OWN, 0},
    {"global_load_lds_dwordx4", load_to_lds, 16, 0, OWN, 0},
    {0},
};
