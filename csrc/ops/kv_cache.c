#include "kv_cache.h"

#include <inttypes.h>

#define LATENT_BYTES 512 /* of a record: one byte a value */
#define SCALE_BYTES 16
#define ROPE_BYTES 128

static int guess_format(ac_arg_t kv, int64_t page_size, ac_kv_format_t *out_format, ac_error_t *error) {
    const ac_view_t *view = kv.view;
    *out_format = AC_KV_PLAIN;
    if (view->dtype != AC_UINT8) return 0;
    if (view->ndim == 2 && view->shape[1] == page_size * AC_RECORD_BYTES) *out_format = AC_KV_3BUFFER;
    else if (view->ndim >= 3 && view->shape[view->ndim - 1] == AC_RECORD_BYTES) *out_format = AC_KV_FP8_DS_MLA;
    else
        return ac_fail(error, AC_ERROR_TYPE,
                       "%s: %s: expected kv_dtype= or kv_format= with a uint8 cache that is neither [num_page, "
                       "page_size * 656] nor [..., 656], got neither", kv.op, kv.name);
    return 0;
}

int ac_kv_cache_kind(ac_arg_t kv, int kv_format, int64_t page_size, ac_kv_kind_t *out_kind, ac_error_t *error) {
    const ac_view_t *view = kv.view;
    ac_kv_format_t format = (ac_kv_format_t)kv_format;
    if (kv_format < 0 && guess_format(kv, page_size, &format, error) < 0) return -1;
    *out_kind = (ac_kv_kind_t){format, view->dtype, AC_MLA_ROPE, AC_MLA_DV + AC_MLA_ROPE};
    if (format != AC_KV_PLAIN) return ac_check_dtype(kv, AC_SET(AC_UINT8), error);

    static const ac_dim_t plain[] = {
        {"num_page", AC_ANY_SIZE}, {"page_size", AC_ANY_SIZE}, {"1", 1}, {"512 or 576", AC_ANY_SIZE}};
    if (ac_check_dtype(kv, AC_HALF | AC_FP8, error) < 0 || ac_check_shape(kv, 4, plain, error) < 0) return -1;
    out_kind->row_width = view->shape[3];
    out_kind->rope_dim = (int32_t)(view->shape[3] - AC_MLA_DV);
    if (view->shape[3] == AC_MLA_DV || view->shape[3] == AC_MLA_DV + AC_MLA_ROPE) return 0;
    return ac_fail(error, AC_ERROR_UNSUPPORTED,
                   "%s: %s: expected rows of 576 (512 + rope 64) or 512 (rope 0) elements, got %" PRId64, kv.op,
                   kv.name, view->shape[3]);
}

static int describe_plain(ac_arg_t kv, const ac_kv_kind_t *kind, int64_t page_size, ac_kv_cache_t *out,
                          ac_error_t *error) {
    const ac_dim_t dims[] = {
        {"num_page", AC_ANY_SIZE}, {"page_size", page_size}, {"1", 1}, {"D", kind->row_width}};
    int bytes = ac_dtype_bytes(kind->dtype);
    if (ac_check_shape(kv, 4, dims, error) < 0) return -1;
    out->latent_dtype = out->rope_dtype = kind->dtype;
    out->latent_stride = out->rope_stride = ac_stride_bytes(kv.view, 1);
    out->rope_offset = AC_MLA_DV * bytes;
    return 0;
}

/* Token by token, [num_page, page_size, 656] or [num_page, page_size, 1, 656]; or flat pages of such rows. */
static int describe_records(ac_arg_t kv, int64_t page_size, ac_kv_cache_t *out, ac_error_t *error) {
    const ac_dim_t flat[] = {{"num_page", AC_ANY_SIZE}, {"page_size * 656", page_size * AC_RECORD_BYTES}};
    const ac_dim_t rows[] = {
        {"num_page", AC_ANY_SIZE}, {"page_size", page_size}, {"656", AC_RECORD_BYTES}};
    const ac_dim_t heads[] = {
        {"num_page", AC_ANY_SIZE}, {"page_size", page_size}, {"1", 1}, {"656", AC_RECORD_BYTES}};
    int ndim = kv.view->ndim;
    if (ac_check_shape(kv, ndim == 2 ? 2 : ndim == 3 ? 3 : 4, ndim == 2 ? flat : ndim == 3 ? rows : heads, error) < 0)
        return -1;
    int64_t row = ndim == 2 ? AC_RECORD_BYTES : ac_stride_bytes(kv.view, 1);
    out->latent_stride = out->scale_stride = out->rope_stride = row;
    out->scale_offset = LATENT_BYTES;
    out->rope_offset = LATENT_BYTES + SCALE_BYTES;
    return 0;
}

/* Region by region, [num_page, page_size * 656]: all latents of the page, all scales, all rope parts. */
static int describe_3buffer(ac_arg_t kv, int64_t page_size, ac_kv_cache_t *out, ac_error_t *error) {
    const ac_dim_t dims[] = {{"num_page", AC_ANY_SIZE}, {"page_size * 656", page_size * AC_RECORD_BYTES}};
    if (ac_check_shape(kv, 2, dims, error) < 0) return -1;
    out->latent_stride = LATENT_BYTES;
    out->scale_stride = SCALE_BYTES;
    out->rope_stride = ROPE_BYTES;
    out->scale_offset = page_size * LATENT_BYTES;
    out->rope_offset = page_size * (LATENT_BYTES + SCALE_BYTES);
    return 0;
}

/* Division by the page size as a multiplication, exact below 2^31: with l = ceil(log2(d)) and m = ceil(2^(31 + l) / d),
 * m fits 32 bits and n * m >> (31 + l) is n / d (Granlund and Montgomery, 1994). */
static void set_page_divisor(ac_kv_cache_t *cache) {
    uint64_t d = (uint64_t)cache->page_size;
    uint32_t log2 = 0;
    while ((uint64_t)1 << log2 < d) log2++;
    cache->page_shift = 31 + log2;
    cache->page_multiplier = (uint32_t)((((uint64_t)1 << cache->page_shift) + d - 1) / d);
}

int ac_kv_cache_describe(ac_arg_t kv, const ac_kv_kind_t *kind, int64_t page_size, ac_kv_cache_t *out_cache,
                         ac_error_t *error) {
    ac_kv_cache_t cache = {.base = kv.view->data,
                           .page_size = (int32_t)page_size,
                           .rope_dim = kind->rope_dim,
                           .latent_dtype = AC_FLOAT8_E4M3FN,
                           .rope_dtype = AC_BFLOAT16,
                           .scale_groups = kind->format == AC_KV_PLAIN ? 0 : 4};
    int failed = 0;
    switch (kind->format) {
    case AC_KV_PLAIN: failed = describe_plain(kv, kind, page_size, &cache, error); break;
    case AC_KV_FP8_DS_MLA: failed = describe_records(kv, page_size, &cache, error); break;
    default: failed = describe_3buffer(kv, page_size, &cache, error);
    }
    if (failed || ac_check_dense_rows(kv, error) < 0) return -1;
    cache.num_pages = kv.view->shape[0];
    cache.page_stride = ac_stride_bytes(kv.view, 0);
    set_page_divisor(&cache);
    *out_cache = cache;
    return 0;
}
