/* The kv_buffer argument: which format it has, and where the parts of its rows are. */
#include "cache_arg.h"

#include <inttypes.h>
#include <stdio.h>

#include "divisor.h"

/* The record format that dtype uint8 and the shape mean. The record sizes are those of the formats that AITER's calls
 * know; another format has to be named. */
static int guess_format(ac_arg_t kv, int64_t page_size, ac_kv_format_t *out_format, ac_error_t *error) {
    const ac_view_t *view = kv.view;
    const int64_t row = ac_kv_record_bytes(AC_KV_FP8_DS_MLA);
    *out_format = AC_KV_PLAIN;
    if (view->dtype != AC_UINT8) return 0;
    if (view->ndim == 2 && view->shape[1] == page_size * row) *out_format = AC_KV_3BUFFER;
    else if (view->ndim >= 3 && view->shape[view->ndim - 1] == row) *out_format = AC_KV_FP8_DS_MLA;
    else
        return ac_fail(error, AC_ERROR_TYPE,
                       "%s: %s: expected kv_dtype= or kv_format= with a uint8 cache that is neither [num_page, "
                       "page_size * 656] nor [..., 656], got neither",
                       kv.op, kv.name);
    return 0;
}

/* kv_dtype=. Records stay uint8, whatever they hold. */
static int apply_dtype(ac_arg_t kv, ac_view_t *view, int kv_format, ac_dtype_t kv_dtype, ac_error_t *error) {
    if (kv_dtype == AC_DTYPE_NONE) return 0;
    const bool records = kv_format >= 0 && ac_cache_formats[kv_format].arrangement != AC_BY_ELEMENT;
    if (records && kv_dtype != AC_UINT8)
        return ac_fail(error, AC_ERROR_TYPE, "%s: kv_dtype: expected uint8 or None for kv_format='%s', got %s", kv.op,
                       ac_kv_format_name((ac_kv_format_t)kv_format), ac_dtype_name(kv_dtype));
    return ac_view_retype(kv, "kv_dtype", kv_dtype, view, error);
}

int ac_kv_cache_kind(ac_arg_t kv, ac_view_t *view, int kv_format, ac_dtype_t kv_dtype, int64_t page_size,
                     ac_kv_kind_t *out_kind, ac_error_t *error) {
    ac_kv_format_t format = (ac_kv_format_t)kv_format;
    if (apply_dtype(kv, view, kv_format, kv_dtype, error) < 0) return -1;
    if (kv_format < 0 && guess_format(kv, page_size, &format, error) < 0) return -1;
    *out_kind = (ac_kv_kind_t){format, view->dtype, AC_MLA_ROPE, AC_MLA_DV + AC_MLA_ROPE};
    if (ac_cache_formats[format].arrangement != AC_BY_ELEMENT) return ac_check_dtype(kv, AC_SET(AC_UINT8), error);

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

static int describe_elements(ac_arg_t kv, const ac_kv_kind_t *kind, int64_t page_size, ac_kv_cache_t *out,
                             ac_error_t *error) {
    const ac_dim_t dims[] = {{"num_page", AC_ANY_SIZE}, {"page_size", page_size}, {"1", 1}, {"D", kind->row_width}};
    if (ac_check_shape(kv, 4, dims, error) < 0) return -1;
    out->latent_dtype = out->rope_dtype = kind->dtype;
    out->latent_stride = out->rope_stride = ac_stride_bytes(kv.view, 1);
    out->rope_offset = AC_MLA_DV * ac_dtype_bytes(kind->dtype);
    return 0;
}

/* [num_page, page_size, bytes] or [num_page, page_size, 1, bytes]; or flat pages of such rows. */
static int describe_rows(ac_arg_t kv, int64_t bytes, int64_t latent, int64_t scales, int64_t page_size,
                         ac_kv_cache_t *out, ac_error_t *error) {
    char row_text[24], page_text[40];
    snprintf(row_text, sizeof row_text, "%" PRId64, bytes);
    snprintf(page_text, sizeof page_text, "page_size * %" PRId64, bytes);
    const ac_dim_t flat[] = {{"num_page", AC_ANY_SIZE}, {page_text, page_size * bytes}};
    const ac_dim_t rows[] = {{"num_page", AC_ANY_SIZE}, {"page_size", page_size}, {row_text, bytes}};
    const ac_dim_t heads[] = {{"num_page", AC_ANY_SIZE}, {"page_size", page_size}, {"1", 1}, {row_text, bytes}};
    const int ndim = kv.view->ndim;
    if (ac_check_shape(kv, ndim == 2 ? 2 : ndim == 3 ? 3 : 4, ndim == 2 ? flat : ndim == 3 ? rows : heads, error) < 0)
        return -1;
    out->latent_stride = out->scale_stride = out->rope_stride = ndim == 2 ? bytes : ac_stride_bytes(kv.view, 1);
    out->scale_offset = latent;
    out->rope_offset = latent + scales;
    return 0;
}

/* [num_page, page_size * bytes]: all latents of the page, all scales, all rope parts. */
static int describe_regions(ac_arg_t kv, int64_t bytes, int64_t latent, int64_t scales, int64_t page_size,
                            ac_kv_cache_t *out, ac_error_t *error) {
    char page_text[40];
    snprintf(page_text, sizeof page_text, "page_size * %" PRId64, bytes);
    const ac_dim_t dims[] = {{"num_page", AC_ANY_SIZE}, {page_text, page_size * bytes}};
    if (ac_check_shape(kv, 2, dims, error) < 0) return -1;
    out->latent_stride = latent;
    out->scale_stride = scales;
    out->rope_stride = bytes - latent - scales;
    out->scale_offset = page_size * latent;
    out->rope_offset = page_size * (latent + scales);
    return 0;
}

int ac_kv_cache_describe(ac_arg_t kv, const ac_kv_kind_t *kind, int64_t page_size, bool slots, ac_kv_cache_t *out_cache,
                         ac_error_t *error) {
    const ac_cache_format_t *format = &ac_cache_formats[kind->format];
    const int64_t bytes = ac_kv_record_bytes(kind->format);
    const int64_t latent = AC_MLA_DV * ac_dtype_bytes(format->latent_dtype), scales = format->scale_bytes;
    ac_kv_cache_t cache = {.base = kv.view->data,
                           .page_size = (int32_t)page_size,
                           .entry_rows = slots ? 1 : (int32_t)page_size,
                           .rope_dim = kind->rope_dim,
                           .latent_dtype = (int32_t)format->latent_dtype,
                           .rope_dtype = (int32_t)format->rope_dtype,
                           .scale_groups = format->scale_group ? AC_MLA_DV / format->scale_group : 0};
    int failed = 0;
    switch (format->arrangement) {
    case AC_BY_ELEMENT: failed = describe_elements(kv, kind, page_size, &cache, error); break;
    case AC_BY_ROW: failed = describe_rows(kv, bytes, latent, scales, page_size, &cache, error); break;
    case AC_BY_REGION: failed = describe_regions(kv, bytes, latent, scales, page_size, &cache, error); break;
    }
    if (failed || ac_check_dense_rows(kv, error) < 0) return -1;
    if (__builtin_mul_overflow(kv.view->shape[0], slots ? page_size : 1, &cache.num_entries))
        cache.num_entries = INT64_MAX;
    cache.page_stride = ac_stride_bytes(kv.view, 0);
    const ac_divisor_t page = ac_divisor(page_size); /* pages without rows: nothing is divided */
    cache.page_multiplier = page.multiplier;
    cache.page_shift = page.shift;
    *out_cache = cache;
    return 0;
}
