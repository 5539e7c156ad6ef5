/* Decode of at most 16 rows on sm_90a. Products of one warp, 16 rows x 8 keys or columns: a quarter of what the 64 rows
 * of a warpgroup's product would cost. Keys wait in a ring of stages as they stand in the cache, in fp8 too, and become
 * operands in registers; nothing is written back to shared memory but probabilities.
 *
 * A warpgroup loads keys, eight warps compute. Of a tile of 64 keys warp w scores 16 keys, w / 2, by half w % 2 of the
 * elements; a pair of warps exchanges what each lacks, then warp w has the scores of 8 keys. Of the output it has 64
 * columns. What the warps have to agree on, the base of the softmax, moves seldom: all vote once a tile.
 *
 * Keys in a stage are 576 elements and 16 bytes apart. Key g of a product (g = lane / 4) is few_key(g) of its 8: then
 * eight lanes that read 16 bytes each share no bank, nor do the 8 rows of a transposing load. */
#ifndef AC_OPS_ATTENTION_SM90_FEW_TILE_H
#define AC_OPS_ATTENTION_SM90_FEW_TILE_H

#include "../../../core/dtype.h"
#include "../../../gpu/sm90/convert.h"
#include "../../../gpu/sm90/mma.h"
#include "../../../gpu/sm90/wgmma_turned.h"
#include "../softmax.h"
#include "../store.h"
#include "items.h"

constexpr int FEW_ROWS = 16, FEW_KEYS = 64, FEW_WARPS = 8; /* that compute */
constexpr int FEW_THREADS = 128 + 32 * FEW_WARPS;

/* Hardware barriers; 0 is that of the whole workgroup. */
enum {
    FEW_SYNC_ALL = 1,   /* that compute */
    FEW_SYNC_PAIR = 2,  /* + warp / 2 */
    FEW_SYNC_READY = 6, /* the loader: the barriers in memory are initialised */
    FEW_SYNC_PLACES     /* an only item's places are found */
};

/* A kernel: the matrix type, and the bytes of a key's element: 1 (e4m3fn, widened to fp16 exactly) or 2. */
template <int TYPE_, int BYTES_> struct few_kind {
    static constexpr int TYPE = TYPE_, BYTES = BYTES_;
    static constexpr int PITCH = (AC_MLA_DV + AC_MLA_ROPE) * BYTES + 16, STAGES = BYTES == 1 ? 5 : 3;
    static constexpr bool AHEAD = BYTES == 1; /* scores of the next tile beside the output of this one */
    static constexpr int SLOTS = AHEAD ? 3 : 1;
    static constexpr mla_headroom_t ROOM = TYPE == SM90_BF16 ? MLA_BF16_HEADROOM : MLA_F16_HEADROOM;
};

/* Probabilities of a tile, as operand A of the output's products: 16 keys a step. */
struct few_slot_t {
    uint2 step[FEW_KEYS / 16][32][2]; /* [lane][keys 0 to 7, 8 to 15] */
};

/* Where a row of an item goes. */
struct few_place_t {
    char *row;  /* NULL: there is no such row */
    float *lse; /* NULL: not asked for */
    int dtype;
};

template <class KIND> struct few_shared_t {
    char stage[KIND::STAGES][FEW_KEYS * KIND::PITCH];
    few_slot_t slot[KIND::SLOTS];
    float4 exchange[FEW_WARPS][32];
    uint64_t full[KIND::STAGES], empty[KIND::STAGES];
    uint64_t scored;                /* all warps' probabilities of a tile */
    int moves[2];                   /* of even and odd tiles, written before that: some row's base has to move */
    uint64_t exists[KIND::STAGES];  /* the keys that the tile holds */
    float top[FEW_WARPS][FEW_ROWS]; /* of the warps: the largest score */
    float sum[FEW_WARPS][FEW_ROWS];
    few_place_t place[2][FEW_ROWS]; /* of even and odd items */
};
static_assert(sizeof(few_shared_t<few_kind<SM90_F16, 1>>) <= 227 * 1024, "a workgroup has 227 KB");
static_assert(sizeof(few_shared_t<few_kind<SM90_F16, 2>>) <= 227 * 1024, "a workgroup has 227 KB");

template <class KIND> GPU_INLINE few_shared_t<KIND> &few_shared() { return *(few_shared_t<KIND> *)gpu_shared; }

GPU_INLINE int few_key(int g) { return g >> 1 | (g & 1) << 2; }

/* What all warps know of the work item. */
struct few_item_t {
    ac_work_t work;
    mla_range_t range;
    int tiles;
    ac_work_done_t done;
};

/* The workgroup's next item; false where there is none. */
template <bool FIRST, class items_t> GPU_INLINE bool few_next_item(const items_t &items, few_item_t *item) {
    if (!items.template next<FIRST>(&item->done, &item->work, &item->range)) return false;
    uint64_t keys = (uint64_t)(item->range.end - item->range.begin) + FEW_KEYS - 1;
    item->tiles = (int)ac_min64((int64_t)(keys / FEW_KEYS), MLA_FAR);
    return true;
}

/* Finds out where row `r` of an item goes. */
template <class items_t> GPU_INLINE few_place_t few_find_place(const items_t &items, const few_item_t &item, int r) {
    if (r >= item.work.num_rows) return {};
    mla_row_t row = items.row(item.work, item.range, r);
    mla_output_t out = mla_row_output(items.p, item.work, row, {0, 1}, 1);
    return {out.row, out.lse, out.dtype};
}

/* A place in the ring of stages; counted on from item to item. */
template <class KIND> struct few_ring_t {
    int stage;
    uint32_t parity;

    GPU_MEMBER char *keys() const { return few_shared<KIND>().stage[stage]; }
    GPU_MEMBER uint32_t full() const { return sm90_shared_address(&few_shared<KIND>().full[stage]); }
    GPU_MEMBER uint32_t empty() const { return sm90_shared_address(&few_shared<KIND>().empty[stage]); }
    GPU_MEMBER void next() {
        if (++stage == KIND::STAGES) stage = 0, parity ^= 1;
    }
};

#endif
