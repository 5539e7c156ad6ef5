/* The fp32 engine: every operand is widened to fp32 on its way into the scratch, exactly. Serves every dtype. */

typedef struct ac_cpu_f32_local {
    float query[AC_LOCAL_ROWS * AC_LOCAL_KEY];
    float keys[AC_LOCAL_F32_TOKENS * AC_LOCAL_KEY]; /* [key][element] */
    float scores[AC_LOCAL_F32_TOKENS * AC_LOCAL_ROWS];
    float acc[AC_LOCAL_ROWS * AC_LOCAL_VALUE];
    float top[AC_LOCAL_ROWS], sum[AC_LOCAL_ROWS], rescale[AC_LOCAL_ROWS];
    float row[AC_LOCAL_KEY];
} local_t_f32;

_Static_assert(sizeof(local_t_f32) == AC_LOCAL_F32, "local.h does not add up");
_Static_assert(AC_LOCAL_F32_TOKENS % AC_QK_TOKENS == 0, "a register tile would leave the block");

static inline __attribute__((always_inline)) void ac_cpu_widen_with(v_t (*load)(const char *), int bytes,
                                                                    const char *from, int count, float *to) {
    for (int i = 0; i < count; i += AC_LANES) v_store(to + i, load(from + i * bytes));
}

static inline v_t ac_cpu_load_f32(const char *p) {
    float lanes[AC_LANES];
    memcpy(lanes, p, sizeof lanes);
    return v_load(lanes);
}

/* `count` elements, a multiple of AC_LANES, to fp32. */
static void ac_cpu_widen(int32_t dtype, const char *from, int count, float *to) {
    switch (dtype) {
    case AC_BFLOAT16: ac_cpu_widen_with(v_load_bf16, 2, from, count, to); break;
    case AC_FLOAT16: ac_cpu_widen_with(v_load_f16, 2, from, count, to); break;
    case AC_FLOAT32: ac_cpu_widen_with(ac_cpu_load_f32, 4, from, count, to); break;
    case AC_FLOAT8_E4M3FN: ac_cpu_widen_with(v_load_fp8_fn, 1, from, count, to); break;
    default: ac_cpu_widen_with(v_load_fp8_fnuz, 1, from, count, to); break;
    }
}

static inline void load_query_f32(int32_t dtype, const char *q, int dim, float *out_words) {
    ac_cpu_widen(dtype, q, dim, out_words);
}

static void load_block_f32(const ac_kv_cache_t *kv, const ac_cpu_kv_block_t *block, local_t_f32 *local) {
    for (int t = 0; t < block->num_tokens; t++) {
        const ac_cpu_kv_row_t *row = &block->rows[t];
        float *key = local->keys + t * AC_LOCAL_KEY;
        ac_cpu_widen(kv->latent_dtype, row->latent, AC_MLA_DV, key);
        for (int i = 0; kv->scale_groups && i < AC_MLA_DV; i += AC_LANES) {
            float scale; /* unaligned in the record */
            memcpy(&scale, row->scales + i / (AC_MLA_DV / kv->scale_groups) * (int)sizeof scale, sizeof scale);
            v_store(key + i, v_mul(v_load(key + i), v_set1(scale)));
        }
        ac_cpu_widen(kv->rope_dtype, row->rope, kv->rope_dim, key + AC_MLA_DV);
    }
}

/* The values from `column` on, and the distance of a unit from the next. */
static inline const float *values_f32(const local_t_f32 *local, int column, int *out_stride) {
    *out_stride = AC_LOCAL_KEY;
    return local->keys + column;
}

static inline void store_p_f32(float *p, const v_t pair[2]) { v_store(p, pair[0]); }
static inline void order_columns_f32(float *acc) { (void)acc; }

#define ENGINE(name) name##_f32
#define AC_PAIR 1
#define AC_BLOCK AC_LOCAL_F32_TOKENS
#define AC_TILES "mla_register_tiles.inc.h"
#define QK_VECS AC_QK_VECS
#define QK_TOKENS AC_QK_TOKENS
#define QK_CHUNKS 4
#define v_mac(a, b, c) v_fma(a, b, c)
#include "mla_decode.inc.h"
#undef ENGINE
#undef AC_PAIR
#undef AC_BLOCK
#undef AC_TILES
#undef QK_VECS
#undef QK_TOKENS
#undef QK_CHUNKS
#undef v_mac
