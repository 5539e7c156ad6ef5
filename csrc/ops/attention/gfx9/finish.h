/* From a wave's accumulators to the caller's memory; waves that share rows but had different keys merge first. */
#ifndef AC_OPS_ATTENTION_GFX9_FINISH_H
#define AC_OPS_ATTENTION_GFX9_FINISH_H

#include "../store.h"
#include "output.h"

constexpr int WORDS_OF_BLOCK = 8; /* of 4 accumulators of a lane: as waves exchange them */
constexpr uint32_t MERGE_SOFTMAX_AT = 4 * WORDS_OF_BLOCK * 1024; /* eight waves exchange half a block at a time */
constexpr int MERGE_BYTES = MERGE_SOFTMAX_AT + 8 * 16 * 8;

/* Word k: accumulators of consecutive columns. OUTPUT_RUN / 4 words make a run. */
GPU_INLINE f32x4_t word_of_block(const f32x4_t (&out)[TILES], int k) {
    if (OUTPUT_RUN == 4) return out[k];
    int i = k / 2, e = k % 2 * 4;
    return (f32x4_t){out[e][i], out[e + 1][i], out[e + 2][i], out[e + 3][i]};
}

template <int N> GPU_INLINE void store_words(const mla_output_t &out, int block, int first, const f32x4_t (&words)[N]) {
    constexpr int PER_RUN = OUTPUT_RUN / 4;
    GPU_UNROLL for (int k = 0; k < N; k += PER_RUN) {
        float acc[OUTPUT_RUN];
        GPU_UNROLL for (int i = 0; i < OUTPUT_RUN; i++) acc[i] = words[k + i / 4][i % 4];
        mla_store_columns(out, output_column(block, (first + k) / PER_RUN), acc);
    }
}

/* Calls f with a copy of `out` whose dtype the compiler knows: one branch for all stores. */
template <class store_f> GPU_INLINE void with_dtype(mla_output_t out, store_f f) {
    if (out.dtype == AC_FLOAT32) f(out);
    else if (out.dtype == AC_BFLOAT16) f(out);
    else out.dtype = AC_FLOAT16, f(out);
}

/* N blocks of columns, from `first` on, of rows that no other wave shares. */
template <int N> GPU_INLINE void store_alone(const mla_output_t &out, const query_rows_t<N> &rows, int first) {
    with_dtype(out, [&](const mla_output_t &known) {
        GPU_UNROLL for (int b = 0; b < N; b++) {
            f32x4_t words[WORDS_OF_BLOCK];
            GPU_UNROLL for (int k = 0; k < WORDS_OF_BLOCK; k++) words[k] = word_of_block(rows.out[b], k);
            if (known.row) store_words(known, first + b, 0, words);
        }
    });
    if (first == 0 && recompute_lane_id() < 16) mla_store_lse(out);
}

/* The softmax of PARTNERS waves' rows together; the factor for this wave's accumulators. Wave number `part` of them,
 * `first` being the number of part 0 in the workgroup. Sums are added in the order of the waves. */
template <int PARTNERS> GPU_INLINE float merge_softmax(int first, int part, mla_softmax_t *softmax) {
    uint32_t at = MERGE_SOFTMAX_AT + first * 128 + recompute_lane_id() % 16 * 8;
    float own = softmax->base;
    if (recompute_lane_id() < 16) lds<f32x2_t>(at + part * 128) = (f32x2_t){softmax->base, softmax->sum};
    gpu_barrier();
    f32x2_t parts[PARTNERS];
    GPU_UNROLL for (int w = 0; w < PARTNERS; w++) parts[w] = lds<f32x2_t>(at + w * 128);
    GPU_UNROLL for (int w = 0; w < PARTNERS; w++) softmax->base = gpu_max(softmax->base, parts[w].x);
    softmax->sum = 0;
    GPU_UNROLL for (int w = 0; w < PARTNERS; w++) softmax->sum += parts[w].y * mla_rebase(parts[w].x, softmax->base);
    return mla_rebase(own, softmax->base);
}

/* Rows that PARTNERS of ALL_WAVES waves share: they exchange their sums, a part of a block at a time, and each stores
 * its part of the columns. */
template <int PARTNERS, int ALL_WAVES>
GPU_INLINE void store_shared(const mla_output_t &out, const query_rows_t<> &rows, float factor, int first, int part) {
    constexpr int STEP = 4 * WORDS_OF_BLOCK / ALL_WAVES, OWN = STEP / PARTNERS;
    uint32_t at = first * STEP * 1024 + recompute_lane_id() * 16;
    with_dtype(out, [&](const mla_output_t &known) {
        GPU_UNROLL for (int step = 0; step < BLOCKS * WORDS_OF_BLOCK; step += STEP) {
            const int block = step / WORDS_OF_BLOCK, word = step % WORDS_OF_BLOCK;
            f32x4_t sum[OWN];
            GPU_UNROLL for (int k = 0; k < STEP; k++)
                lds<f32x4_t>(at + (part * STEP + k) * 1024) = word_of_block(rows.out[block], word + k) * factor;
            gpu_barrier();
            GPU_UNROLL for (int k = 0; k < OWN; k++) {
                sum[k] = lds<f32x4_t>(at + (part * OWN + k) * 1024);
                GPU_UNROLL for (int w = 1; w < PARTNERS; w++)
                    sum[k] += lds<f32x4_t>(at + (w * STEP + part * OWN + k) * 1024);
            }
            if (known.row) store_words(known, block, word + part * OWN, sum);
            gpu_barrier();
        }
    });
    if (part == 0 && recompute_lane_id() < 16) mla_store_lse(out);
}

#endif
