/* The variants of MLA decode: the same op with other tensors. Queries and keys come in two parts, requests have a row
 * of a table and a length, or a fixed number of query rows without an indptr. Nothing is copied: parts that lie beside
 * one another are one view, others are refused. */
#include "variant.h"

#include <inttypes.h>

static const char op_name[] = "mla_decode_fwd";

#define ARG(field) ((ac_arg_t){op_name, #field, args->field})

int ac_mla_join_rows(ac_arg_t arg, int ndim, ac_view_t *view, ac_error_t *error) {
    if (view->ndim != ndim + 1) return 0; /* the rules speak of other ranks */
    const int64_t outer = view->shape[0], inner = view->shape[1];
    if (outer > 1 && inner > 1 && view->stride[0] != view->stride[1] * inner)
        return ac_fail(error, AC_ERROR_VALUE,
                       "%s: %s: expected rows of all requests at one distance, got strides %" PRId64 " and %" PRId64,
                       arg.op, arg.name, view->stride[0], view->stride[1]);
    view->shape[0] = outer * inner;
    if (inner > 1) view->stride[0] = view->stride[1];
    for (int i = 1; i < ndim; i++) {
        view->shape[i] = view->shape[i + 1];
        view->stride[i] = view->stride[i + 1];
    }
    view->ndim = ndim;
    return 0;
}

/* True when `part` has the rows of `view`, and its column `offset` is the one behind the first `columns` of `view`. */
static bool is_behind(const ac_view_t *part, int64_t offset, const ac_view_t *view, int64_t columns) {
    const int64_t bytes = ac_dtype_bytes(view->dtype);
    const int last = view->ndim - 1;
    if (part->dtype != view->dtype) return false;
    if (part->device.type != view->device.type || part->device.index != view->device.index) return false;
    for (int i = 0; i < last; i++)
        if (part->shape[i] != view->shape[i]) return false;
    if (ac_view_numel(view) == 0) return true; /* strides have no meaning, and there may be no address */
    for (int i = 0; i < last; i++)
        if (part->shape[i] > 1 && part->stride[i] != view->stride[i]) return false;
    if (part->stride[last] != 1 || view->stride[last] != 1) return false;
    return (intptr_t)part->data + offset * bytes == (intptr_t)view->data + columns * bytes;
}

/* Makes `view` wide enough for its rope part. */
static int append_rope(ac_arg_t part, int64_t offset, ac_arg_t of, ac_view_t *view, ac_error_t *error) {
    const int last = view->ndim - 1;
    const bool fits = last >= 1 && part.view->ndim == view->ndim && view->shape[last] >= AC_MLA_DV && offset >= 0 &&
                      part.view->shape[last] - AC_MLA_ROPE >= offset;
    if (fits && is_behind(part.view, offset, view, AC_MLA_DV)) {
        view->shape[last] = AC_MLA_DV + AC_MLA_ROPE;
        return 0;
    }
    return ac_fail(error, AC_ERROR_UNSUPPORTED,
                   "%s: %s: expected the %d columns behind the first %d of %s, in the same memory, got another tensor",
                   part.op, part.name, AC_MLA_ROPE, AC_MLA_DV, of.name);
}

/* [N, D] and [N, page_size, D] are plain caches too. */
static void page_rows(int64_t page_size, ac_view_t *kv) {
    const int last = kv->ndim - 1;
    if (kv->ndim != 2 && kv->ndim != 3) return;
    if ((kv->ndim == 2 ? 1 : kv->shape[1]) != page_size) return;
    const int64_t width = kv->shape[last], step = kv->stride[last], row = kv->stride[last - 1];
    kv->shape[1] = page_size;
    kv->shape[2] = 1;
    kv->stride[1] = kv->stride[2] = row;
    kv->shape[3] = width;
    kv->stride[3] = step;
    kv->ndim = 4;
}

static int check_lists(const ac_mla_decode_args_t *args, ac_error_t *error) {
    if (!args->block_tables && !args->kv_lens)
        return ac_check_given(ARG(kv_indptr), error) < 0 ? -1 : ac_check_given(ARG(kv_indices), error);
    if (args->kv_indptr || args->kv_indices)
        return ac_fail(error, AC_ERROR_VALUE, "%s: kv_indptr: expected None with block_tables, got a tensor", op_name);
    if (ac_check_given(ARG(block_tables), error) < 0) return -1;
    return args->slots ? 0 : ac_check_given(ARG(kv_lens), error);
}

static int check_not_segmented(ac_arg_t arg, ac_error_t *error) {
    return arg.view ? ac_fail(error, AC_ERROR_VALUE, "%s: %s: expected None of a segmented call, got a tensor", arg.op,
                              arg.name)
                    : 0;
}

int ac_mla_check_variant(ac_mla_decode_args_t *args, ac_error_t *error) {
    args->nhead_kv = 1;
    if (args->segmented &&
        (check_not_segmented(ARG(sink), error) < 0 || check_not_segmented(ARG(g_kv_indptr), error) < 0))
        return -1;
    if (check_lists(args, error) < 0) return -1;
    if (!args->segmented && ac_check_given(ARG(o), error) < 0) return -1;
    if (args->max_kv_len != AC_NO_INT && ac_check_int(op_name, "max_kv_len", args->max_kv_len, 0, INT64_MAX, error) < 0)
        return -1;
    if (args->q_pe && append_rope(ARG(q_pe), 0, ARG(q), args->q, error) < 0) return -1;
    if (args->k_pe && append_rope(ARG(k_pe), args->kv_pe_offset, ARG(kv_buffer), args->kv_buffer, error) < 0) return -1;
    args->q_pe = args->k_pe = NULL;
    if (args->kv_format == AC_KV_PLAIN) page_rows(args->page_size, args->kv_buffer);
    if (args->slots && args->o) ac_view_narrow(args->o, AC_MLA_DV);
    if (args->qo_indptr) return 0;
    if (ac_mla_join_rows(ARG(q), 3, args->q, error) < 0) return -1;
    return args->o ? ac_mla_join_rows(ARG(o), 3, args->o, error) : 0;
}
