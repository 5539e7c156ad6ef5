/* Shared memory of the sm_90a prefill kernels, and what their warpgroups tell one another. Matrices are panels whose
 * rows are 128 bytes, in 128-byte swizzle: 64 elements of 16 bits or 128 of 8.
 *
 *   query   128 rows, 64 of each consumer
 *   key     2 stages of KEYS keys; e4m3: 3, since a product takes half the time and a load does not
 *   value   2 stages; e4m3: 2 that values arrive in, and
 *   turned  2 stages of their columns as rows: products of 8-bit types take both operands with the inner axis
 * contiguous side    barriers, the tile, which keys exist */
#ifndef AC_OPS_MLA_PREFILL_SM90_TILE_H
#define AC_OPS_MLA_PREFILL_SM90_TILE_H

#include "../../../core/dtype.h"
#include "../../../gpu/sm90/convert.h"
#include "../../../gpu/sm90/wgmma_wide.h"
#include "../../attention/softmax.h"
#include "../tiles.h"

constexpr int PREFILL_ROWS = 128, PREFILL_CONSUMER_ROWS = 64;
constexpr int PREFILL_STAGES = 2; /* of values */
constexpr int PREFILL_FLAGS =
    4; /* key tiles whose existing keys are told: they are read when the stage is free again */
constexpr int PREFILL_THREADS = 3 * 128; /* a producer and two consumers, a warpgroup each */

/* Hardware barriers; 0 is that of the whole workgroup. */
enum {
    PREFILL_SYNC_CONSUMER = 1 /* + consumer */,
    PREFILL_SYNC_TURN = 3 /* + consumer */,
    PREFILL_SYNC_PRODUCER = 5,
    PREFILL_SYNC_CONSUMERS
};

/* A kernel: the type of q, k, v and of P, the widths, and the keys of a tile. */
template <int TYPE_, int D_, int DV_, int KEYS_> struct prefill_kind {
    static constexpr int TYPE = TYPE_, D = D_, DV = DV_, KEYS = KEYS_;
    static constexpr bool FP8 = TYPE == SM90_E4M3;
    static constexpr int BYTES = FP8 ? 1 : 2;                                    /* of an element */
    static constexpr int D_CHUNKS = D * BYTES / 16, DV_CHUNKS = DV * BYTES / 16; /* of 16 bytes, of a row */
    static constexpr int D_PANELS = (D_CHUNKS + 7) / 8, DV_PANELS = (DV_CHUNKS + 7) / 8;
    static constexpr int QUERY_PANEL = PREFILL_ROWS * 128, KEY_PANEL = KEYS * 128; /* bytes */
    static constexpr int KEY_STAGES = FP8 ? 3 : 2;
    static constexpr int WARP_KEYS = KEYS / 4; /* of a tile, that a producer warp brings */
    static constexpr mla_headroom_t HEADROOM = FP8                 ? MLA_FP8_HEADROOM
                                               : TYPE == SM90_BF16 ? MLA_BF16_HEADROOM
                                                                   : MLA_F16_HEADROOM;
};

/* Where a workgroup is: the number of its next tile, of the grid from request `outer` on, or of a worker's item. */
typedef struct prefill_cursor_t {
    int64_t tile;
    int32_t outer; /* requests that are passed; or items of the worker's list */
} prefill_cursor_t;

/* The tile that the producer found; number of key tiles -1: there is none, and the workgroup ends. */
typedef struct prefill_work_t {
    ac_prefill_tile_t tile;
    int32_t key_tiles, rows;
    uint32_t keys;
    int32_t first_slot; /* of the tile's keys, like slots */
    const int32_t *slots;
    const char *q, *k, *v; /* the tile's first query; the head's keys and values */
} prefill_work_t;

template <class KIND> struct prefill_side_t {
    uint64_t full_query, empty_query;
    uint64_t full_key[KIND::KEY_STAGES], empty_key[KIND::KEY_STAGES];
    uint64_t full_value[PREFILL_STAGES], empty_value[PREFILL_STAGES];
    uint32_t whole[PREFILL_FLAGS]; /* a byte of a producer warp: 1: all its keys exist */
    uint8_t exists[PREFILL_FLAGS][KIND::KEYS];
    prefill_cursor_t cursor;
    prefill_work_t work[4]; /* of the present tile, the one whose results are stored, and the next */
};

template <class KIND> struct prefill_shared_t {
    char query[KIND::D_PANELS * KIND::QUERY_PANEL];
    char key[KIND::KEY_STAGES][KIND::D_PANELS * KIND::KEY_PANEL];
    char value[PREFILL_STAGES][KIND::DV_PANELS * KIND::KEY_PANEL];
    char turned[PREFILL_STAGES][KIND::FP8 ? KIND::DV * 128 : 16];
    prefill_side_t<KIND> side;
};

template <class KIND> GPU_INLINE prefill_shared_t<KIND> &prefill_shared() {
    static_assert(sizeof(prefill_shared_t<KIND>) <= 227 * 1024, "a workgroup has 227 KB");
    return *(prefill_shared_t<KIND> *)gpu_shared;
}

/* Tile `number` of the workgroup. When it is found, the consumers are perhaps still storing tile number - 2. */
GPU_INLINE int prefill_work_slot(int number) { return number & 3; }

/* The thread's number in its warpgroup, opaque to the compiler: nothing that follows from it is kept in registers for
 * the next use. */
GPU_INLINE int prefill_recompute_thread() {
    int thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return thread % 128;
}

/* What is in memory is read again. */
GPU_INLINE void prefill_forget() { asm volatile("" ::: "memory"); }

/* Key tiles are counted on over all tiles of the workgroup: stages and the phases of their barriers follow. */
template <class KIND> GPU_INLINE int prefill_key_stage(int count) { return (uint32_t)count % KIND::KEY_STAGES; }
template <class KIND> GPU_INLINE uint32_t prefill_key_parity(int count) {
    return (uint32_t)count / KIND::KEY_STAGES & 1;
}
GPU_INLINE int prefill_value_stage(int count) { return count & 1; }
GPU_INLINE uint32_t prefill_value_parity(int count) { return count >> 1 & 1; }
GPU_INLINE int prefill_flags(int count) { return count & 3; }

/* Where the results of a fp8 product's keys are: of 16 keys 2 c, 2 c + 1, 2 c + 8, 2 c + 9 are neighbours, as a lane
 * has their scores. */
GPU_INLINE int prefill_turned_place(int key) { return (key & ~15) | (key & 6) << 1 | (key & 8) >> 2 | (key & 1); }

#endif
