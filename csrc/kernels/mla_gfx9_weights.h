/* Probabilities as B of the output. */
#ifndef AC_KERNELS_MLA_GFX9_WEIGHTS_H
#define AC_KERNELS_MLA_GFX9_WEIGHTS_H

#include "mla_gfx9_softmax.h"

/* What a row tile's scores become: probabilities of GROUPS groups of keys, as words of B; in a record as numbers, since
 * every block multiplies them by other scales. */
template <class matrix_t, bool SCALED, int GROUPS> struct weights_t {
    uint32_t words[GROUPS * matrix_t::BYTES];
};
template <class matrix_t, int GROUPS> struct weights_t<matrix_t, true, GROUPS> {
    f32x4_t p[GROUPS];
};

template <class matrix_t, int GROUPS>
GPU_INLINE void weigh(const f32x4_t (&p)[GROUPS], weights_t<matrix_t, false, GROUPS> *out) {
    UNROLLED for (int n = 0; n < GROUPS; n++) {
        uint32_t words[matrix_t::BYTES];
        matrix_t::pack(p[n], words);
        UNROLLED for (int w = 0; w < matrix_t::BYTES; w++) out->words[n * matrix_t::BYTES + w] = words[w];
    }
}
template <class matrix_t, int GROUPS>
GPU_INLINE void weigh(const f32x4_t (&p)[GROUPS], weights_t<matrix_t, true, GROUPS> *out) {
    UNROLLED for (int n = 0; n < GROUPS; n++) out->p[n] = p[n];
}

/* The words of one multiplication: WORDS from group `group` on, for block `block`. */
template <class matrix_t, int GROUPS, int WORDS, class scales_f>
GPU_INLINE void words_of(const weights_t<matrix_t, false, GROUPS> &weights, int group, int, scales_f,
                         uint32_t (&out)[WORDS]) {
    UNROLLED for (int w = 0; w < WORDS; w++) out[w] = weights.words[group * matrix_t::BYTES + w];
}
template <class matrix_t, int GROUPS, int WORDS, class scales_f>
GPU_INLINE void words_of(const weights_t<matrix_t, true, GROUPS> &weights, int group, int block, scales_f scales,
                         uint32_t (&out)[WORDS]) {
    constexpr int PER_GROUP = matrix_t::BYTES;
    UNROLLED for (int n = 0; n < WORDS / PER_GROUP; n++) {
        uint32_t words[PER_GROUP];
        f32x4_t weight = weights.p[group + n], scale = scales(group + n, block);
        UNROLLED for (int i = 0; i < 4; i++) /* a hidden key's scale may be NaN */
            weight[i] = weight[i] == 0 ? 0 : weight[i] * scale[i];
        matrix_t::pack(weight, words);
        UNROLLED for (int w = 0; w < PER_GROUP; w++) out[n * PER_GROUP + w] = words[w];
    }
}

#endif
