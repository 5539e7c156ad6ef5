/* The producer warpgroup: brings keys from the cache into the stages, any page size, any address. A few lanes share a
 * key and each has the same part of all its panels, so that one address serves them all. A masked key is zeros, and
 * nothing of it is read. 16-bit keys are copied asynchronously, straight to shared memory (copy); fp8
 * goes through registers (widen). */
#ifndef AC_OPS_ATTENTION_SM90_PRODUCER_H
#define AC_OPS_ATTENTION_SM90_PRODUCER_H

#include "../../../gpu/sm90/convert.h"
#include "tile.h"

/* Every part of every row is at a multiple of 16 bytes. */
GPU_INLINE bool sm90_is_aligned(const ac_kv_cache_t &kv) {
    int64_t all = (int64_t)kv.base | kv.page_stride | kv.latent_offset | kv.latent_stride;
    return ((all | kv.rope_offset | kv.rope_stride) & 15) == 0;
}

/* A thread's keys of a tile, and which of its warp's keys exist. The other parts of a key are at known distances from
 * its latent part. */
template <int KEYS> struct sm90_key_rows_t {
    const char *latent[KEYS]; /* NULL: masked */
    uint32_t exist;
};

template <class KIND> struct sm90_producer {
    static constexpr bool WIDENS = KIND::SOURCE != SM90_SAME;
    static constexpr int LANES = WIDENS ? 4 : 8;              /* that share a key */
    static constexpr int STEP = 32 / LANES;                   /* keys of the warp in one go */
    static constexpr int THREAD_KEYS = 16 / STEP;             /* keys of the thread, STEP apart */
    static constexpr bool FAST = !WIDENS || KIND::TERMS == 1; /* else there are no registers for loads ahead */
    static constexpr int BATCHES = 2 * THREAD_KEYS;           /* of a tile: see widen() */
    typedef sm90_key_rows_t<THREAD_KEYS> key_rows_t;

    const ac_attention_params_t &p;
    sm90_side_t &side;
    int warp, lane;
    bool aligned, fnuz;

    GPU_MEMBER const ac_kv_cache_t &kv() const { return p.kv[0].cache; }

    GPU_MEMBER int part() const { return lane % LANES; } /* of each key, that is the thread's */
    GPU_MEMBER int key(int i) const { return warp * 16 + lane / LANES + STEP * i; }

    GPU_MEMBER void locate_keys(const mla_cursor_t &cursor, mla_location_t (&locations)[THREAD_KEYS]) const;
    GPU_MEMBER key_rows_t resolve_rows(const mla_location_t (&locations)[THREAD_KEYS]) const;
    GPU_MEMBER key_rows_t next_rows(mla_cursor_t *cursor, mla_location_t (&locations)[THREAD_KEYS]) const;
    GPU_MEMBER const char *rope(const char *latent) const;

    GPU_MEMBER uint32_t matrix(int stage) const { return sm90_shared_address(sm90_shared().key[stage]); }
    GPU_MEMBER uint32_t full(int stage, int unit) const { return sm90_shared_address(&side.full[stage][unit]); }
    GPU_MEMBER void wait_empty(int stage, int unit, uint32_t parity) const {
        sm90_barrier_wait(sm90_shared_address(&side.empty[stage][unit]), parity);
    }
    GPU_MEMBER void start_tile(int stage, uint32_t parity, const key_rows_t &rows) const;
    GPU_MEMBER void stored(int stage, int unit) const;

    GPU_MEMBER void copy(int stage, uint32_t parity, const key_rows_t &rows) const;

    GPU_MEMBER void gather_row(uint32_t to, int key, const char *row, int first_chunk, int chunks) const;
    template <bool FNUZ>
    GPU_MEMBER void gather_fp8_row(uint32_t to, int key, const char *row, int first_chunk, int chunks) const;
    GPU_MEMBER void gather(int stage, uint32_t parity, const key_rows_t &rows) const;

    /* fp8: a thread's 16 elements, two chunks, of the panels of one unit of one key. */
    struct batch_t {
        uint4 panel[5];
    };

    GPU_MEMBER int panels(int unit) const { return unit && kv().rope_dim ? 5 : 4; }
    GPU_MEMBER void load(const key_rows_t &rows, int index, batch_t *batch) const;
    template <bool FNUZ> GPU_MEMBER void store(int stage, int index, const batch_t &batch) const;
    GPU_MEMBER key_rows_t widen(int stage, uint32_t parity, const key_rows_t &rows, mla_cursor_t *cursor,
                                mla_location_t (&locations)[THREAD_KEYS], batch_t *first) const;

    template <bool GATHERS> GPU_MEMBER void walk(const sm90_item_t &item) const;
    GPU_MEMBER void run(const sm90_item_t &item) const;
};

/* --- where the keys of a tile are, and which of them exist --- */

template <class KIND>
GPU_MEMBER void sm90_producer<KIND>::locate_keys(const mla_cursor_t &cursor,
                                                 mla_location_t (&locations)[THREAD_KEYS]) const {
    GPU_UNROLL for (int i = 0; i < THREAD_KEYS; i++) locations[i] = mla_locate(kv(), cursor, key(i));
}

template <class KIND>
GPU_MEMBER sm90_key_rows_t<sm90_producer<KIND>::THREAD_KEYS> sm90_producer<KIND>::resolve_rows(
    const mla_location_t (&locations)[THREAD_KEYS]) const {
    key_rows_t rows;
    bool all = true, exists = false;
    GPU_UNROLL for (int i = 0; i < THREAD_KEYS; i++) {
        bool exists_here = mla_in_pool(kv(), locations[i]);
        rows.latent[i] = nullptr;
        if (exists_here) rows.latent[i] = mla_key_address(kv(), locations[i], kv().latent_offset, kv().latent_stride);
        all = all && exists_here;
    }
    rows.exist = 0xffff;
    if (__all_sync(0xffffffffu, all)) return rows;
    GPU_UNROLL for (int i = 0; i < THREAD_KEYS; i++) { /* lane l speaks for key l */
        int inside = __shfl_sync(0xffffffffu, (int)(rows.latent[i] != nullptr), lane % STEP * LANES);
        if (lane / STEP == i) exists = inside;
    }
    rows.exist = __ballot_sync(0xffffffffu, exists);
    return rows;
}

/* The rows of the tile whose locations have been looked up; starts the look-up for the next tile. */
template <class KIND>
GPU_MEMBER sm90_key_rows_t<sm90_producer<KIND>::THREAD_KEYS> sm90_producer<KIND>::next_rows(
    mla_cursor_t *cursor, mla_location_t (&locations)[THREAD_KEYS]) const {
    key_rows_t rows = resolve_rows(locations);
    mla_advance(kv(), SM90_KEYS, cursor);
    locate_keys(*cursor, locations);
    return rows;
}

/* Only for keys that exist. It follows the latent part. */
template <class KIND>
GPU_MEMBER const char *sm90_producer<KIND>::rope(const char *latent) const {
    return latent + AC_MLA_DV * KIND::ELEMENT_BYTES;
}

/* --- 16-bit keys: asynchronous copies, straight to shared memory --- */

template <class KIND>
GPU_MEMBER void sm90_producer<KIND>::copy(int stage, uint32_t parity, const key_rows_t &rows) const {
    uint32_t to = matrix(stage);
    start_tile(stage, parity, rows);
    GPU_UNROLL for (int unit = 0; unit < 2; unit++) {
        if (unit) wait_empty(stage, unit, parity);
        GPU_UNROLL for (int i = 0; i < THREAD_KEYS; i++) {
            const char *row = rows.latent[i];
            const char *from = (row ? row + unit * 512 : kv().base) + part() * 16;
            uint32_t at = sm90_chunk(to + unit * 4 * SM90_PANEL_BYTES, key(i), part());
            GPU_UNROLL for (int panel = 0; panel < 4; panel++)
                sm90_copy16(at + panel * SM90_PANEL_BYTES, row ? from + panel * 128 : kv().base, row ? 16 : 0);
            if (unit && kv().rope_dim)
                sm90_copy16(at + 4 * SM90_PANEL_BYTES, row ? from + 4 * 128 : kv().base, row ? 16 : 0);
        }
        sm90_copies_arrive(full(stage, unit));
    }
    __syncwarp();
    if (lane == 0) sm90_barrier_arrive(full(stage, 0)); /* for `exists`: the copies' arrivals do not cover it */
}

/* --- fp8 keys: through registers, where they are widened ---
 *
 * In batches: the thread's part of unit 0 of each of its keys, then of unit 1. Two batches are in flight: when one has
 * been widened, its registers are free for the one after the next. */

/* Batch `index` of the tile that has these rows. */
template <class KIND>
GPU_MEMBER void sm90_producer<KIND>::load(const key_rows_t &rows, int index, batch_t *batch) const {
    int unit = index / THREAD_KEYS;
    const char *latent = rows.latent[index % THREAD_KEYS], *from = latent + part() * 16 + unit * 256;
    GPU_UNROLL for (int i = 0; i < 4; i++) batch->panel[i] = sm90_load16_if(latent, from + i * 64);
    if (panels(unit) == 5) batch->panel[4] = sm90_load16_if(latent, from + 4 * 64);
}

template <class KIND>
template <bool FNUZ>
GPU_MEMBER void sm90_producer<KIND>::store(int stage, int index, const batch_t &batch) const {
    int unit = index / THREAD_KEYS, to_key = key(index % THREAD_KEYS);
    uint32_t to = matrix(stage) + unit * 4 * SM90_PANEL_BYTES;
    GPU_UNROLL for (int i = 0; i < 4; i++)
        sm90_store_widened<KIND::TYPE, FNUZ>(to + i * SM90_PANEL_BYTES, to_key, part() * 2, batch.panel[i]);
    if (panels(unit) == 5)
        sm90_store_widened<KIND::TYPE, FNUZ>(to + 4 * SM90_PANEL_BYTES, to_key, part() * 2, batch.panel[4]);
}

/* `first` holds the first batch of the tile already, and gets that of the next. Returns the rows of the next tile. They
 * are looked up only when their first load is due: the look-up may share its counter of outstanding loads with the
 * batches, and waiting for it would then mean waiting for them. For the same reason the second batch is not loaded
 * before its tile. */
template <class KIND>
GPU_MEMBER sm90_key_rows_t<sm90_producer<KIND>::THREAD_KEYS> sm90_producer<KIND>::widen(
    int stage, uint32_t parity, const key_rows_t &rows, mla_cursor_t *cursor, mla_location_t (&locations)[THREAD_KEYS],
    batch_t *first) const {
    key_rows_t next;
    batch_t second;
    start_tile(stage, parity, rows);
    load(rows, 1, &second);
    GPU_UNROLL for (int i = 0; i < BATCHES; i++) {
        batch_t *batch = i & 1 ? &second : first;
        if (i == THREAD_KEYS) wait_empty(stage, 1, parity);
        if (fnuz) store<true>(stage, i, *batch);
        else store<false>(stage, i, *batch);
        if (i % THREAD_KEYS == THREAD_KEYS - 1) stored(stage, i / THREAD_KEYS);
        if (i + 2 == BATCHES) next = next_rows(cursor, locations);
        if (i + 2 < BATCHES) load(rows, i + 2, batch);
        else if (i + 2 == BATCHES) load(next, 0, batch);
    }
    return next;
}

/* --- keys at any address, and fp8 keys of kernels that have no registers left for loads ahead: one by one, slowly ---
 */

/* Runs of 16-bit elements from any address. */
template <class KIND>
GPU_MEMBER void sm90_producer<KIND>::gather_row(uint32_t to, int key, const char *row, int first_chunk,
                                                 int chunks) const {
    GPU_NO_UNROLL for (int c = part(); c < chunks; c += LANES)
        sm90_store16(sm90_chunk(to, key, first_chunk + c),
                     sm90_fetch16<2>(row ? row + c * 16 : nullptr, aligned));
}

template <class KIND>
template <bool FNUZ>
GPU_MEMBER void sm90_producer<KIND>::gather_fp8_row(uint32_t to, int key, const char *row, int first_chunk,
                                                     int chunks) const {
    GPU_NO_UNROLL for (int c = part() * 2; c < chunks; c += 2 * LANES)
        sm90_store_widened<KIND::TYPE, FNUZ>(to, key, first_chunk + c,
                                             sm90_fetch16<1>(row ? row + c * 8 : nullptr, aligned));
}

template <class KIND>
GPU_MEMBER void sm90_producer<KIND>::gather(int stage, uint32_t parity, const key_rows_t &rows) const {
    uint32_t to = matrix(stage);
    start_tile(stage, parity, rows);
    wait_empty(stage, 1, parity);
    GPU_NO_UNROLL for (int i = 0; i < THREAD_KEYS; i++) {
        const char *latent = rows.latent[0];
        GPU_UNROLL for (int k = 1; k < THREAD_KEYS; k++)
            if (i == k) latent = rows.latent[k];
        GPU_NO_UNROLL for (int is_rope = 0; is_rope <= (kv().rope_dim > 0); is_rope++) {
            const char *from = latent && is_rope ? rope(latent) : latent;
            int first = is_rope ? SM90_ROPE_PANEL * 8 : 0, chunks = is_rope ? 8 : 64;
            if (!WIDENS) gather_row(to, key(i), from, first, chunks);
            else if (fnuz) gather_fp8_row<true>(to, key(i), from, first, chunks);
            else gather_fp8_row<false>(to, key(i), from, first, chunks);
        }
    }
    stored(stage, 0);
    stored(stage, 1);
}

/* --- the main loop --- */

/* Waits until unit 0 of the stage is free; tells the consumers which of the warp's keys exist. */
template <class KIND>
GPU_MEMBER void sm90_producer<KIND>::start_tile(int stage, uint32_t parity, const key_rows_t &rows) const {
    wait_empty(stage, 0, parity);
    if (lane == 0) side.exists[stage][warp] = (uint16_t)rows.exist;
}

/* The warp has written its keys' part of the unit by ordinary stores. Consumers do the fence that lets matrix products
 * see them: here it would wait for the loads of the next keys. */
template <class KIND> GPU_MEMBER void sm90_producer<KIND>::stored(int stage, int unit) const {
    sm90_barrier_arrive(full(stage, unit));
    if (WIDENS || unit) return;
    __syncwarp();
    if (lane == 0) sm90_barrier_arrive(full(stage, 0)); /* as copy() does */
}

/* Pages are looked up two tiles ahead, rows one ahead. Past the range there are none. */
template <class KIND>
template <bool GATHERS>
GPU_MEMBER void sm90_producer<KIND>::walk(const sm90_item_t &item) const {
    mla_cursor_t cursor = mla_cursor_at(p, item.work, item.range, item.range.begin);
    mla_location_t locations[THREAD_KEYS];
    batch_t first;
    locate_keys(cursor, locations);
    key_rows_t rows = next_rows(&cursor, locations);
    if constexpr (WIDENS && !GATHERS) load(rows, 0, &first);
    /* The rows of the item before this one are on their way out through the stages. */
    if (item.number > 0 && item.tiles > 0)
        sm90_barrier_wait(sm90_shared_address(&side.stored), (item.number & 1) ^ 1);
    GPU_NO_UNROLL for (int tile = item.first_tile; tile < item.first_tile + item.tiles; tile++) {
        int stage = tile & 1;
        uint32_t parity = (tile >> 1 & 1) ^ 1;
        if constexpr (WIDENS && !GATHERS) {
            rows = widen(stage, parity, rows, &cursor, locations, &first);
        } else {
            if constexpr (GATHERS) gather(stage, parity, rows);
            else copy(stage, parity, rows);
            rows = next_rows(&cursor, locations);
        }
    }
}

/* Two loops, so that the registers of the fast one are not allocated in the other. */
template <class KIND> GPU_MEMBER void sm90_producer<KIND>::run(const sm90_item_t &item) const {
    if constexpr (FAST) {
        if (aligned) return walk<false>(item);
    }
    walk<true>(item);
}

template <class KIND>
GPU_INLINE void sm90_produce(const ac_attention_params_t &p, const sm90_item_t &item, int warp, int lane) {
    sm90_producer<KIND> producer = {p, sm90_shared().side, warp, lane, sm90_is_aligned(p.kv[0].cache),
                                    p.kv[0].cache.latent_dtype == AC_FLOAT8_E4M3FNUZ};
    producer.run(item);
}

#endif
