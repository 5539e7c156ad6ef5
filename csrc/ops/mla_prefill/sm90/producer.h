/* The producer warpgroup of prefill: finds the tiles, and brings queries, keys and values into shared memory. Eight
 * lanes share a row, each has one chunk of 16 bytes of all its panels. A masked key is zeros, and nothing of it is
 * read. e4m3 values are turned on the way, each warp its own keys. */
#ifndef AC_OPS_MLA_PREFILL_SM90_PRODUCER_H
#define AC_OPS_MLA_PREFILL_SM90_PRODUCER_H

#include "order.h"
#include "tile.h"

/* All rows are at multiples of 16 bytes. */
GPU_INLINE bool prefill_is_aligned(const ac_mla_prefill_params_t &p) {
    int64_t bits = (int64_t)p.q | (int64_t)p.k | (int64_t)p.v | p.q_row_stride | p.q_head_stride | p.k_row_stride |
                   p.k_head_stride | p.v_row_stride | p.v_head_stride;
    return (bits & 15) == 0;
}

template <class KIND> struct prefill_producer {
    const ac_mla_prefill_params_t &p;
    prefill_side_t<KIND> &side;
    int warp, lane;
    int count; /* key tiles so far */

    GPU_MEMBER int part() const { return lane & 7; }
    GPU_MEMBER uint32_t key_matrix(int stage) const { return sm90_shared_address(prefill_shared<KIND>().key[stage]); }
    GPU_MEMBER uint32_t value_matrix(int stage) const {
        return sm90_shared_address(prefill_shared<KIND>().value[stage]);
    }

    GPU_MEMBER int32_t locate(const prefill_work_t &work, int key_tile) const;
    template <bool GATHERS, int CHUNKS, int ROWS>
    GPU_MEMBER void copy_rows(uint32_t to, int panel_bytes, int first_row, const char *from, int64_t stride,
                              int32_t slot) const;
    template <bool GATHERS> GPU_MEMBER void arrive(uint64_t &barrier) const;
    GPU_MEMBER void tell_keys(int32_t slot) const;
    template <bool GATHERS> GPU_MEMBER void copy_queries(const prefill_work_t &work, int number) const;
    GPU_MEMBER void turn_values(int tile) const;
    template <bool GATHERS> GPU_MEMBER void bring(const prefill_work_t &work, int number);
    GPU_MEMBER void find(bool first, prefill_work_t *work);
};

/* The lane's key of a key tile: its slot, which nobody has checked yet. */
template <class KIND>
GPU_MEMBER int32_t prefill_producer<KIND>::locate(const prefill_work_t &work, int key_tile) const {
    uint32_t key = (uint32_t)key_tile * KIND::KEYS + warp * KIND::WARP_KEYS + lane;
    if (lane >= KIND::WARP_KEYS || key >= work.keys) return -1;
    return work.slots ? work.slots[key] : (int32_t)(work.first_slot + key);
}

/* Rows first_row to first_row + ROWS of a matrix; lane l knows the slot of row l, below 0: zeros. */
template <class KIND>
template <bool GATHERS, int CHUNKS, int ROWS>
GPU_MEMBER void prefill_producer<KIND>::copy_rows(uint32_t to, int panel_bytes, int first_row, const char *from,
                                                  int64_t stride, int32_t slot) const {
    int row = first_row + (lane >> 3);
    uint32_t at = to + row * 128 + ((part() ^ (row & 7)) << 4);
    from += part() * 16;
    if constexpr (GATHERS) {
        GPU_NO_UNROLL for (int i = 0; i < ROWS / 4; i++) {
            int32_t s = __shfl_sync(0xffffffffu, slot, (lane >> 3) + 4 * i);
            GPU_NO_UNROLL for (int c = 0; c + part() < CHUNKS; c += 8) {
                uint4 chunk = sm90_fetch16<KIND::BYTES>(s < 0 ? nullptr : from + s * stride + c * 16, false);
                sm90_store16((at ^ (i & 1) << 6) + i * 512 + (c >> 3) * panel_bytes, chunk);
            }
        }
    } else {
    GPU_UNROLL for (int i = 0; i < ROWS / 4; i++) {
            int32_t s = __shfl_sync(0xffffffffu, slot, (lane >> 3) + 4 * i);
            const char *chunk = from + (s < 0 ? 0 : s) * stride;
            uint32_t i_at = (at ^ (i & 1) << 6) + i * 512, bytes = s < 0 ? 0 : 16;
            GPU_UNROLL for (int c = 0; c < CHUNKS; c += 8)
                if (c + 8 <= CHUNKS || c + part() < CHUNKS)
                    sm90_copy16(i_at + (c >> 3) * panel_bytes, chunk + c * 16, bytes);
        }
    }
}

/* When this thread's copies so far are done. */
template <class KIND>
template <bool GATHERS>
GPU_MEMBER void prefill_producer<KIND>::arrive(uint64_t &barrier) const {
    if (GATHERS) sm90_barrier_arrive(sm90_shared_address(&barrier));
    else sm90_copies_arrive(sm90_shared_address(&barrier));
}

/* Which of the warp's keys exist; the copies' arrivals do not cover it. */
template <class KIND> GPU_MEMBER void prefill_producer<KIND>::tell_keys(int32_t slot) const {
    int flags = prefill_flags(count);
    bool whole = __all_sync(0xffffffffu, slot >= 0 || lane >= KIND::WARP_KEYS);
    if (lane < KIND::WARP_KEYS) side.exists[flags][warp * KIND::WARP_KEYS + lane] = slot >= 0;
    if (lane == 0) ((uint8_t *)&side.whole[flags])[warp] = whole;
    sm90_barrier_arrive(sm90_shared_address(&side.full_key[prefill_key_stage<KIND>(count)]));
}

/* The tile's queries, if it has keys; tells the consumers of the tile. */
template <class KIND>
template <bool GATHERS>
GPU_MEMBER void prefill_producer<KIND>::copy_queries(const prefill_work_t &work, int number) const {
    int row = warp * 32 + lane;
    sm90_barrier_wait(sm90_shared_address(&side.empty_query), (number & 1) ^ 1);
    if (work.key_tiles > 0)
        copy_rows<GATHERS, KIND::D_CHUNKS, 32>(sm90_shared_address(prefill_shared<KIND>().query), KIND::QUERY_PANEL,
                                               warp * 32, work.q, p.q_row_stride, row < work.rows ? row : -1);
    arrive<GATHERS>(side.full_query);
    if (warp == 0 && lane == 0) sm90_barrier_arrive(sm90_shared_address(&side.full_query)); /* for `work` */
}

/* The values of a key tile have come: turns those that this warp has copied, of 16 keys and 32 columns at a time. Two
 * neighbours, elements of 8 bits, move as one of 16. */
template <class KIND> GPU_MEMBER void prefill_producer<KIND>::turn_values(int tile) const {
    int stage = prefill_value_stage(tile);
    uint32_t to = sm90_shared_address(prefill_shared<KIND>().turned[stage]);
    sm90_barrier_wait(sm90_shared_address(&side.empty_value[stage]), prefill_value_parity(tile) ^ 1);
    __syncwarp();
    GPU_UNROLL for (int i = 0; i < KIND::WARP_KEYS / 16; i++) {
        int key = warp * KIND::WARP_KEYS + i * 16 + (lane & 15), place = (warp * KIND::WARP_KEYS / 16 + i);
        _Pragma("unroll 2") for (int c = 0; c < KIND::DV_CHUNKS; c += 2) {
            uint32_t pairs[4], columns[4];
            int chunk = c + (lane >> 4), column = c * 16 + (lane >> 4) * 16 + (lane & 7) * 2 + (lane >> 3 & 1);
            sm90_load_matrices_turned(value_matrix(stage) + (c >> 3) * KIND::KEY_PANEL + key * 128 +
                                          (((chunk & 7) ^ (key & 7)) << 4),
                                      pairs);
            GPU_UNROLL for (int k = 0; k < 4; k++)
                columns[k] = __byte_perm(pairs[k & 2], pairs[(k & 2) + 1], k & 1 ? 0x7531 : 0x6420);
            sm90_store_matrices(to + column * 128 + ((place ^ (column & 7)) << 4), columns);
        }
    }
    __syncwarp(); /* the warp's values are read: others may come */
    sm90_barrier_arrive(sm90_shared_address(&side.full_value[stage]));
}

/* All of a tile. Slots are looked up a key tile ahead. */
template <class KIND>
template <bool GATHERS>
GPU_MEMBER void prefill_producer<KIND>::bring(const prefill_work_t &work, int number) {
    int key_tiles = work.key_tiles;
    int32_t next = locate(work, 0);
    GPU_NO_UNROLL for (int t = 0; t < key_tiles; t++, count++) {
        int stage = prefill_key_stage<KIND>(count), value_stage = prefill_value_stage(count);
        int32_t slot = next < p.num_slots ? next : -1; /* below 0: masked */
        next = locate(work, t + 1);
        sm90_barrier_wait(sm90_shared_address(&side.empty_key[stage]), prefill_key_parity<KIND>(count) ^ 1);
        copy_rows<GATHERS, KIND::D_CHUNKS, KIND::WARP_KEYS>(key_matrix(stage), KIND::KEY_PANEL,
                                                            warp * KIND::WARP_KEYS, work.k, p.k_row_stride, slot);
        arrive<GATHERS>(side.full_key[stage]);
        tell_keys(slot);
        if (t == 0) copy_queries<GATHERS>(work, number);
        if constexpr (!KIND::FP8)
            sm90_barrier_wait(sm90_shared_address(&side.empty_value[value_stage]), prefill_value_parity(count) ^ 1);
        copy_rows<GATHERS, KIND::DV_CHUNKS, KIND::WARP_KEYS>(value_matrix(value_stage), KIND::KEY_PANEL,
                                                             warp * KIND::WARP_KEYS, work.v, p.v_row_stride, slot);
        if constexpr (KIND::FP8) { /* values have come a key tile later */
            sm90_copies_commit();
            if (t > 0) {
                sm90_copies_wait<1>();
                turn_values(count - 1);
            }
        } else {
            arrive<GATHERS>(side.full_value[value_stage]);
        }
    }
    if (KIND::FP8 && key_tiles > 0) {
        sm90_copies_wait<0>();
        turn_values(count - 1);
    }
}

/* Leaves the workgroup's next tile to all its threads in shared memory. What is there needs no registers: nothing is
 * kept from one part of the work to the next. */
template <class KIND> GPU_MEMBER void prefill_producer<KIND>::find(bool first, prefill_work_t *work) {
    prefill_cursor_t cursor = {p.work_indptr ? 0 : gpu_block(), 0};
    if (!first) cursor = side.cursor;
    bool found = prefill_next<KIND>(p, &cursor, &work->tile);
    side.cursor = cursor;
    work->key_tiles = -1;
    if (!found) return;
    prefill_forget();
    const ac_prefill_tile_t &tile = work->tile;
    work->keys = (uint32_t)max(tile.end - tile.begin, 0);
    work->key_tiles = (int32_t)((work->keys + KIND::KEYS - 1) / KIND::KEYS);
    work->rows = tile.rows;
    work->first_slot = (int32_t)tile.first_slot + tile.begin;
    work->slots = tile.slots ? tile.slots + tile.begin : nullptr;
    prefill_forget();
    work->q = p.q + tile.row * p.q_row_stride + tile.head * p.q_head_stride;
    work->k = p.k + tile.kv_head * p.k_head_stride;
    work->v = p.v + tile.kv_head * p.v_head_stride;
}

/* One thread finds the tiles. The consumers hear of a tile when its queries have come. */
template <class KIND> GPU_INLINE void prefill_produce(const ac_mla_prefill_params_t &p) {
    prefill_side_t<KIND> &side = prefill_shared<KIND>().side;
    int count = 0;
    GPU_NO_UNROLL for (int number = 0;; number++) {
        int thread = prefill_recompute_thread();
        prefill_producer<KIND> producer = {p, side, thread / 32, thread % 32, count};
        prefill_work_t &work = side.work[prefill_work_slot(number)];
        if (thread == 0) producer.find(number == 0, &work);
        sm90_sync(PREFILL_SYNC_PRODUCER, 128);
        if (work.key_tiles <= 0) producer.template copy_queries<false>(work, number);
        else if (prefill_is_aligned(p)) producer.template bring<false>(work, number);
        else producer.template bring<true>(work, number);
        if (work.key_tiles < 0) return;
        count = producer.count;
    }
}

#endif
