/* The rows of cache_format.inc as a table. */
#include "cache_format.h"

#include <stddef.h>
#include <string.h>

#include "cache.h"

const ac_cache_format_t ac_cache_formats[AC_KV_FORMAT_COUNT] = {
#define FORMAT(id, ...) [id] = {__VA_ARGS__},
#include "cache_format.inc"
#undef FORMAT
};

const char *const ac_kv_format_names[AC_KV_FORMAT_COUNT + 1] = {
#define FORMAT(id, name, ...) name,
#include "cache_format.inc"
#undef FORMAT
    NULL};

const char *ac_kv_format_name(ac_kv_format_t format) {
    return format < AC_KV_FORMAT_COUNT ? ac_kv_format_names[format] : "?";
}

ac_kv_format_t ac_kv_format_from_name(const char *name) {
    int i = 0;
    while (i < AC_KV_FORMAT_COUNT && strcmp(ac_kv_format_names[i], name) != 0) i++;
    return (ac_kv_format_t)i;
}

int ac_kv_record_bytes(ac_kv_format_t format) {
    const ac_cache_format_t *row = &ac_cache_formats[format];
    if (row->arrangement == AC_BY_ELEMENT) return 0;
    return AC_MLA_DV * ac_dtype_bytes(row->latent_dtype) + row->scale_bytes +
           AC_MLA_ROPE * ac_dtype_bytes(row->rope_dtype);
}
