/* The producer warpgroup: brings keys from the cache into the stages, any page size, any address. A few lanes share a
 * key and each has the same part of all its panels, so that one address serves them all. A masked key is zeros, and
 * nothing of it is read. 16-bit keys are copied asynchronously, straight to shared memory (mla_sm90_key_copy.h); fp8
 * goes through registers (mla_sm90_key_widen.h). */
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

/* A thread's keys of a tile, and which of its warp's keys exist. The other parts of a key lie at known distances from
 * its latent part. */
template <int KEYS> struct sm90_rows_t {
    const char *latent[KEYS]; /* NULL: masked */
    int32_t row[KEYS];        /* in its page */
    uint32_t exist;
};

template <class KIND> struct sm90_producer {
    static constexpr bool WIDENS = KIND::SOURCE != SM90_SAME;
    static constexpr int LANES = WIDENS ? 4 : 8;   /* that share a key */
    static constexpr int STEP = 32 / LANES;        /* keys of the warp in one go */
    static constexpr int THREAD_KEYS = 16 / STEP;  /* keys of the thread, STEP apart */
    static constexpr bool FAST = !WIDENS || KIND::TERMS == 1; /* else there are no registers for loads ahead */
    static constexpr int BATCHES = 2 * THREAD_KEYS;           /* of a tile: see mla_sm90_key_widen.h */
    typedef sm90_rows_t<THREAD_KEYS> rows_t;

    const ac_mla_decode_params_t &p;
    sm90_side_t &side;
    int warp, lane;
    bool aligned, fnuz;

    SM90_MEMBER int part() const { return lane % LANES; } /* of each key, that is the thread's */
    SM90_MEMBER int key(int i) const { return warp * 16 + lane / LANES + STEP * i; }

    SM90_MEMBER void find_places(const mla_cursor_t &cursor, mla_place_t (&places)[THREAD_KEYS]) const;
    SM90_MEMBER rows_t find_rows(const mla_place_t (&places)[THREAD_KEYS]) const;
    SM90_MEMBER rows_t next_rows(mla_cursor_t *cursor, mla_place_t (&places)[THREAD_KEYS]) const;
    SM90_MEMBER const char *rope(const char *latent, int32_t row) const;
    SM90_MEMBER const char *scales(const char *latent, int32_t row) const;

    SM90_MEMBER uint32_t matrix(int stage) const { return sm90_shared_address(sm90_shared().key[stage]); }
    SM90_MEMBER uint32_t full(int stage, int unit) const { return sm90_shared_address(&side.full[stage][unit]); }
    SM90_MEMBER void wait_empty(int stage, int unit, uint32_t parity) const {
        sm90_barrier_wait(sm90_shared_address(&side.empty[stage][unit]), parity);
    }
    SM90_MEMBER void start_tile(int stage, uint32_t parity, const rows_t &rows) const;
    SM90_MEMBER void stored(int stage, int unit) const;

    SM90_MEMBER void copy(int stage, uint32_t parity, const rows_t &rows) const;

    SM90_MEMBER void gather_row(uint32_t to, int key, const char *row, int first_chunk, int chunks) const;
    template <bool FNUZ>
    SM90_MEMBER void gather_fp8_row(uint32_t to, int key, const char *row, int first_chunk, int chunks) const;
    SM90_MEMBER void gather(int stage, uint32_t parity, const rows_t &rows) const;

    /* fp8: a thread's 16 elements, two chunks, of the panels of one unit of one key. */
    struct batch_t {
        uint4 panel[KIND::SOURCE == SM90_FP8 ? 5 : 4];
    };

    SM90_MEMBER int panels(int unit) const { return KIND::SOURCE == SM90_FP8 && unit && p.kv.rope_dim ? 5 : 4; }
    SM90_MEMBER void load(const rows_t &rows, int index, batch_t *batch) const;
    template <bool FNUZ> SM90_MEMBER void store(int stage, int index, const batch_t &batch) const;
    SM90_MEMBER void copy_sides(int stage, const rows_t &rows) const;
    SM90_MEMBER rows_t widen(int stage, uint32_t parity, const rows_t &rows, mla_cursor_t *cursor,
                             mla_place_t (&places)[THREAD_KEYS], batch_t *first) const;

    template <bool GATHERS> SM90_MEMBER void walk(const sm90_item_t &item) const;
    SM90_MEMBER void run(const sm90_item_t &item) const;
};

#endif
