/* Rotary embedding: which angle a token has, which elements of a row make a pair, and what a pair becomes. */
#ifndef AC_OPS_ATTENTION_ROPE_H
#define AC_OPS_ATTENTION_ROPE_H

#include "../../core/exact.h"
#include "work.h"

/* Pair i of a row is elements (i, i + pairs) where `neox`, else (2i, 2i + 1). Strides in bytes unless they say entries.
 */
typedef struct ac_rope_t {
    const int64_t *positions; /* [tokens]: rows of cos and sin, clamped to them */
    int64_t positions_stride; /* entries */
    const char *cos, *sin;    /* [rows, pairs]; or where `own` [rows, 2 pairs]: an angle for each element of a pair */
    int64_t rows, cos_stride, sin_stride;
    int32_t dtype; /* of cos and sin: bfloat16, float16 or float32 */
    int32_t pairs;
    int32_t neox, own;
} ac_rope_t;

/* Entry i of a list of int64 in the caller's memory; see ac_list_entry. */
AC_INLINE int64_t ac_long_entry(const int64_t *list, int64_t i) {
#if defined(__AMDGCN__)
    return *(const __attribute__((address_space(4))) int64_t *)(list + i);
#else
    return list[i];
#endif
}

/* The row of cos and sin of a token. */
AC_INLINE int64_t ac_rope_row(const ac_rope_t *rope, int64_t token) {
    return ac_clamp64(ac_long_entry(rope->positions, token * rope->positions_stride), 0, rope->rows - 1);
}

/* The elements of pair i; their angles, where each has its own, are at the same places. */
AC_INLINE int32_t ac_rope_first(const ac_rope_t *rope, int32_t i) { return rope->neox ? i : 2 * i; }
AC_INLINE int32_t ac_rope_second(const ac_rope_t *rope, int32_t i) { return rope->neox ? i + rope->pairs : 2 * i + 1; }

/* (a, b) turned: each element by the cos and sin of its own, in fp32, every operation rounded. */
AC_INLINE float ac_rope_turn_first(float a, float b, float cos, float sin) {
    return ac_sub(ac_mul(a, cos), ac_mul(b, sin));
}
AC_INLINE float ac_rope_turn_second(float a, float b, float cos, float sin) {
    return ac_add(ac_mul(b, cos), ac_mul(a, sin));
}

#endif
