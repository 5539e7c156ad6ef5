/* Shared memory of the sm_90a decode kernels. Matrices are stored in swizzled panels: see gpu/sm90/wgmma.h.
 *
 *   query   9 panels: 64 rows of the tile x 576
 *   key     2 stages of 9 panels: 64 keys x 576. The first 8 panels are the values too. Panel 8, the rope part, serves
 *           the scores only; when they are done, the probabilities of the tile replace it.
 *   side    barriers and what the warpgroups tell each other */
#ifndef AC_OPS_ATTENTION_SM90_TILE_H
#define AC_OPS_ATTENTION_SM90_TILE_H

#include "../../../core/dtype.h"
#include "../../../gpu/sm90/wgmma.h"
#include "../softmax.h"
#include "../walk.h"
#include "../work_items.h"

constexpr int SM90_ROWS = 64, SM90_KEYS = 64;
constexpr int SM90_STAGES = 2; /* stage = owner: tile i is in stage i % 2 and consumer i % 2 computes its scores */
constexpr int SM90_LATENT_PANELS = 8, SM90_ROPE_PANEL = 8;
constexpr int SM90_MATRIX_BYTES = 9 * SM90_PANEL_BYTES;
constexpr int SM90_THREADS = 3 * 128; /* a producer and two consumers, a warpgroup each */

/* Hardware barriers; 0 is that of the whole workgroup. */
enum { SM90_SYNC_CONSUMERS = 1, SM90_SYNC_CONSUMER = 2 /* + consumer */ };

/* What all warps know of the work item. Tiles are counted on from item to item (modulo 4, of which their stages and the
 * phases of the barriers follow). */
typedef struct sm90_item_t {
    ac_work_t work;
    mla_range_t range;
    int first_tile, tiles;
    ac_work_done_t done;
    int number; /* of the items before it that had tiles: only with them producer and consumers meet */
} sm90_item_t;

/* Where a row of the output goes. */
typedef struct sm90_place_t {
    char *row; /* NULL: nothing is to be written */
    float *lse;
} sm90_place_t;

/* The same after the last tile. */
typedef struct sm90_out_t {
    char *row;
    float scale; /* of the accumulators */
    bool empty;  /* zeros, whatever the accumulators are */
} sm90_out_t;

/* A stage is filled and freed in two units, since consumer c frees the values of columns [256 c, 256 c + 256):
 * unit c holds them. The rope panel, later the probabilities, is filled with unit 1, when both units are free. */
typedef struct sm90_side_t {
    uint64_t full[SM90_STAGES][2], empty[SM90_STAGES][2];
    uint64_t scored[SM90_STAGES];         /* probabilities, base and factor of the stage's tile are there */
    uint64_t found;                       /* the places of the item's rows are there */
    uint64_t stored;                      /* the rows of an item are stored, and the stages free for the next */
    uint16_t exists[SM90_STAGES][4];      /* 64 bits: the keys that the tile holds */
    float base[SM90_STAGES][SM90_ROWS];   /* softmax base after this tile */
    float factor[SM90_STAGES][SM90_ROWS]; /* rescales what was summed before this tile */
    int masked_tail[SM90_ROWS];           /* see mla_row_t */
    mla_softmax_t share[2][SM90_ROWS];    /* of each consumer, after the last tile */
    float row_scale[16];                  /* what the scores of queries in terms are multiplied by */
    sm90_place_t place[SM90_ROWS];        /* of an item that has tiles */
    sm90_out_t out[2][SM90_ROWS];         /* of each consumer */
} sm90_side_t;

typedef struct sm90_shared_t {
    char query[SM90_MATRIX_BYTES];
    char key[SM90_STAGES][SM90_MATRIX_BYTES];
    sm90_side_t side;
} sm90_shared_t;

static_assert(sizeof(sm90_shared_t) <= 227 * 1024, "a workgroup has 227 KB");

GPU_INLINE sm90_shared_t &sm90_shared() { return *(sm90_shared_t *)gpu_shared; }

/* The kinds of cache, by how a row gets into the tile: as it is, or widened from fp8. */
enum { SM90_SAME, SM90_FP8 };

/* A kernel: the matrix type of the tile, the cache, and how many terms of the matrix type make a query element.
 * With one, the 64 rows of the tile are rows of the work item. With three, for queries that the type does not hold, it
 * serves 16 rows: matrix row 16 t + r is term t of row r. */
template <int TYPE_, int SOURCE_, int TERMS_ = 1> struct sm90_kind {
    static constexpr int TYPE = TYPE_, SOURCE = SOURCE_, TERMS = TERMS_;
    static constexpr int ROWS = TERMS == 1 ? SM90_ROWS : 16;
    static constexpr int ELEMENT_BYTES = SOURCE == SM90_SAME ? 2 : 1; /* of a latent in the cache */
    static constexpr mla_headroom_t HEADROOM = TYPE == SM90_BF16 ? MLA_BF16_HEADROOM : MLA_F16_HEADROOM;
};

#endif
