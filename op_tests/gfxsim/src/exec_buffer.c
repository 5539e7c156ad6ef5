/* Buffer instructions: memory behind a resource of base, stride and size. What lies beyond the size reads as 0 and is
 * not written; what lies inside must be memory of the program. */
#include "transfer.h"

typedef struct resource_t {
    uint64_t base;
    uint32_t stride, records; /* records: bytes without a stride, else elements */
    uint32_t scalar_offset;
    const uint32_t *index, *offset; /* per lane, NULL: 0 */
} resource_t;

/* Sources, counted from the end: a store has its data in front of them. */
static const gs_operand_t *source(const gs_insn_t *insn, int from_end) {
    return &insn->src[insn->src_count - from_end];
}

enum { ADDRESS = 3, RESOURCE = 2, SCALAR_OFFSET = 1 };

static resource_t read_resource(gs_wave_t *wave, const gs_insn_t *insn) {
    const gs_operand_t *address = source(insn, ADDRESS);
    int s = source(insn, RESOURCE)->reg;
    gs_require_scalar(wave, s, 4, "the buffer resource");
    gs_require_defined(wave, address, wave->lanes, "the address");
    gs_require_defined(wave, source(insn, SCALAR_OFFSET), 0, "the scalar offset");
    if (wave->s[s + 1] >> 31) gs_report(wave, GS_REPORT_UNSUPPORTED, "a swizzled buffer");
    resource_t resource = {
        .base = gs_pair(wave->s, s) & 0xffffffffffff,
        .stride = wave->s[s + 1] >> 16 & 0x3fff,
        .records = wave->s[s + 2],
        .scalar_offset = gs_read_scalar32(wave, source(insn, SCALAR_OFFSET)),
    };
    if (insn->idxen) resource.index = wave->v[address->reg];
    if (insn->offen) resource.offset = wave->v[address->reg + insn->idxen];
    return resource;
}

/* The address of `size` bytes `extra` bytes into the lane's access; 0: out of the buffer's range. */
static uintptr_t lane_address(const gs_insn_t *insn, const resource_t *resource, uint32_t extra, uint32_t size,
                              int lane) {
    uint64_t index = resource->index ? resource->index[lane] : 0;
    uint64_t offset = (uint64_t)((resource->offset ? resource->offset[lane] : 0) + (uint32_t)insn->offset);
    uint64_t from_base = resource->stride * index + offset + extra;
    bool inside = resource->stride && resource->index
                      ? index < resource->records
                      : from_base + size + resource->scalar_offset <= resource->records;
    return inside ? (uintptr_t)(resource->base + resource->scalar_offset + from_base) : 0;
}

static void count(gs_wave_t *wave, uint64_t bytes, bool write) {
    *(write ? &gs_counters(wave)->global_write_bytes : &gs_counters(wave)->global_read_bytes) += bytes;
}

/* Where the lanes' bytes are, dword by dword: a place of zeros for what is out of range. Returns the bytes in range. */
static uint64_t find_places(gs_wave_t *wave, const gs_insn_t *insn, const resource_t *resource, uint32_t extra,
                            uint32_t size, uint8_t *places[GS_LANES]) {
    static uint8_t zeros[4];
    uint64_t inside = 0;
    GS_FOR_LANES {
        uintptr_t address = wave->lanes >> lane & 1 ? lane_address(insn, resource, extra, size, lane) : 0;
        places[lane] = (uint8_t *)address;
        inside |= (uint64_t)(address != 0) << lane;
    }
    gs_memory_access_lanes(wave, places, inside, size, false);
    GS_FOR_LANES places[lane] = inside >> lane & 1 ? places[lane] : zeros;
    return (uint64_t)__builtin_popcountll(inside) * size;
}

static void fetch(gs_wave_t *wave, const gs_insn_t *insn, gs_loaded_t *out_loaded) {
    resource_t resource = read_resource(wave, insn);
    uint32_t total = (uint32_t)insn->a, step = total < 4 ? total : 4;
    uint64_t fetched = 0;
    for (uint32_t i = 0; i < total; i += step) {
        gs_loaded_t dword;
        uint8_t *places[GS_LANES];
        fetched += find_places(wave, insn, &resource, i, step, places);
        gs_load_lanes(&dword, places, (int)step);
        memcpy(out_loaded->words[i / 4], dword.words[0], sizeof dword.words[0]);
    }
    out_loaded->any_undefined = false;
    count(wave, fetched, false);
}

static void load(gs_wave_t *wave, const gs_insn_t *insn) {
    gs_loaded_t loaded;
    fetch(wave, insn, &loaded);
    if (insn->lds)
        gs_finish_direct_load(wave, insn, &loaded);
    else
        gs_finish_load(wave, insn, &loaded, GS_STREAM_VMEM);
}

static void store(gs_wave_t *wave, const gs_insn_t *insn) {
    resource_t resource = read_resource(wave, insn);
    uint32_t total = (uint32_t)insn->a, step = total < 4 ? total : 4;
    uint64_t stored = 0;
    GS_FOR_LANES if (wave->lanes >> lane & 1)
        for (uint32_t i = 0; i < total; i += step) {
            uintptr_t address = lane_address(insn, &resource, i, step, lane);
            if (!address) continue;
            uint32_t word = wave->v[insn->src[0].reg + (int)(i / 4)][lane] >> (insn->b & GS_D16_HIGH ? 16 : 0);
            gs_require_store_data(wave, insn, insn->src[0].reg, UINT64_C(1) << lane);
            memcpy(gs_memory_access(wave, address, step, true, lane), &word, step);
            stored += step;
        }
    count(wave, stored, true);
    gs_wait_issue(wave, GS_STREAM_VMEM, 0, 0);
}

/* insn->a: the operation, insn->b: size. */
static void atomic(gs_wave_t *wave, const gs_insn_t *insn) {
    resource_t resource = read_resource(wave, insn);
    int size = insn->b, data = insn->src[0].reg;
    bool compares = insn->a == GS_ATOMIC_CMPSWAP;
    gs_loaded_t loaded = {0};
    gs_require_vector(wave, data, size / 4 * (1 + compares), UINT32_MAX, wave->lanes, "the data of the atomic");
    GS_FOR_LANES if (wave->lanes >> lane & 1) {
        uintptr_t address = lane_address(insn, &resource, 0, (uint32_t)size, lane);
        if (!address) continue;
        if (address & (uintptr_t)(size - 1)) {
            gs_report(wave, GS_REPORT_MISALIGNED, "lane %d: an atomic of %d bytes at 0x%zx", lane, size,
                      (size_t)address);
        }
        uint64_t compare = compares ? gs_lane_value(wave, data + size / 4, lane, size) : 0;
        uint64_t old = gs_atomic_apply(gs_memory_access(wave, address, (uint32_t)size, true, lane),
                                       (gs_atomic_t)insn->a, size, gs_lane_value(wave, data, lane, size), compare);
        loaded.words[0][lane] = (uint32_t)old;
        loaded.words[1][lane] = (uint32_t)(old >> 32);
        count(wave, (uint64_t)size, true);
    }
    gs_finish_atomic(wave, insn, &loaded, size, GS_STREAM_VMEM);
}

/* ---- the list --------------------------------------------------------------------------------------------------- */

enum { OWN = GS_OWN_TAINT };

#define LOAD(name, size, flags) {"buffer_load_" name, load, size, flags, OWN, 0}
#define STORE(name, size, flags) {"buffer_store_" name, store, size, flags, OWN, 0}
#define ATOMIC(name, operation, size) {"buffer_atomic_" name, atomic, operation, size, OWN, 0}

const gs_semantics_t gs_buffer_list[] = {
    GS_MEMORY_LOADS(LOAD), GS_MEMORY_STORES(STORE), GS_MEMORY_ATOMICS(ATOMIC), {0},
};
