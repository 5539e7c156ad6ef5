/* The warpgroup that brings records into the stages, from any page size and any address. Eight lanes share a key. A
 * masked key is zeros, and nothing of it is read. */
#ifndef AC_OPS_ATTENTION_SM90_RECORDS_LOADER_H
#define AC_OPS_ATTENTION_SM90_RECORDS_LOADER_H

#include "records_tile.h"

template <int N> struct records_loader {
    static constexpr int STAGES = records_shared_t<N>::STAGES;

    const ac_attention_params_t &p;
    int warp, lane;

    GPU_MEMBER const ac_kv_cache_t &kv() const { return p.kv[0].cache; }
    GPU_MEMBER int part() const { return lane % 8; }

    /* Every part of every record is at a multiple of 16 bytes. */
    GPU_MEMBER bool is_aligned() const {
        return (((int64_t)kv().base | kv().page_stride | kv().latent_offset | kv().latent_stride | kv().rope_offset |
                 kv().rope_stride | kv().scale_offset | kv().scale_stride) &
                15) == 0;
    }

    /* The lane's parts of a key; none where there is no such key. */
    GPU_MEMBER void copy(uint32_t to, bool exists, mla_location_t at) const {
        uint32_t bytes = exists ? 16 : 0;
        if (!exists) at = {0, 0}; /* an address to name */
        const char *from = mla_key_address(kv(), at, kv().latent_offset, kv().latent_stride) + part() * 16;
        GPU_UNROLL for (int c = 0; c < 4; c++) sm90_copy16(to + part() * 16 + c * 128, from + c * 128, bytes);
        from = mla_key_address(kv(), at, kv().rope_offset, kv().rope_stride) + part() * 16;
        sm90_copy16(to + RECORD_ROPE + part() * 16, from, bytes);
        from = mla_key_address(kv(), at, kv().scale_offset, kv().scale_stride);
        if (part() == 0) sm90_copy16(to + RECORD_SCALES, from, bytes);
    }

    /* The same of records at any address. */
    GPU_MEMBER void gather(uint32_t to, bool exists, mla_location_t at) const {
        GPU_NO_UNROLL for (int chunk = part(); chunk < RECORD_BYTES / 16; chunk += 8) {
            int64_t offset = kv().latent_offset + chunk * 16, stride = kv().latent_stride;
            if (chunk == 32) offset = kv().scale_offset, stride = kv().scale_stride;
            if (chunk > 32) offset = kv().rope_offset + (chunk - 33) * 16, stride = kv().rope_stride;
            const char *from = exists ? mla_key_address(kv(), at, offset, stride) : nullptr;
            sm90_store16(to + chunk * 16, sm90_fetch16<1>(from, false));
        }
    }

    /* A lane looks up the page of key `lane` of the warp's 16, one tile ahead. */
    GPU_MEMBER mla_location_t locate(const mla_cursor_t &cursor) const {
        return mla_locate(kv(), cursor, warp * 16 + lane % 16);
    }

    /* The tiles of an item. is_first: the barriers may not be initialised yet. */
    GPU_MEMBER void run(int tiles, mla_cursor_t cursor, bool is_first, int *stage, uint32_t *parity) const {
        records_side_t<N> &side = records_shared<N>().side;
        mla_location_t next = locate(cursor);
        bool aligned = is_aligned();
        if (is_first) sm90_sync(RECORDS_SYNC_READY, 128 + 32);
        GPU_NO_UNROLL for (int tile = 0; tile < tiles; tile++) {
            mla_location_t here = next;
            uint32_t exist = __ballot_sync(0xffffffffu, mla_in_pool(kv(), here)) & 0xffff;
            uint32_t to = sm90_shared_address(records_shared<N>().stage[*stage]) + warp * 16 * RECORD_BYTES;
            uint32_t full = sm90_shared_address(&side.full[*stage]);
            mla_advance(kv(), RECORD_KEYS, &cursor);
            next = locate(cursor);
            sm90_barrier_wait(sm90_shared_address(&side.empty[*stage]), *parity ^ 1);
            GPU_NO_UNROLL for (int key = lane / 8; key < 16; key += 4) {
                mla_location_t at = {__shfl_sync(0xffffffffu, here.entry, key),
                                     __shfl_sync(0xffffffffu, here.row, key)};
                if (aligned) copy(to + key * RECORD_BYTES, exist >> key & 1, at);
                else gather(to + key * RECORD_BYTES, exist >> key & 1, at);
            }
            if (lane == 0) ((uint16_t *)&side.exists[*stage])[warp] = (uint16_t)exist;
            if (aligned) sm90_copies_arrive(full);
            else sm90_barrier_arrive(full);
            __syncwarp();
            if (lane == 0) sm90_barrier_arrive(full); /* for `exists`: the copies' arrivals do not cover it */
            if (++*stage == STAGES) *stage = 0, *parity ^= 1;
        }
    }
};

#endif
