/* The warpgroup that brings keys into the stages, as they stand in the cache, from any page size and any address. A
 * warp has 16 keys of a tile; a masked one is zeros, and nothing of it is read. */
#ifndef AC_OPS_ATTENTION_SM90_FEW_LOADER_H
#define AC_OPS_ATTENTION_SM90_FEW_LOADER_H

#include "few_tile.h"

template <class KIND> struct few_loader {
    static constexpr int LATENT = AC_MLA_DV * KIND::BYTES; /* bytes; the rope part follows */

    const ac_attention_params_t &p;
    int warp, lane;
    bool aligned; /* every row is at a multiple of 16 bytes */

    GPU_MEMBER const ac_kv_cache_t &kv() const { return p.kv[0].cache; }
    GPU_MEMBER int row_bytes() const { return LATENT + kv().rope_dim * KIND::BYTES; }

    /* Lane l's key is number l % 16 of the warp's, of the tile so many after the cursor's. */
    GPU_MEMBER mla_location_t locate(const mla_cursor_t &cursor, int after) const {
        return mla_locate(kv(), cursor, after * FEW_KEYS + warp * 16 + lane % 16);
    }
    GPU_INLINE const char *row_of(const char *row, int key) {
        return (const char *)__shfl_sync(0xffffffffu, (unsigned long long)row, key);
    }

    /* Lane l's key, by the copy engine. All lanes arrive, since racecheck does not see what __syncwarp orders; here it
     * puts the expected bytes before the copies. */
    GPU_MEMBER void copy(uint32_t to, const char *row, uint32_t full) const {
        const bool owns = lane < 16;
        const int keys = __popc(__ballot_sync(0xffffffffu, owns && row));
        to += lane * KIND::PITCH;
        if (owns && !row) {
            GPU_NO_UNROLL for (int at = 0; at < row_bytes(); at += 16) sm90_store16(to + at, make_uint4(0, 0, 0, 0));
            sm90_fence_async(); /* a copy may come here next time */
        }
        if (lane == 0) sm90_barrier_arrive_expect(full, keys * row_bytes());
        else sm90_barrier_arrive(full);
        __syncwarp();
        if (owns && row) sm90_copy_bulk(to, row, row_bytes(), full);
    }

    /* The same of rows at any address. */
    GPU_MEMBER void gather(uint32_t to, const char *row, uint32_t full) const {
        GPU_NO_UNROLL for (int key = 0; key < 16; key++) {
            const char *from = row_of(row, key);
            GPU_NO_UNROLL for (int at = lane * 16; at < row_bytes(); at += 512)
                sm90_store16(to + key * KIND::PITCH + at, sm90_fetch16<KIND::BYTES>(from ? from + at : nullptr, false));
        }
        sm90_barrier_arrive(full);
    }

    /* The tiles of an item. Pages are looked up two tiles ahead. FIRST: the barriers may not be initialised yet. */
    template <bool FIRST> GPU_MEMBER void run(const few_item_t &item, mla_cursor_t cursor,
                                              few_ring_t<KIND> *ring) const {
        mla_location_t next = locate(cursor, 0), second = locate(cursor, 1);
        if (FIRST) sm90_sync(FEW_SYNC_READY, 128 + 32);
        GPU_NO_UNROLL for (int tile = 0; tile < item.tiles; tile++) {
            bool exists = mla_in_pool(kv(), next);
            uint32_t exist = __ballot_sync(0xffffffffu, exists) & 0xffff;
            uint32_t to = sm90_shared_address(ring->keys()) + warp * 16 * KIND::PITCH;
            const char *row = nullptr;
            if (exists) row = mla_key_address(kv(), next, kv().latent_offset, kv().latent_stride);
            sm90_barrier_wait(ring->empty(), ring->parity ^ 1);
            if (lane == 0) ((uint16_t *)&few_shared<KIND>().exists[ring->stage])[warp] = (uint16_t)exist;
            if (aligned) copy(to, row, ring->full());
            else gather(to, row, ring->full());
            ring->next();
            next = second;
            second = locate(cursor, 2);
            mla_advance(kv(), FEW_KEYS, &cursor);
        }
    }
};

#endif
