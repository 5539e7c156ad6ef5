/* Keys of fp8: through registers, where they become the matrix type, in batches: the thread's part of unit 0 of each of
 * its keys, then of unit 1. Two are on their way: when a batch has been widened, its registers are for the one after
 * the next. */
#ifndef AC_KERNELS_MLA_SM90_KEY_WIDEN_H
#define AC_KERNELS_MLA_SM90_KEY_WIDEN_H

#include "mla_sm90_producer.h"

/* Batch `index` of the tile that has these rows. */
template <class KIND>
SM90_MEMBER void sm90_producer<KIND>::load(const rows_t &rows, int index, batch_t *batch) const {
    int unit = index / THREAD_KEYS;
    const char *latent = rows.latent[index % THREAD_KEYS], *from = latent + part() * 16 + unit * 256;
#pragma unroll
    for (int i = 0; i < 4; i++) batch->panel[i] = sm90_load16_if(latent, from + i * 64);
    if constexpr (KIND::SOURCE == SM90_FP8)
        if (panels(unit) == 5) batch->panel[4] = sm90_load16_if(latent, from + 4 * 64);
}

template <class KIND>
template <bool FNUZ>
SM90_MEMBER void sm90_producer<KIND>::store(int stage, int index, const batch_t &batch) const {
    int unit = index / THREAD_KEYS, to_key = key(index % THREAD_KEYS);
    uint32_t to = matrix(stage) + unit * 4 * SM90_PANEL_BYTES;
#pragma unroll
    for (int i = 0; i < 4; i++)
        sm90_store_widened<KIND::TYPE, FNUZ>(to + i * SM90_PANEL_BYTES, to_key, part() * 2, batch.panel[i]);
    if constexpr (KIND::SOURCE == SM90_FP8)
        if (panels(unit) == 5)
            sm90_store_widened<KIND::TYPE, FNUZ>(to + 4 * SM90_PANEL_BYTES, to_key, part() * 2, batch.panel[4]);
}

/* Records: copies the rope parts as they are, and lane c scale c of its keys. */
template <class KIND>
SM90_MEMBER void sm90_producer<KIND>::copy_sides(int stage, const rows_t &rows) const {
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

/* `first` holds the first batch of the tile already, and gets that of the next. Returns the rows of the next tile. They
 * are found where their first load is due and not before: the look-up may share its counter of loads under way with the
 * batches, and waiting for it would then be waiting for them. For the same reason the second batch is not asked for
 * before its tile. */
template <class KIND>
SM90_MEMBER sm90_rows_t<sm90_producer<KIND>::THREAD_KEYS> sm90_producer<KIND>::widen(
    int stage, uint32_t parity, const rows_t &rows, mla_cursor_t *cursor, mla_place_t (&places)[THREAD_KEYS],
    batch_t *first) const {
    rows_t next;
    batch_t second;
    start_tile(stage, parity, rows);
    load(rows, 1, &second);
#pragma unroll
    for (int i = 0; i < BATCHES; i++) {
        batch_t *batch = i & 1 ? &second : first;
        if (i == THREAD_KEYS) wait_empty(stage, 1, parity);
        if (KIND::SOURCE == SM90_RECORDS && i == THREAD_KEYS) copy_sides(stage, rows);
        if (KIND::SOURCE == SM90_FP8 && fnuz) store<true>(stage, i, *batch);
        else store<false>(stage, i, *batch);
        if (i % THREAD_KEYS == THREAD_KEYS - 1) stored(stage, i / THREAD_KEYS);
        if (i + 2 == BATCHES) next = next_rows(cursor, places);
        if (i + 2 < BATCHES) load(rows, i + 2, batch);
        else if (i + 2 == BATCHES) load(next, 0, batch);
    }
    return next;
}

#endif
