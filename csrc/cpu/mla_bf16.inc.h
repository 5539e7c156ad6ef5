/* What the bf16 engines have in common: scratch, queries, keys and values in bf16. They serve bf16 and fp8 queries over bf16
 * and fp8 keys: fp8 is exact in bf16. Only the probabilities are rounded. (Dequantised records would be rounded too, by
 * more than the LSE's tolerance: they take the fp32 engine.) */

#include "fp8_to_bf16.h"

typedef struct ac_cpu_bf16_local {
    float query[AC_LOCAL_ROWS * AC_LOCAL_KEY / 2];
    float keys[AC_LOCAL_DOT_TOKENS * AC_LOCAL_KEY / 2]; /* [key][pair of elements] */
    /* [block of 64 columns][pair of keys][column]; 32 columns each in the order that unpacking leaves them in */
    float values[AC_LOCAL_DOT_TOKENS / 2 * AC_LOCAL_VALUE];
    float scores[AC_LOCAL_DOT_TOKENS * AC_LOCAL_ROWS];
    float acc[AC_LOCAL_ROWS * AC_LOCAL_VALUE];
    float top[AC_LOCAL_ROWS], sum[AC_LOCAL_ROWS], rescale[AC_LOCAL_ROWS];
    float row[AC_LOCAL_KEY];
} local_t_bf16;

#define VALUE_BLOCK 64 /* columns */
#define VALUE_BLOCK_WORDS (AC_LOCAL_DOT_TOKENS / 2 * VALUE_BLOCK)

_Static_assert(sizeof(local_t_bf16) == AC_LOCAL_DOT, "local.h does not add up");
_Static_assert(AC_LOCAL_DOT_TOKENS % 16 == 0, "a register tile would leave the block");
_Static_assert(AC_PV_VECS * AC_LANES == VALUE_BLOCK, "a register tile of the output takes one block of values");

static void load_query_bf16(int32_t dtype, const char *q, int dim, float *out_words) {
    int bytes = ac_cpu_element_bytes(dtype);
    for (int i = 0; i < dim; i += 64) {
        ac_cpu_bf16x64_t x = ac_cpu_load_bf16x64(dtype, q + i * bytes);
        _mm512_storeu_si512(out_words + i / 2, x.half[0]);
        _mm512_storeu_si512(out_words + i / 2 + 16, x.half[1]);
    }
}

static inline void store_key(float *key, ac_cpu_bf16x64_t x) {
    _mm512_storeu_si512(key, x.half[0]);
    _mm512_storeu_si512(key + 16, x.half[1]);
}

/* 64 latent elements of a row, from `column` on. */
static inline __attribute__((always_inline)) ac_cpu_bf16x64_t load_latent(const int32_t dtype,
                                                                          const ac_cpu_kv_row_t *row, int column) {
    return ac_cpu_load_bf16x64(dtype, row->latent + column * (dtype == AC_BFLOAT16 ? 2 : 1));
}

/* Keys into the scratch as they are, and once more as values: interleaved in pairs of keys. The partner of an odd last
 * key is zero. */
static inline __attribute__((always_inline)) void load_latents(const int32_t dtype,
                                                               const ac_cpu_kv_block_t *block, local_t_bf16 *local) {
    for (int t = 0; t < block->num_tokens; t += 2) {
        int has_partner = t + 1 < block->num_tokens;
        float *key = local->keys + t * AC_LOCAL_KEY / 2;
        float *value = local->values + t / 2 * VALUE_BLOCK;
        for (int column = 0; column < AC_MLA_DV; column += VALUE_BLOCK, value += VALUE_BLOCK_WORDS) {
            ac_cpu_bf16x64_t b = {{_mm512_setzero_si512(), _mm512_setzero_si512()}};
            ac_cpu_bf16x64_t a = load_latent(dtype, &block->rows[t], column);
            store_key(key + column / 2, a);
            if (has_partner) {
                b = load_latent(dtype, &block->rows[t + 1], column);
                store_key(key + (AC_LOCAL_KEY + column) / 2, b);
            }
            for (int i = 0; i < 2; i++) {
                _mm512_storeu_si512(value + 32 * i, _mm512_unpacklo_epi16(a.half[i], b.half[i]));
                _mm512_storeu_si512(value + 32 * i + 16, _mm512_unpackhi_epi16(a.half[i], b.half[i]));
            }
        }
    }
}

static void load_block_bf16(const ac_kv_cache_t *kv, const ac_cpu_kv_block_t *block, local_t_bf16 *local) {
    if (kv->latent_dtype == AC_BFLOAT16) load_latents(AC_BFLOAT16, block, local);
    else if (kv->latent_dtype == AC_FLOAT8_E4M3FN) load_latents(AC_FLOAT8_E4M3FN, block, local);
    else load_latents(AC_FLOAT8_E4M3FNUZ, block, local);
    for (int t = 0; kv->rope_dim && t < block->num_tokens; t++)
        store_key(local->keys + (t * AC_LOCAL_KEY + AC_MLA_DV) / 2,
                  ac_cpu_load_bf16x64(kv->rope_dtype, block->rows[t].rope));
}

/* The values from `column` on, and the distance of a unit from the next. */
static inline const float *values_bf16(const local_t_bf16 *local, int column, int *out_stride) {
    *out_stride = VALUE_BLOCK;
    return local->values + column / VALUE_BLOCK * VALUE_BLOCK_WORDS;
}

static inline void store_p_bf16(float *p, const v_t pair[2]) {
    __m512i first = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(pair[0]));
    __m512i second = _mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh(pair[1]));
    _mm512_storeu_si512(p, _mm512_or_si512(first, _mm512_slli_epi32(second, 16)));
}

/* Unpacking takes fours of columns in turns from 128-bit lanes: puts 32 columns each back into their order. */
static void order_columns_bf16(float *acc) {
    const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 16, 17, 18, 19, 4, 5, 6, 7, 20, 21, 22, 23);
    const __m512i second = _mm512_add_epi32(first, _mm512_set1_epi32(8));
    for (int i = 0; i < AC_MLA_DV; i += 32) {
        v_t low = v_load(acc + i), high = v_load(acc + i + 16);
        v_store(acc + i, _mm512_permutex2var_ps(low, first, high));
        v_store(acc + i + 16, _mm512_permutex2var_ps(low, second, high));
    }
}
