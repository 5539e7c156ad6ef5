/* Decode over 656-byte records on sm_90a, with keys and columns as the 64 rows of a product: S^T = K Q^T, O^T = V^T
 * P^T. So keys and values are operands from registers: raw records wait in shared memory, as they are, and are widened
 * to fp16, exactly, on their way into a product. Queries and probabilities, N rows of each, are operands from shared
 * memory.
 *
 * Four warpgroups: one loads records, one computes scores and probabilities, two multiply those by half of the columns
 * each. What they tell each other is in records_side_t. An item's tiles pass through a ring of stages (raw records) and
 * of slots (probabilities); both are counted on from item to item.
 *
 *   query  8 panels of fp16, scaled by a power of two per row; 2 panels of bf16: the rope part, and what is left of it
 *          where queries are fp16. A panel: N rows of 128 bytes, 128-byte swizzle. Inside a panel of fp16 the elements
 *          stand in the order in which a lane has those of a key: see records_widen().
 *   slot   a panel of fp16, N rows x 64 keys
 *   stage  64 records of 656 bytes, whatever the format of the cache: 512 e4m3fn, 4 fp32 scales, 64 bf16
 *
 * Places: row p of a product is key records_key(p) of the tile. Neighbouring rows are then 4 records apart, so that
 * lanes which read 64 bytes of two keys do not share banks. */
#ifndef AC_OPS_ATTENTION_SM90_RECORDS_TILE_H
#define AC_OPS_ATTENTION_SM90_RECORDS_TILE_H

#include "../../../core/dtype.h"
#include "../../../gpu/sm90/convert.h"
#include "../../../gpu/sm90/wgmma_turned.h"
#include "../softmax.h"
#include "../store.h"
#include "items.h"

constexpr int RECORD_BYTES = 656, RECORD_SCALES = 512, RECORD_ROPE = 528, RECORD_KEYS = 64;
constexpr int RECORDS_THREADS = 4 * 128, RECORDS_WARPS = 12; /* that compute */
constexpr int RECORDS_ROPE_PANEL = 8, RECORDS_REST_PANEL = 9, RECORDS_PANELS = 10;

/* Hardware barriers; 0 is that of the whole workgroup. */
enum {
    RECORDS_SYNC_SCORES = 1,
    RECORDS_SYNC_OUTPUT = 2, /* + half */
    RECORDS_SYNC_READY = 4,  /* the loader: the barriers in memory are initialised */
    RECORDS_SYNC_FIRST,      /* all that compute: so are the queries of the first item */
    RECORDS_SYNC_PLACES,     /* and where its rows go is found */
};

/* What a slot says of its tile. */
enum {
    RECORDS_FIRST = 1 << 0,   /* of the item */
    RECORDS_LAST = 1 << 1,    /* of the item */
    RECORDS_RESCALE = 1 << 2, /* `factor` */
    RECORDS_ODD = 1 << 3,     /* `odd` is not empty */
    RECORDS_TAIL = 1 << 4,    /* some of its keys are not seen by every row */
    RECORDS_END = 1 << 5,     /* no tile: there is none any more */
};

/* Scales of a block of 128 columns become fp16 in units of a power of two: that of the largest of the item's first
 * tile. Keys with a scale outside of these bounds, or none, are added one by one in fp32 ("odd" keys). */
constexpr float RECORDS_MOST = 64, RECORDS_LEAST = 1.0f / 16384;

struct records_row_t {
    float scale; /* of the scores */
    float base;  /* of the softmax */
};

/* Where a row goes; NULL: nowhere. */
struct records_place_t {
    char *row;
    float *lse;
};

/* The same, and what goes there: see mla_output_t. */
struct records_out_t {
    char *row;
    float scale;
    int16_t dtype, empty;
};

/* The thread's number in its warpgroup, opaque to the compiler: nothing that follows from it is kept for long. */
GPU_INLINE int records_thread() {
    int thread = gpu_thread() % 128;
    asm volatile("" : "+r"(thread));
    return thread;
}

/* What scores and loader know of the work item. */
struct records_item_t {
    ac_work_t work;
    mla_range_t range;
    int tiles;
    ac_work_done_t done;
};

template <int N> struct records_side_t {
    uint64_t full[4], empty[4];        /* of stages */
    uint64_t scored[2], multiplied[2]; /* of slots */
    uint64_t summed, stored;           /* out[] holds an item's rows; they are stored */
    uint64_t exists[4];                /* of stages: the keys that the tile holds */
    uint64_t odd[2];                   /* of slots */
    int flags[2], left[2];             /* of slots: `left` keys to the end of the range */
    float unit[2][4];                  /* of slots: of the scales, its reciprocal */
    float inverse[4], out_unit[4];     /* the same of the item, and of the item in out[] */
    records_row_t row[N];
    int masked_tail[2][N];             /* see mla_row_t; of an item and the next */
    float factor[2][N];                /* of slots: rescales what was summed before */
    uint16_t scale[2][4][RECORD_KEYS]; /* of slots: see records_scale_at() */
    float warp_top[4][N];              /* of the warps: the largest score, later the sum */
    float warp_scale[4][4];
    records_place_t place[N];
    records_out_t out[N];
    int out_dtype;       /* of all of them, if pairs of columns are at multiples of their size; else AC_DTYPE_NONE */
    records_item_t item; /* of the scores: it would take their registers */
};

template <int N> struct records_shared_t {
    static constexpr int STAGES = N == 64 ? 3 : 4, PANEL = N * 128;
    char query[RECORDS_PANELS * PANEL];
    char slot[2][PANEL];
    char stage[STAGES][RECORD_KEYS * RECORD_BYTES];
    records_side_t<N> side;
};

static_assert(sizeof(records_shared_t<64>) <= 227 * 1024, "a workgroup has 227 KB");

template <int N> GPU_INLINE records_shared_t<N> &records_shared() { return *(records_shared_t<N> *)gpu_shared; }

GPU_INLINE int records_key(int place) { return (place & ~7) | (place >> 1 & 3) | (place & 1) << 2; }
GPU_INLINE int records_place(int key) { return (key & ~7) | (key & 3) << 1 | (key >> 2 & 1); }

/* A lane of a product needs the scales of places 16 k + 2 t, + 1, + 8 and + 9: they stand together. */
GPU_INLINE int records_scale_at(int place) {
    return (place & ~15) | (place >> 1 & 3) << 2 | (place >> 3 & 1) << 1 | (place & 1);
}

/* The address of chunk `chunk` (16 bytes) of row `row` of a panel. */
GPU_INLINE uint32_t records_chunk(uint32_t panel, int row, int chunk) {
    return panel + row * 128 + ((chunk ^ (row & 7)) << 4);
}

/* The workgroup's next item; false where there is none. */
template <bool FIRST, class items_t> GPU_INLINE bool records_next_item(const items_t &items, records_item_t *item) {
    if (!items.template next<FIRST>(&item->done, &item->work, &item->range)) return false;
    uint64_t keys = (uint64_t)(item->range.end - item->range.begin) + RECORD_KEYS - 1;
    item->tiles = (int)ac_min64((int64_t)(keys / RECORD_KEYS), MLA_FAR);
    return true;
}

/* Finds out where row `r` of an item goes. */
template <class items_t>
GPU_INLINE records_place_t records_find_place(const items_t &items, const records_item_t &item, int r) {
    if (r >= item.work.num_rows) return {};
    mla_row_t row = items.row(item.work, item.range, r);
    mla_output_t out = mla_row_output(items.p, item.work, row, {0, 1}, 1);
    return {out.row, out.lse};
}

#endif
