/* The rows that are written: where each comes from, where it goes, and how. Every value of the caller's index tensors
 * is clamped here, so that everything after it can trust them. The same code runs in the kernels of every device. */
#ifndef AC_OPS_CACHE_WRITE_ROWS_H
#define AC_OPS_CACHE_WRITE_ROWS_H

#include "../../core/dtype.h"
#include "../../core/fp8.h"
#include "../attention/slots.h"
#include "kernel_params.h"

#define AC_RECORD_GROUP 128 /* latent elements that a scale of a quantised record is of */

/* One row. Addresses are NULL where nothing is written. */
typedef struct ac_cache_row_t {
    const char *latent, *rope;
    int32_t latent_dim;
    char *to_latent, *to_rope;
    char *to_scales; /* not NULL: the latent is quantised by groups */
    int32_t latent_dtype, rope_dtype;
    ac_fp8_scale_t scale;
    int64_t angle;   /* row of cos and sin; -1: the rope part is not turned */
    char *rope_copy; /* in the sources' dtype */
    char *zeros;     /* as many as a key's latent has, in that dtype too */
} ac_cache_row_t;

AC_INLINE float ac_scale_value(const ac_scale_t *scale) {
    return scale->pointer ? ac_float_of((uint32_t)ac_list_entry((const int32_t *)scale->pointer, 0)) : scale->value;
}

AC_INLINE const char *ac_source_row(const char *part, int64_t stride, int64_t head_stride, int64_t token,
                                    int64_t head) {
    return part + token * stride + head * head_stride;
}
AC_INLINE char *ac_target_row(const ac_row_target_t *target, int64_t token, int64_t head) {
    return target->data ? target->data + token * target->stride + head * target->head_stride : (char *)0;
}

AC_INLINE int64_t ac_cache_rows_per_token(const ac_cache_write_params_t *p) {
    return (int64_t)p->key.heads + p->query.heads;
}

/* The slot of a token in the cache, or -1. */
AC_INLINE int64_t ac_slot_of_token(const ac_cache_write_params_t *p, int64_t token) {
    if (token >= p->num_mapped) return -1;
    const int64_t slot = ac_long_entry(p->slots, token * p->slots_stride);
    return ac_slot_is_in(slot, p->cache.num_entries, p->cache.page_size) ? slot : -1;
}

AC_INLINE void ac_key_row(const ac_cache_write_params_t *p, int64_t token, int64_t head, ac_cache_row_t *row) {
    const int64_t slot = ac_slot_of_token(p, token);
    row->latent = ac_source_row(p->key.latent, p->key.latent_stride, p->key.latent_head_stride, token, head);
    row->rope = ac_source_row(p->key.rope, p->key.rope_stride, p->key.rope_head_stride, token, head);
    row->latent_dim = p->key.latent_dim;
    if (p->rope.positions && token < p->num_rotated) row->angle = ac_rope_row(&p->rope, token);
    row->rope_copy = ac_target_row(&p->key_rope, token, head);
    if (slot < 0) return;
    int64_t line;
    const int64_t page = ac_slot_page(slot, p->cache.page_size, &line);
    char *at = (char *)(uintptr_t)p->cache.base + page * p->cache.page_stride + head * p->cache_head_stride;
    row->to_latent = at + p->cache.latent_offset + line * p->cache.latent_stride;
    row->to_rope = at + p->cache.rope_offset + line * p->cache.rope_stride;
    if (p->cache.scale_groups) row->to_scales = at + p->cache.scale_offset + line * p->cache.scale_stride;
    row->latent_dtype = p->cache.latent_dtype;
    row->rope_dtype = p->cache.rope_dtype;
    row->scale = ac_fp8_scale(ac_scale_value(&p->key_scale), p->key_divides);
}

AC_INLINE void ac_query_row(const ac_cache_write_params_t *p, int64_t token, int64_t head, ac_cache_row_t *row) {
    if (token >= p->num_queries || (!p->writes_all && ac_slot_of_token(p, token) < 0)) return;
    char *to = ac_target_row(&p->query_out, token, head);
    row->latent = ac_source_row(p->query.latent, p->query.latent_stride, p->query.latent_head_stride, token, head);
    row->rope = ac_source_row(p->query.rope, p->query.rope_stride, p->query.rope_head_stride, token, head);
    row->latent_dim = p->query.latent_dim;
    row->to_latent = to + p->query_latent_offset;
    row->to_rope = to + p->query_rope_offset;
    row->latent_dtype = row->rope_dtype = p->query_dtype;
    row->scale = ac_fp8_scale(ac_scale_value(&p->query_scale), 0);
    if (p->rope.positions) row->angle = ac_rope_row(&p->rope, token);
    if (token >= p->num_decoded) return;
    row->rope_copy = ac_target_row(&p->query_rope, token, head);
    row->zeros = ac_target_row(&p->zeros, token, head);
}

/* Row number n of all: those of the first token, keys before queries, then those of the next. */
AC_INLINE ac_cache_row_t ac_cache_row(const ac_cache_write_params_t *p, int64_t n) {
    const int64_t per_token = ac_cache_rows_per_token(p), token = n / per_token, number = n - token * per_token;
    ac_cache_row_t row = {0};
    row.angle = -1;
    if (number < p->key.heads) ac_key_row(p, token, number, &row);
    else ac_query_row(p, token, number - p->key.heads, &row);
    return row;
}

/* The scale of a record's group: what makes the largest 448, but a normal number. */
AC_INLINE float ac_record_scale(float largest) {
    const float scale = ac_run_scale(largest, 448.0f);
    return scale > AC_FLOAT_MIN ? scale : AC_FLOAT_MIN;
}

#endif
