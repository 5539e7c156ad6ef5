/* Where the keys of a tile lie, and which of them exist. */
#ifndef AC_KERNELS_MLA_SM90_KEY_ROWS_H
#define AC_KERNELS_MLA_SM90_KEY_ROWS_H

#include "mla_sm90_producer.h"

template <class KIND>
SM90_MEMBER void sm90_producer<KIND>::find_places(const mla_cursor_t &cursor,
                                                  mla_place_t (&places)[THREAD_KEYS]) const {
#pragma unroll
    for (int i = 0; i < THREAD_KEYS; i++) places[i] = mla_find_place(p.kv, cursor, key(i));
}

template <class KIND>
SM90_MEMBER sm90_rows_t<sm90_producer<KIND>::THREAD_KEYS> sm90_producer<KIND>::find_rows(
    const mla_place_t (&places)[THREAD_KEYS]) const {
    rows_t rows;
    bool all = true, exists = false;
#pragma unroll
    for (int i = 0; i < THREAD_KEYS; i++) {
        bool inside = mla_is_inside(p.kv, places[i]);
        rows.latent[i] = nullptr;
        rows.row[i] = places[i].row;
        if (inside) rows.latent[i] = mla_key_part(p.kv, places[i], p.kv.latent_offset, p.kv.latent_stride);
        all = all && inside;
    }
    rows.exist = 0xffff;
    if (__all_sync(0xffffffffu, all)) return rows;
#pragma unroll
    for (int i = 0; i < THREAD_KEYS; i++) { /* lane l speaks for key l */
        int inside = __shfl_sync(0xffffffffu, (int)(rows.latent[i] != nullptr), lane % STEP * LANES);
        if (lane / STEP == i) exists = inside;
    }
    rows.exist = __ballot_sync(0xffffffffu, exists);
    return rows;
}

/* The rows of the tile whose places have been looked up; starts the look-up for the tile behind it. */
template <class KIND>
SM90_MEMBER sm90_rows_t<sm90_producer<KIND>::THREAD_KEYS> sm90_producer<KIND>::next_rows(
    mla_cursor_t *cursor, mla_place_t (&places)[THREAD_KEYS]) const {
    rows_t rows = find_rows(places);
    mla_advance(p.kv, SM90_KEYS, cursor);
    find_places(*cursor, places);
    return rows;
}

/* Only for keys that exist. In a plain cache it follows the latent part. */
template <class KIND>
SM90_MEMBER const char *sm90_producer<KIND>::rope(const char *latent, int32_t row) const {
    if (KIND::SOURCE != SM90_RECORDS) return latent + AC_MLA_DV * KIND::ELEMENT_BYTES;
    return latent + (p.kv.rope_offset - p.kv.latent_offset) + row * (p.kv.rope_stride - p.kv.latent_stride);
}

template <class KIND>
SM90_MEMBER const char *sm90_producer<KIND>::scales(const char *latent, int32_t row) const {
    return latent + (p.kv.scale_offset - p.kv.latent_offset) + row * (p.kv.scale_stride - p.kv.latent_stride);
}

#endif
