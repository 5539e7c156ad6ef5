/* Index conversion, the same source for AMD and NVIDIA. A workgroup converts AC_INDEX_TILE columns of one row, or
 * compacts a row. Its row is its own number, never one that a tensor names: what a stale indptr says moves no read and
 * no write out of what the row may read and write. */
#include "../../gpu/gpu.h"
#include "../../gpu/lanes.h"
#include "kernel_params.h"

#define AC_FAMILY_ROWS "index_conversion/kernels.inc"
#include "../local_bytes.inc"

constexpr int THREADS = AC_INDEX_THREADS;
constexpr int AT_ONCE = AC_INDEX_TILE / THREADS; /* columns of a thread whose loads are in flight together */
constexpr int WAVES = THREADS / GPU_WAVE;

/* What the waves count of the columns at hand; of the next ones in another place, so that one barrier is enough. */
struct shared_t {
    int32_t counts[2][AT_ONCE][8];
};
static_assert(WAVES <= 8, "");
CHECK_LOCAL_BYTES("index_conversion", (int)sizeof(shared_t));

struct converter_t {
    const ac_index_params_t &p;
    const int32_t *entries;
    ac_index_target_t target;

    /* Entry c, or -1 where the columns have ended. */
    GPU_MEMBER int32_t entry(int64_t c, int64_t end) const { return c < end ? gpu_entry(entries + c) : -1; }

    GPU_MEMBER void convert(int64_t row, int64_t first) const {
        const ac_index_pages_t pages = ac_index_pages(&p, row);
        int32_t slots[AT_ONCE], page[AT_ONCE];
        uint32_t page_rows[AT_ONCE];
        GPU_UNROLL for (int i = 0; i < AT_ONCE; i++) slots[i] = entry(first + i * THREADS + gpu_thread(), target.count);
        GPU_UNROLL for (int i = 0; i < AT_ONCE; i++) {
            page[i] = -1;
            page_rows[i] = 0;
            const int32_t position = ac_index_position(&pages, slots[i]);
            if (position < 0 || position >= pages.positions) continue;
            page[i] = gpu_entry(pages.pages + ac_index_page_of(&p, position, &page_rows[i]));
        }
        GPU_UNROLL for (int i = 0; i < AT_ONCE; i++) {
            const int64_t c = first + i * THREADS + gpu_thread();
            if (c < target.count) gpu_store(target.slots + c, ac_index_slot(&p, page[i], page_rows[i]));
        }
    }

    /* Entries of the columns before this thread's number i, that are kept, and of all together. */
    GPU_MEMBER int32_t count_before(const int32_t (&counts)[AT_ONCE][8], int number, int32_t &all) const {
        int32_t before = 0;
        all = 0;
        GPU_UNROLL for (int i = 0; i < AT_ONCE; i++) {
            GPU_UNROLL for (int w = 0; w < WAVES; w++) {
                if (i == number && w == gpu_thread() / GPU_WAVE) before = all;
                all += counts[i][w];
            }
        }
        return before;
    }

    GPU_MEMBER void compact() const {
        shared_t &shared = *(shared_t *)gpu_shared;
        int64_t written = 0;
        GPU_NO_UNROLL for (int64_t first = 0; first < p.columns; first += AC_INDEX_TILE) {
            int32_t(&counts)[AT_ONCE][8] = shared.counts[first / AC_INDEX_TILE % 2];
            int32_t slots[AT_ONCE], all = 0;
            gpu_votes_t kept[AT_ONCE];
            GPU_UNROLL for (int i = 0; i < AT_ONCE; i++)
                slots[i] = entry(first + i * THREADS + gpu_thread(), p.columns);
            GPU_UNROLL for (int i = 0; i < AT_ONCE; i++) {
                kept[i] = gpu_ballot(slots[i] != -1);
                if (gpu_lane() == 0) counts[i][gpu_thread() / GPU_WAVE] = gpu_vote_count(kept[i]);
            }
            gpu_barrier();
            GPU_UNROLL for (int i = 0; i < AT_ONCE; i++) {
                const int64_t at = written + count_before(counts, i, all) + gpu_votes_before(kept[i]);
                if (slots[i] != -1 && at < target.count) gpu_store(target.slots + at, slots[i] < 0 ? -1 : slots[i]);
            }
            written += all;
        }
        GPU_NO_UNROLL for (int64_t at = written + gpu_thread(); at < target.count; at += THREADS)
            gpu_store(target.slots + at, -1);
    }
};

GPU_KERNEL_OF(AC_INDEX_THREADS, 4) index_conversion(GPU_PARAMS(ac_index_params_t) p) {
    const int64_t tiles = p.tiles > 0 ? p.tiles : 1, row = gpu_block() / tiles, tile = gpu_block() - row * tiles;
    const converter_t converter = {p, (const int32_t *)(p.entries + row * p.entries_stride), ac_index_target(&p, row)};
    if (p.tiles > 0) converter.convert(row, tile * AC_INDEX_TILE);
    else converter.compact();
}
