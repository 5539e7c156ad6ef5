/* The producer warpgroup: brings keys from the cache into the stages, any page size, any address. A few lanes share a
 * key and each has the same part of all its panels, so that one address serves them all. A masked key is zeros, and
 * nothing of it is read. 16-bit keys are copied asynchronously, straight to shared memory. fp8 goes through registers:
 * loads of the next keys run while these are widened, and lines of the next tile are asked for into the L2. */
#ifndef AC_KERNELS_MLA_SM90_PRODUCER_H
#define AC_KERNELS_MLA_SM90_PRODUCER_H

#include "mla_sm90_convert.h"
#include "mla_sm90_tile.h"

/* Every part of every row lies at a multiple of 16 bytes, its scales of 4. */
GPU_INLINE bool sm90_is_aligned(const ac_kv_cache_t &kv) {
    int64_t scales = kv.scale_groups ? (kv.scale_offset | kv.scale_stride) << 2 : 0; /* of 4 bytes each */
    return (((int64_t)kv.base | kv.page_stride | kv.latent_offset | kv.latent_stride | kv.rope_offset |
             kv.rope_stride | scales) & 15) == 0;
}

/* The latent parts, NULL where masked; the other parts of a key lie at known distances. */
template <int KEYS> struct sm90_rows_t {
    const char *latent[KEYS];
    int32_t row[KEYS]; /* in its page */
};

template <class KIND> struct sm90_producer {
    static constexpr bool WIDENS = KIND::SOURCE != SM90_SAME;
    static constexpr int LANES = WIDENS ? 4 : 8;   /* that share a key */
    static constexpr int STEP = 32 / LANES;        /* keys of the warp in one go */
    static constexpr int THREAD_KEYS = 16 / STEP;  /* keys of the thread, STEP apart */
    static constexpr bool FAST = !WIDENS || KIND::TERMS == 1; /* else there are no registers for loads ahead */
    typedef sm90_rows_t<THREAD_KEYS> rows_t;

    const ac_mla_decode_params_t &p;
    sm90_side_t &side;
    int warp, lane;
    bool aligned, fnuz;

    SM90_MEMBER int part() const { return lane % LANES; } /* of each key, that is the thread's */
    SM90_MEMBER int key(int i) const { return warp * 16 + lane / LANES + STEP * i; }

    SM90_MEMBER void find_places(const mla_cursor_t &cursor, mla_place_t (&places)[THREAD_KEYS]) const {
#pragma unroll
        for (int i = 0; i < THREAD_KEYS; i++) places[i] = mla_find_place(p.kv, cursor, key(i));
    }

    /* Only for keys that exist. */
    SM90_MEMBER const char *rope(const char *latent, int32_t row) const {
        return latent + (p.kv.rope_offset - p.kv.latent_offset) + row * (p.kv.rope_stride - p.kv.latent_stride);
    }
    SM90_MEMBER const char *scales(const char *latent, int32_t row) const {
        return latent + (p.kv.scale_offset - p.kv.latent_offset) + row * (p.kv.scale_stride - p.kv.latent_stride);
    }


    SM90_MEMBER rows_t find_rows(const mla_place_t (&places)[THREAD_KEYS]) const {
        rows_t rows;
#pragma unroll
        for (int i = 0; i < THREAD_KEYS; i++) {
            rows.latent[i] = nullptr;
            rows.row[i] = places[i].row;
            if (mla_is_inside(p.kv, places[i]))
                rows.latent[i] = mla_key_part(p.kv, places[i], p.kv.latent_offset, p.kv.latent_stride);
        }
        return rows;
    }

    SM90_MEMBER void prefetch(const rows_t &rows) const {
#pragma unroll
        for (int i = 0; i < THREAD_KEYS; i++) {
            if (!rows.latent[i]) continue;
            sm90_prefetch(rows.latent[i] + part() * 64);
            sm90_prefetch(rows.latent[i] + part() * 64 + 256);
        }
    }

    /* Tells the consumers which keys of the warp's 16 exist; lane l speaks for key l. */
    SM90_MEMBER void publish_exists(int stage, const rows_t &rows) const {
        bool all = true, exists = false;
#pragma unroll
        for (int i = 0; i < THREAD_KEYS; i++) all = all && rows.latent[i];
        uint32_t bits = 0xffff;
        if (!__all_sync(0xffffffffu, all)) {
#pragma unroll
            for (int i = 0; i < THREAD_KEYS; i++) {
                int inside = __shfl_sync(0xffffffffu, (int)(rows.latent[i] != nullptr), lane % STEP * LANES);
                if (lane / STEP == i) exists = inside;
            }
            bits = __ballot_sync(0xffffffffu, exists);
        }
        if (lane == 0) side.exists[stage][warp] = (uint16_t)bits;
    }

    SM90_MEMBER uint32_t matrix(int stage) const { return sm90_shared_address(sm90_shared().key[stage]); }
    SM90_MEMBER uint32_t full(int stage, int unit) const { return sm90_shared_address(&side.full[stage][unit]); }
    SM90_MEMBER void wait_empty(int stage, int unit, uint32_t parity) const {
        sm90_barrier_wait(sm90_shared_address(&side.empty[stage][unit]), parity);
    }

    /* 16-bit elements as they are. One address serves all panels. */
    SM90_MEMBER void copy(int stage, uint32_t parity, const rows_t &rows) const {
        uint32_t to = matrix(stage);
#pragma unroll
        for (int unit = 0; unit < 2; unit++) {
            wait_empty(stage, unit, parity);
            if (unit == 0) publish_exists(stage, rows);
#pragma unroll
            for (int i = 0; i < THREAD_KEYS; i++) {
                const char *row = rows.latent[i];
                const char *from = (row ? row + unit * 512 : p.kv.base) + part() * 16;
                uint32_t at = sm90_chunk(to + unit * 4 * SM90_PANEL_BYTES, key(i), part());
#pragma unroll
                for (int panel = 0; panel < 4; panel++)
                    sm90_copy16(at + panel * SM90_PANEL_BYTES, row ? from + panel * 128 : p.kv.base, row ? 16 : 0);
            }
            if (unit == 1 - stage && p.kv.rope_dim) {
#pragma unroll
                for (int i = 0; i < THREAD_KEYS; i++) {
                    bool exists = rows.latent[i] != nullptr;
                    const char *from = exists ? rope(rows.latent[i], rows.row[i]) + part() * 16 : p.kv.base;
                    sm90_copy16(sm90_chunk(to, key(i), SM90_ROPE_PANEL * 8 + part()), from, exists ? 16 : 0);
                }
            }
            sm90_copies_arrive(full(stage, unit));
        }
        __syncwarp();
        if (lane == 0) sm90_barrier_arrive(full(stage, 0)); /* `exists` */
    }

    /* Runs of 16-bit elements, from any address, slowly. In a record they may begin at an odd one. */
    SM90_MEMBER void gather_row(uint32_t to, int key, const char *row, int first_chunk, int chunks) const {
#pragma unroll 1
        for (int c = part(); c < chunks; c += LANES)
            sm90_store16(sm90_chunk(to, key, first_chunk + c),
                         sm90_fetch16<KIND::SOURCE == SM90_RECORDS ? 1 : 2>(row ? row + c * 16 : nullptr, aligned));
    }

    template <bool FNUZ>
    SM90_MEMBER void gather_fp8_row(uint32_t to, int key, const char *row, int first_chunk, int chunks) const {
#pragma unroll 1
        for (int c = part() * 2; c < chunks; c += 2 * LANES)
            sm90_store_widened<KIND::TYPE, FNUZ>(to, key, first_chunk + c,
                                                 sm90_fetch16<1>(row ? row + c * 8 : nullptr, aligned));
    }

    SM90_MEMBER void gather(int stage, const rows_t &rows) const {
        uint32_t to = matrix(stage);
#pragma unroll 1
        for (int i = 0; i < THREAD_KEYS; i++) {
            const char *latent = rows.latent[0];
            int32_t row = rows.row[0];
#pragma unroll
            for (int k = 1; k < THREAD_KEYS; k++)
                if (i == k) latent = rows.latent[k], row = rows.row[k];
#pragma unroll 1
            for (int is_rope = 0; is_rope <= (p.kv.rope_dim > 0); is_rope++) {
                const char *from = latent && is_rope ? rope(latent, row) : latent;
                int first = is_rope ? SM90_ROPE_PANEL * 8 : 0, chunks = is_rope ? 8 : 64;
                if (KIND::SOURCE == SM90_SAME || (KIND::SOURCE == SM90_RECORDS && is_rope))
                    gather_row(to, key(i), from, first, chunks);
                else if (KIND::SOURCE == SM90_FP8 && fnuz) gather_fp8_row<true>(to, key(i), from, first, chunks);
                else gather_fp8_row<false>(to, key(i), from, first, chunks);
            }
            if (KIND::SOURCE == SM90_RECORDS)
                side.scales[stage][key(i)][part()] = latent ? gpu_load<float>(scales(latent, row) + part() * 4) : 0;
        }
    }

    /* fp8: a lane has 16 elements, two chunks, of each panel of a key. A batch is the panels of one unit. */
    struct batch_t {
        uint4 panel[KIND::SOURCE == SM90_FP8 ? 5 : 4];
    };

    SM90_MEMBER bool has_rope(int stage, int unit) const {
        return KIND::SOURCE == SM90_FP8 && unit == 1 - stage && p.kv.rope_dim;
    }

    SM90_MEMBER void load(int stage, int unit, const rows_t &rows, int i, batch_t *batch) const {
        const char *row = rows.latent[i] + part() * 16 + unit * 256;
#pragma unroll
        for (int k = 0; k < 4; k++) batch->panel[k] = sm90_load16_if(rows.latent[i], row + k * 64);
        if constexpr (KIND::SOURCE == SM90_FP8)
            if (has_rope(stage, unit))
                batch->panel[4] = sm90_load16_if(rows.latent[i], rope(rows.latent[i], rows.row[i]) + part() * 16);
    }

    template <bool FNUZ> SM90_MEMBER void store(int stage, int unit, int key, const batch_t &batch) const {
        uint32_t to = matrix(stage);
#pragma unroll
        for (int i = 0; i < 4; i++)
            sm90_store_widened<KIND::TYPE, FNUZ>(to + (unit * 4 + i) * SM90_PANEL_BYTES, key, part() * 2,
                                                 batch.panel[i]);
        if constexpr (KIND::SOURCE == SM90_FP8)
            if (has_rope(stage, unit))
                sm90_store_widened<KIND::TYPE, FNUZ>(to + SM90_ROPE_PANEL * SM90_PANEL_BYTES, key, part() * 2,
                                                     batch.panel[4]);
    }

    SM90_MEMBER void widen(int stage, int unit, int key, const batch_t &batch) const {
        if (KIND::SOURCE == SM90_FP8 && fnuz) store<true>(stage, unit, key, batch);
        else store<false>(stage, unit, key, batch);
    }

    /* Records: copies the rope parts as they are, and lane c scale c of its keys. */
    SM90_MEMBER void copy_sides(int stage, const rows_t &rows) const {
        uint32_t panel = matrix(stage) + SM90_ROPE_PANEL * SM90_PANEL_BYTES;
#pragma unroll
        for (int i = 0; i < THREAD_KEYS; i++) {
            bool exists = rows.latent[i] != nullptr;
            const char *from = exists ? rope(rows.latent[i], rows.row[i]) + part() * 16 : p.kv.base;
            sm90_copy16(sm90_chunk(panel, key(i), part()), from, exists ? 16 : 0);
            sm90_copy16(sm90_chunk(panel, key(i), part() + 4), exists ? from + 64 : from, exists ? 16 : 0);
            sm90_copy4(sm90_shared_address(&side.scales[stage][key(i)][part()]),
                       exists ? scales(rows.latent[i], rows.row[i]) + part() * 4 : p.kv.base, exists ? 4 : 0);
        }
        sm90_copies_arrive(full(stage, 1));
    }

    /* `first` holds the first batch of the tile already, and gets that of the next: each batch is on its way while the
     * one ahead of it is widened. (One more in flight costs registers and was slower.) */
    SM90_MEMBER void widen_tile(int stage, uint32_t parity, const rows_t &rows, const rows_t &next,
                                batch_t *first) const {
        static_assert(!WIDENS || THREAD_KEYS == 2, "two keys in turn");
        batch_t second;
        wait_empty(stage, 0, parity);
        publish_exists(stage, rows);
        load(stage, 0, rows, 1, &second);
        widen(stage, 0, key(0), *first);
        load(stage, 1, rows, 0, first);
        widen(stage, 0, key(1), second);
        stored(stage, 0);
        load(stage, 1, rows, 1, &second);
        wait_empty(stage, 1, parity);
        widen(stage, 1, key(0), *first);
        if constexpr (KIND::SOURCE == SM90_RECORDS) copy_sides(stage, rows);
        load(stage ^ 1, 0, next, 0, first);
        widen(stage, 1, key(1), second);
        stored(stage, 1);
    }

    /* The unit has been written by ordinary stores. Consumers do the fence that lets matrix products see them: here it
     * would wait for the loads of the next keys. */
    SM90_MEMBER void stored(int stage, int unit) const {
        sm90_barrier_arrive(full(stage, unit));
        if (unit) return;
        __syncwarp();
        if (lane == 0) sm90_barrier_arrive(full(stage, 0));
    }

    SM90_MEMBER void run(const sm90_item_t &item) const {
        /* Pages are looked up two tiles ahead, rows found one ahead. Behind the range nothing is found. */
        mla_cursor_t cursor = mla_cursor_at(p, item.work, item.range, item.range.begin);
        mla_place_t places[THREAD_KEYS];
        batch_t first;
        find_places(cursor, places);
        mla_advance(p.kv, SM90_KEYS, &cursor);
        rows_t rows = find_rows(places);
        find_places(cursor, places);
        if constexpr (WIDENS && FAST) {
            if (aligned) load(0, 0, rows, 0, &first);
        }
#pragma unroll 1
        for (int tile = 0; tile < item.tiles; tile++) {
            int stage = tile & 1;
            uint32_t parity = (tile >> 1 & 1) ^ 1;
            if (!FAST || !aligned) {
                wait_empty(stage, 0, parity);
                wait_empty(stage, 1, parity);
                publish_exists(stage, rows);
                gather(stage, rows);
                stored(stage, 0);
                stored(stage, 1);
                if (KIND::SOURCE == SM90_RECORDS) sm90_copies_arrive(full(stage, 1));
            } else if constexpr (!WIDENS) {
                copy(stage, parity, rows);
            }
            rows_t next = find_rows(places);
            mla_advance(p.kv, SM90_KEYS, &cursor);
            find_places(cursor, places);
            if constexpr (WIDENS && FAST) {
                if (aligned) {
                    if constexpr (KIND::SOURCE == SM90_FP8) prefetch(next);
                    widen_tile(stage, parity, rows, next, &first);
                }
            }
            rows = next;
        }
    }
};

template <class KIND> GPU_INLINE void sm90_produce(const ac_mla_decode_params_t &p, const sm90_item_t &item, int warp) {
    int lane;
    asm volatile("mov.u32 %0, %1;"
                 : "=r"(lane)
                 : "r"(gpu_lane())); /* kept in a register, not worked out again and again */
    sm90_producer<KIND> producer = {p, sm90_shared().side, warp, lane, sm90_is_aligned(p.kv),
                                    p.kv.latent_dtype == AC_FLOAT8_E4M3FNUZ};
    producer.run(item);
}

#endif
