/* The indexer logits on gfx942 and gfx950. A wave has 64 keys, four columns' worth of the matrix instruction, in the
 * registers of its B operand: they come from global memory straight to them, whatever a page looks like. Heads are the
 * rows of A and come from LDS in the order in which lanes want them, 16 at a time; what is read once multiplies four
 * times. A lane then has four heads of a key: it adds up its own, and the four lanes of a key add theirs in the end, so
 * that lane l has the logit of key l.
 *
 * Of the 16-byte runs of a key and of a head, lanes 16 g to 16 g + 15 have the runs g and g + 4. Where q or keys are
 * not of the matrix unit's own kind of fp8 both become fp16, which holds every fp8 exactly. */
#ifndef AC_OPS_MQA_LOGITS_GFX9_WAVE_H
#define AC_OPS_MQA_LOGITS_GFX9_WAVE_H

#include "../../../gpu/gfx9/fp8.h"
#include "../../../gpu/gfx9/lanes.h"
#include "../schedule.h"

constexpr int MQA_THREADS = 256;
constexpr int MQA_WAVES = MQA_THREADS / 64;
constexpr int MQA_WAVE_KEYS = 64;
constexpr int MQA_KEYS = MQA_WAVES * MQA_WAVE_KEYS; /* of a workgroup */

/* HEAD_TILES: of 16 heads, that are computed. */
template <class matrix_t, int HEAD_TILES> struct mqa_gfx9_t {
    static constexpr bool OWN = matrix_t::BYTES == 1; /* q and keys are of the matrix unit's kind */
    static constexpr int CHUNKS = OWN ? 2 : 4;        /* of 16 bytes that a lane has of a head or a key */
    static constexpr int HEADS = 16 * HEAD_TILES;
#if defined(__gfx950__)
    static constexpr int PRODUCTS = OWN ? 4 : 16; /* matrix instructions for 16 heads and the 64 keys */
#else
    static constexpr int PRODUCTS = OWN ? 16 : 32;
#endif
    static constexpr int Q_BYTES = HEAD_TILES * CHUNKS * 64 * 16; /* of a query row: [tile][chunk][lane] */
    static constexpr int WEIGHT_BYTES = HEADS * 4;

    /* Bytes of the wave's 64 keys as they come: [16 keys][run]. */
    struct raw_keys_t {
        u32x4_t run[4][2];
        float scale; /* of key `lane` */
    };
    struct keys_t {
        u32x4_t chunk[4][CHUNKS];
    };

    GPU_MEMBER static void convert(const u32x4_t (&from)[2], int dtype, u32x4_t (&out)[CHUNKS]) {
        if constexpr (OWN) out[0] = from[0], out[1] = from[1];
        else widen_fp8<matrix_t, 2>(from, fp8_is_other(dtype), out);
    }

    /* What converted products have to be multiplied by. */
    GPU_MEMBER static float factor(const ac_mqa_logits_params_t &p) {
        return OWN ? 1.0f : fp8_factor_of(p.q_dtype) * fp8_factor_of(p.k.dtype);
    }

    /* --- queries --- */

    /* Run `run` of head `head` of a query row in LDS. */
    GPU_MEMBER static void store_query(uint32_t row, int head, int run, u32x4_t bytes, int dtype) {
        const uint32_t lane = (run & 3) * 16 + (head & 15);
        const uint32_t at = row + ((head >> 4) * CHUNKS + (run >> 2) * (CHUNKS / 2)) * 1024 + lane * 16;
        if constexpr (OWN) lds<u32x4_t>(at) = bytes;
        else {
            u32x4_t from[1] = {bytes}, out[2];
            widen_fp8<matrix_t, 1>(from, fp8_is_other(dtype), out);
            lds<u32x4_t>(at) = out[0];
            lds<u32x4_t>(at + 1024) = out[1];
        }
    }

    /* --- products and sums --- */

    /* The sums of the four lanes of a key: lane l gets those of key l. s[t]: of key 16 t + l % 16. */
    GPU_MEMBER static float sum_lanes(const float (&s)[4]) {
#if defined(__gfx950__)
        auto a = __builtin_amdgcn_permlane32_swap(BITS(uint32_t, s[0]), BITS(uint32_t, s[2]), false, false);
        auto b = __builtin_amdgcn_permlane32_swap(BITS(uint32_t, s[1]), BITS(uint32_t, s[3]), false, false);
        const float even = BITS(float, (uint32_t)a[0]) + BITS(float, (uint32_t)a[1]);
        const float odd = BITS(float, (uint32_t)b[0]) + BITS(float, (uint32_t)b[1]);
        auto c = __builtin_amdgcn_permlane16_swap(BITS(uint32_t, even), BITS(uint32_t, odd), false, false);
        return BITS(float, (uint32_t)c[0]) + BITS(float, (uint32_t)c[1]);
#else
        const uint32_t lane = recompute_lane_id();
        const bool high = lane & 32, odd_row = lane & 16;
        float two[2];
        GPU_UNROLL for (int i = 0; i < 2; i++)
            two[i] = (high ? s[i + 2] : s[i]) + from_lane(high ? s[i] : s[i + 2], lane ^ 32);
        return (odd_row ? two[1] : two[0]) + from_lane(odd_row ? two[0] : two[1], lane ^ 16);
#endif
    }
    GPU_MEMBER static float from_lane(float x, uint32_t lane) {
        return BITS(float, __builtin_amdgcn_ds_bpermute((int)(lane * 4), BITS(int, x)));
    }

    /* max(x, 0), 0 for NaN, of numbers that are never infinite. One instruction: the compiler precedes its own maximum
     * by one that quiets NaN. */
    GPU_MEMBER static float relu(float x) { return __builtin_amdgcn_fmed3f(x, 0, GPU_FLT_MAX); }

    /* Scores of the 64 keys with 16 heads; `at`: the lane's first chunk of the query row. */
    GPU_MEMBER static void multiply_tile(uint32_t at, int tile, const keys_t &keys, f32x4_t (&d)[4]) {
        u32x4_t heads[CHUNKS];
        GPU_UNROLL for (int i = 0; i < CHUNKS; i++) heads[i] = lds<u32x4_t>(at + (tile * CHUNKS + i) * 1024);
        GPU_UNROLL for (int t = 0; t < 4; t++) d[t] = f32x4_t{0, 0, 0, 0};
#if defined(__gfx950__)
        if constexpr (OWN) {
            GPU_UNROLL for (int t = 0; t < 4; t++) d[t] = matrix_t::dot2(heads, keys.chunk[t], d[t]);
            return;
        }
#endif
        GPU_UNROLL for (int i = 0; i < CHUNKS; i++)
            GPU_UNROLL for (int t = 0; t < 4; t++) d[t] = matrix_t::dot(heads[i], keys.chunk[t][i], d[t]);
    }

    /* The order that the compiler is asked for: a product of the next heads, then its part of the 24 instructions that
     * add up those at hand. Left alone it waits for each product. */
    GPU_MEMBER static void interleave() {
        GPU_UNROLL for (int i = 0; i < PRODUCTS; i++) {
            __builtin_amdgcn_sched_group_barrier(8, 1, 0);
            __builtin_amdgcn_sched_group_barrier(2, (24 + PRODUCTS - 1) / PRODUCTS, 0);
        }
    }

    /* An address of LDS to which the compiler adds no number that an instruction has room for. */
    GPU_MEMBER static uint32_t opaque(uint32_t address) {
        asm volatile("" : "+v"(address));
        return address;
    }

    /* sum_h weights[h] * max(<q[h], key>, 0) of key `lane`, for a query row and weights in LDS. The products of the
     * next heads run while those at hand are added up. */
    GPU_MEMBER static float score(uint32_t row, uint32_t weights, const keys_t &keys) {
        row = opaque(row + gpu_lane() * 16), weights = opaque(weights + gpu_lane() / 16 * 16);
        f32x2_t sum[4] = {{0, 0}, {0, 0}, {0, 0}, {0, 0}};
        f32x4_t d[2][4];
        multiply_tile(row, 0, keys, d[0]);
        __builtin_amdgcn_sched_group_barrier(8, PRODUCTS, 0);
        GPU_UNROLL for (int tile = 0; tile < HEAD_TILES; tile++) {
            const f32x4_t weight = lds<f32x4_t>(weights + tile * 64);
            if (tile + 1 < HEAD_TILES) multiply_tile(row, tile + 1, keys, d[(tile + 1) & 1]), interleave();
            GPU_UNROLL for (int t = 0; t < 4; t++) {
                const f32x4_t x = d[tile & 1][t];
                const f32x2_t low = {relu(x.x), relu(x.y)}, high = {relu(x.z), relu(x.w)};
                sum[t] = __builtin_elementwise_fma(weight.xy, low, sum[t]);
                sum[t] = __builtin_elementwise_fma(weight.zw, high, sum[t]);
            }
        }
        float s[4];
        GPU_UNROLL for (int t = 0; t < 4; t++) s[t] = sum[t].x + sum[t].y;
        return sum_lanes(s);
    }

    /* --- keys --- */

    /* The runs of the 64 keys of which lane l has the address of key l. */
    GPU_MEMBER static void load_runs(const ac_mqa_keys_t &k, const char *at, raw_keys_t &out) {
        const uint32_t lane = recompute_lane_id();
        const int64_t run = ac_mqa_run_stride(&k);
        const uint64_t address = (uint64_t)at;
        GPU_UNROLL for (int t = 0; t < 4; t++) {
            const int from = (int)((t * 16 + (lane & 15)) * 4);
            const uint32_t low = (uint32_t)__builtin_amdgcn_ds_bpermute(from, (int)(uint32_t)address);
            const uint32_t high = (uint32_t)__builtin_amdgcn_ds_bpermute(from, (int)(uint32_t)(address >> 32));
            const char *key = (const char *)((uint64_t)high << 32 | low) + (lane >> 4) * run;
            out.run[t][0] = gpu_load<u32x4_t>(key);
            out.run[t][1] = gpu_load<u32x4_t>(key + 4 * run);
        }
    }

    GPU_MEMBER static void convert_keys(const ac_mqa_logits_params_t &p, const raw_keys_t &from, keys_t &out) {
        GPU_UNROLL for (int t = 0; t < 4; t++) {
            convert(from.run[t], p.k.dtype, out.chunk[t]);
            /* They are there from here on: else the next loads would have to wait for these on every path. */
            GPU_UNROLL for (int i = 0; i < CHUNKS; i++) asm volatile("" : "+v"(out.chunk[t][i]));
        }
    }
};

#endif
