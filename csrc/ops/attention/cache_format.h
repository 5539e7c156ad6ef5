/* The formats of a KV cache: the rows of cache_format.inc. A kernel is chosen by the format and made for its parts; a
 * format that arranges known parts in another way needs a row and no kernel. */
#ifndef AC_OPS_ATTENTION_CACHE_FORMAT_H
#define AC_OPS_ATTENTION_CACHE_FORMAT_H

#include "../../core/dtype.h"

typedef enum ac_arrangement_t {
    AC_BY_ELEMENT, /* [num_page, page_size, 1, D]: rows of one dtype */
    AC_BY_ROW,     /* records: latent, scales, rope part; row after row */
    AC_BY_REGION,  /* of a page: all latents, all scales, all rope parts */
} ac_arrangement_t;

typedef enum ac_kv_format_t {
#define FORMAT(id, ...) id,
#include "cache_format.inc"
#undef FORMAT
    AC_KV_FORMAT_COUNT
} ac_kv_format_t;

typedef struct ac_cache_format_t {
    const char *name;
    ac_dtype_t latent_dtype, scale_dtype;
    int scale_group, scale_bytes;
    ac_dtype_t rope_dtype;
    ac_arrangement_t arrangement;
} ac_cache_format_t;

extern const ac_cache_format_t ac_cache_formats[AC_KV_FORMAT_COUNT];
/* The names alone, ended by NULL: what kv_format= takes. */
extern const char *const ac_kv_format_names[AC_KV_FORMAT_COUNT + 1];

const char *ac_kv_format_name(ac_kv_format_t format);    /* "?" outside the table */
ac_kv_format_t ac_kv_format_from_name(const char *name); /* AC_KV_FORMAT_COUNT: no such name */
/* Bytes of a row of 512 latent and 64 rope elements; 0 for rows of one dtype, whose tensor tells. */
int ac_kv_record_bytes(ac_kv_format_t format);

#endif
