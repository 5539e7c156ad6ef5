/* The kernel of merge_states on one state, in place. */
#include "sink.h"

#include "../../core/check.h"
#include "kernel_params.h"
#include "vectors.h"

extern const ac_kernel_family_t ac_kernels_merge_states;

int ac_apply_sink(const char *op, const ac_target_t *target, const ac_view_t *o, const ac_view_t *lse,
                  const ac_view_t *sink, intptr_t stream, ac_error_t *error) {
    const int64_t T = o->shape[0], H = o->shape[1], D = o->shape[2];
    const ac_kernel_request_t request = {
        .op = op,
        .family = &ac_kernels_merge_states,
        .keys = {o->dtype, o->dtype, D},
        .features = AC_WRITES_FINAL | AC_SINK,
        .rows = T * H,
    };
    const ac_kernel_t *kernel = ac_choose_kernel(&request, target->facts.arch, error);
    if (!kernel) return -1;
    const ac_merge_states_params_t params = {
        .sources = {{o->data, lse->data, ac_stride_bytes(o, 0), ac_stride_bytes(o, 1), H * 4, 4}},
        .sink = ac_floats(sink),
        .out = o->data,
        .out_row_stride = ac_stride_bytes(o, 0),
        .out_head_stride = ac_stride_bytes(o, 1),
        .num_rows = T,
        .num_states = 1,
        .num_heads = (int32_t)H,
        .value_dim = (int32_t)D,
        .o_dtype = (int32_t)o->dtype,
        .out_dtype = (int32_t)o->dtype,
        .whole_vectors = ac_is_whole_vectors(D * ac_dtype_bytes(o->dtype)) && ac_rows_are_aligned(o),
        .keep_empty = 1,
    };
    const ac_launch_t launch = {
        .kernel = kernel,
        .params = &params,
        .params_bytes = sizeof params,
        .grid = (T * H + kernel->tile_rows - 1) / kernel->tile_rows,
        .stream = stream,
        .writes = AC_WRITES_FINAL,
        .final_rows = params.out,
    };
    return ac_launch(target, &launch, error);
}
