/* Online softmax in base 2. The running base of a row is not its exact maximum: it moves only when a score is more
 * than `above` over it, so that the accumulators are almost never rescaled. A probability is at most 2^above, which
 * the type of P holds; relative to the row's sum nothing changes.
 * A NaN score is left out of the maximum but makes the row's sum NaN. The base is finite until a score is +inf, so that
 * a row that has seen nothing but -inf has probabilities 0 and not NaN. */
#ifndef AC_OPS_ATTENTION_SOFTMAX_H
#define AC_OPS_ATTENTION_SOFTMAX_H

#include "../../core/constants.h"
#include "../../gpu/gpu.h"

/* Where probabilities are in the range of the type in which P is multiplied by V: a new base is `below` under the
 * maximum, which keeps small probabilities away from the type's smallest numbers. In fp8 every new maximum moves the
 * base: the largest probability of a row is then a power of two, exact, and a row that one key dominates has no
 * rounding error. */
typedef struct mla_headroom_t {
    float below, above;
} mla_headroom_t;

constexpr mla_headroom_t MLA_BF16_HEADROOM = {0, 8};
constexpr mla_headroom_t MLA_F16_HEADROOM = {7, 15};
constexpr mla_headroom_t MLA_FP8_HEADROOM = {7, 7}; /* 2^7 fits fn (448) and fnuz (240) */

typedef struct mla_softmax_t {
    float base, sum; /* `sum` may be one lane's share of the row's sum */
} mla_softmax_t;

GPU_INLINE mla_softmax_t mla_softmax_start() { return (mla_softmax_t){-GPU_FLT_MAX, 0}; }

/* Whether a score of `top` moves the row's base. */
GPU_INLINE bool mla_base_moves(const mla_softmax_t &row, float top, mla_headroom_t room) {
    return top > row.base + room.above;
}

/* Moves the base for the maximum `top` of all lanes of the row; returns the factor for what has been summed so far. */
GPU_INLINE float mla_move_base(float top, mla_headroom_t room, mla_softmax_t *row) {
    if (!mla_base_moves(*row, top, room)) return 1;
    float base = gpu_max(top - room.below, -GPU_FLT_MAX);
    float factor = gpu_exp2(row->base - base);
    row->base = base;
    row->sum *= factor;
    return factor;
}

/* The factor that converts sums relative to `base` to sums relative to `common`, the largest base of a row's parts. */
GPU_INLINE float mla_rebase(float base, float common) { return gpu_exp2(base - common); }

/* LSE of a whole row: in base 2, times `unit`; `empty` where the row has no key, or only scores of -inf. */
GPU_INLINE float mla_lse(const mla_softmax_t &row, float unit, float empty) {
    if (row.sum == 0) return empty;
    return (row.base + gpu_log2(row.sum)) * unit;
}

#endif
