/* What the kernels of one instruction set share; included behind its simd_*.h. */

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#include "../core/dtype.h"
#include "mla_item.h"

static inline int ac_cpu_element_bytes(int32_t dtype) {
    return dtype == AC_FLOAT32 ? 4 : dtype == AC_BFLOAT16 || dtype == AC_FLOAT16 ? 2 : 1;
}

static inline int ac_cpu_is_fp8(int32_t dtype) { return dtype == AC_FLOAT8_E4M3FN || dtype == AC_FLOAT8_E4M3FNUZ; }

static inline float ac_cpu_scale(const ac_scale_t *scale) { return scale->pointer ? *scale->pointer : scale->value; }

/* A per-tensor scale counts only for an fp8 operand; records carry their own. */
static inline float ac_cpu_query_scale(const ac_mla_decode_params_t *p) {
    return ac_cpu_is_fp8(p->q_dtype) ? ac_cpu_scale(&p->q_scale) : 1.0f;
}

static inline float ac_cpu_value_scale(const ac_mla_decode_params_t *p) {
    return ac_cpu_is_fp8(p->kv.latent_dtype) && p->kv.scale_groups == 0 ? ac_cpu_scale(&p->kv_scale) : 1.0f;
}

/* An output row: 512 values times `scale`, rounded once. */
static inline void ac_cpu_store_row(char *o, int32_t dtype, const float *row, v_t scale) {
    if (dtype == AC_BFLOAT16)
        for (int i = 0; i < AC_MLA_DV; i += AC_LANES) v_store_bf16(o + 2 * i, v_mul(v_load(row + i), scale));
    else
        for (int i = 0; i < AC_MLA_DV; i += AC_LANES) v_store_f16(o + 2 * i, v_mul(v_load(row + i), scale));
}
