/* Queries as operand A of the scores' products, in registers. The order of the elements in a product is free, as long
 * as it is that of the keys: a lane has runs of 16 bytes of a key, and of the queries the same elements. */
#ifndef AC_OPS_ATTENTION_SM90_FEW_QUERY_H
#define AC_OPS_ATTENTION_SM90_FEW_QUERY_H

#include "few_tile.h"

/* Of one lane: 32-bit words of the matrix type, of rows g and g + 8. ALIGNED: all of them at multiples of 16 bytes. */
template <class KIND, bool ALIGNED> struct few_query {
    static constexpr int STEPS = 18; /* of 16 elements: half of a row */

    const ac_attention_params_t &p;
    const char *row[2];
    int half, quad;

    /* 16 bytes of row r from element `first` on. */
    template <int TYPE_BYTES> GPU_MEMBER uint4 load(int r, int first) const {
        if (first >= AC_MLA_DV && !p.kv[0].cache.rope_dim) return make_uint4(0, 0, 0, 0);
        const char *from = row[r] + first * TYPE_BYTES;
        return ALIGNED ? sm90_load16(from) : sm90_gather16<TYPE_BYTES>(from);
    }

    /* The lane's elements of step `step` and the next begin with this one. */
    GPU_MEMBER int element(int step) const {
        if (KIND::BYTES == 2) return (step < 16 ? half * 256 + step / 2 * 32 : AC_MLA_DV + half * 32) + quad * 8;
        if (step < 16) return half * 256 + step / 4 * 64 + quad * 16 + step % 4 / 2 * 8;
        return AC_MLA_DV + quad * 16 + half * 8;
    }

    GPU_INLINE void set(uint32_t (&q)[STEPS][4], int step, int r, uint4 words) {
        q[step][r] = words.x, q[step][r + 2] = words.y, q[step + 1][r] = words.z, q[step + 1][r + 2] = words.w;
    }

    GPU_MEMBER void load_same(uint32_t (&q)[STEPS][4]) const {
        GPU_UNROLL for (int step = 0; step < STEPS; step += 2) {
            GPU_UNROLL for (int r = 0; r < 2; r++) set(q, step, r, load<2>(r, element(step)));
        }
    }

    /* e4m3fn to fp16; 8 elements are 8 bytes. */
    GPU_MEMBER void load_fp8(uint32_t (&q)[STEPS][4]) const {
        GPU_UNROLL for (int step = 0; step < STEPS; step += 4) {
            GPU_UNROLL for (int r = 0; r < 2; r++) {
                uint4 words, raw;
                if (step < 16) {
                    raw = load<1>(r, element(step));
                } else {
                    raw = load<1>(r, AC_MLA_DV + quad * 16);
                    if (half) raw.x = raw.z, raw.y = raw.w;
                }
                sm90_widen_word(raw.x, words.x, words.y);
                sm90_widen_word(raw.y, words.z, words.w);
                set(q, step, r, words);
                if (step == 16) continue;
                sm90_widen_word(raw.z, words.x, words.y);
                sm90_widen_word(raw.w, words.z, words.w);
                set(q, step + 2, r, words);
            }
        }
    }

    /* bf16 to fp16 after a multiplication by a power of two, which brings the largest element of the half row just
     * below the largest fp16: what is lost is 2^-40 of that. Returns what scores have to be multiplied by. */
    GPU_MEMBER float narrow(uint32_t (&q)[STEPS][4], int r) const {
        float largest = 0;
        GPU_UNROLL for (int step = 0; step < STEPS; step++) {
            GPU_UNROLL for (int i = r; i < 4; i += 2) {
                GPU_UNROLL for (int k = 0; k < 2; k++) {
                    float x = fabsf(sm90_unpack<SM90_BF16>(q[step][i], k));
                    if (x <= GPU_FLT_MAX) largest = gpu_max(largest, x);
                }
            }
        }
        largest = gpu_max(largest, __shfl_xor_sync(0xffffffffu, largest, 1));
        largest = gpu_max(largest, __shfl_xor_sync(0xffffffffu, largest, 2));
        int exponent = (int)(__float_as_uint(largest) >> 23) - 127; /* -127: zero or subnormal */
        int up = 14 - exponent < 126 ? 14 - exponent : 126;
        float scale = __uint_as_float((uint32_t)(127 + up) << 23);
        GPU_UNROLL for (int step = 0; step < STEPS; step++) {
            GPU_UNROLL for (int i = r; i < 4; i += 2)
                q[step][i] = sm90_pack_f16(sm90_unpack<SM90_BF16>(q[step][i], 0) * scale,
                                           sm90_unpack<SM90_BF16>(q[step][i], 1) * scale);
        }
        return 1 / scale;
    }

    GPU_MEMBER void run(uint32_t (&q)[STEPS][4], float (&scale)[2]) const {
        scale[0] = scale[1] = 1;
        if (KIND::BYTES == 1 && p.q_dtype == AC_FLOAT8_E4M3FN) return load_fp8(q);
        load_same(q);
        if constexpr (KIND::BYTES == 1) {
            if (p.q_dtype != AC_BFLOAT16) return;
            GPU_UNROLL for (int r = 0; r < 2; r++) scale[r] = narrow(q, r);
        }
    }
};

#endif
