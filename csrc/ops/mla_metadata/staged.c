/* Work lists whose tensors are on the CPU and on a GPU: planned on the CPU, with copies of those on the GPU. It waits
 * for the device before and after, so that everything is complete on return and no stream can be the wrong one. */
#include "args.h"

#include <string.h>

typedef struct {
    const ac_view_t *view;
    int64_t words; /* of int32 */
    void *field;   /* of the params: its address */
    bool is_output;
    char *host; /* its copy */
} staged_t;
#define TENSORS 9

/* The tensors that the planner touches, the tag first. */
static int list_tensors(const ac_mla_metadata_args_t *args, ac_mla_metadata_params_t *p, staged_t out[TENSORS]) {
    const int64_t indptr = args->seqlens_qo_indptr->shape[0];
    const struct {
        const ac_view_t *view;
        int64_t words; /* that are read; -1: an output */
        void *field;
    } rows[TENSORS] = {
        {args->work_metadata_ptrs, -1, &p->tag},
        {args->work_info_set, -1, &p->work_info},
        {args->work_indptr, -1, &p->work_indptr},
        {args->reduce_indptr, -1, &p->reduce_indptr},
        {args->reduce_final_map, -1, &p->final_map},
        {args->reduce_partial_map, -1, &p->partial_map},
        {args->seqlens_qo_indptr, indptr, &p->qo_indptr},
        {args->seqlens_kv_indptr, indptr, &p->kv_indptr},
        {args->kv_last_page_lens, indptr - 1, &p->last_page_lens},
    };
    int count = 0;
    for (int i = 0; i < TENSORS - (args->page_size == 1); i++) {
        const bool is_output = rows[i].words < 0;
        const int64_t bytes = ac_view_numel(rows[i].view) * ac_dtype_bytes(rows[i].view->dtype);
        if (rows[i].view->device.type == AC_DEVICE_CPU) continue;
        out[count++] = (staged_t){rows[i].view, is_output ? bytes / 4 : rows[i].words, rows[i].field, is_output, NULL};
    }
    return count;
}

/* Each copy begins at an even word. */
static int64_t room(const staged_t *tensor) { return tensor->words + tensor->words % 2; }

int64_t ac_staging_words(const ac_mla_metadata_args_t *args) {
    staged_t tensors[TENSORS];
    ac_mla_metadata_params_t unused;
    int64_t words = 1; /* to begin at an even one */
    const int count = list_tensors(args, &unused, tensors);
    for (int i = 0; i < count; i++) words += room(&tensors[i]);
    return words;
}

static int copy(const ac_mla_metadata_args_t *args, void *to, const void *from, int64_t words, intptr_t stream,
                ac_error_t *error) {
    const ac_runtime_t *runtime = args->target.runtime;
    return runtime->copy(runtime, args->target.device.index, to, from, (size_t)words * 4, stream, error);
}

static int wait(const ac_mla_metadata_args_t *args, ac_error_t *error) {
    const ac_runtime_t *runtime = args->target.runtime;
    return runtime->synchronize(runtime, args->target.device.index, error);
}

static int refuse_capture(const ac_mla_metadata_args_t *args, intptr_t stream, ac_error_t *error) {
    const ac_runtime_t *runtime = args->target.runtime;
    bool capturing = false;
    if (runtime->is_capturing(runtime, args->target.device.index, stream, &capturing, error) < 0) return -1;
    if (!capturing) return 0;
    char text[48];
    return ac_fail(error, AC_ERROR_VALUE,
                   "%s: %s: expected all tensors on %s while its stream is captured, got some on the CPU",
                   args->sizes.op, args->sizes.leader, ac_device_text(args->target.device, text, sizeof text));
}

/* Words of an output that the plan defines: what follows stays as it is on the device. */
static int64_t words_of_plan(const ac_mla_metadata_params_t *p, const staged_t *tensor) {
    const int32_t entries = p->reduce_indptr[p->reduce_entries - 1];
    int64_t tiles = 0;
    while (p->reduce_indptr[tiles] < entries) tiles++; /* later ones have no entries */
    if (tensor->field == &p->work_info) return (int64_t)p->work_indptr[p->num_workers] * AC_WORK_FIELDS;
    if (tensor->field == &p->final_map) return tiles * 2;
    if (tensor->field == &p->partial_map) return entries;
    return tensor->words;
}

int ac_run_staged(ac_mla_metadata_args_t *args, intptr_t stream, ac_error_t *error) {
    ac_mla_metadata_params_t *p = &args->params;
    staged_t tensors[TENSORS];
    const int count = list_tensors(args, p, tensors);
    char *at = args->staging->data;
    if ((uintptr_t)at % 8) at += 4;
    if (refuse_capture(args, stream, error) < 0 || wait(args, error) < 0) return -1;
    for (int i = 0; i < count; i++) {
        if (!tensors[i].is_output && copy(args, at, tensors[i].view->data, tensors[i].words, stream, error) < 0)
            return -1;
        memcpy(tensors[i].field, &at, sizeof at);
        tensors[i].host = at;
        at += room(&tensors[i]) * 4;
    }
    if (wait(args, error) < 0 || ac_launch_lists(args, p, 0, error) < 0) return -1;
    for (int i = 0; i < count; i++) {
        if (!tensors[i].is_output) continue;
        if (copy(args, tensors[i].view->data, tensors[i].host, words_of_plan(p, &tensors[i]), stream, error) < 0)
            return -1;
    }
    return wait(args, error);
}
