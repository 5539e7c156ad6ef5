/* Work lists whose tensors are on the CPU and on a GPU; see attention/staging.h. */
#include "args.h"

#include "../attention/staging.h"

/* The tensors that the planner touches, the tag first. */
static void stage_tensors(const ac_mla_metadata_args_t *args, ac_mla_metadata_params_t *p, ac_staging_t *out) {
    const int64_t indptr = args->seqlens_qo_indptr->shape[0];
    ac_stage(out, args->work_metadata_ptrs, -1, &p->tag);
    ac_stage(out, args->work_info_set, -1, &p->work_info);
    ac_stage(out, args->work_indptr, -1, &p->work_indptr);
    ac_stage(out, args->reduce_indptr, -1, &p->reduce_indptr);
    ac_stage(out, args->reduce_final_map, -1, &p->final_map);
    ac_stage(out, args->reduce_partial_map, -1, &p->partial_map);
    ac_stage(out, args->seqlens_qo_indptr, indptr, &p->qo_indptr);
    ac_stage(out, args->seqlens_kv_indptr, indptr, &p->kv_indptr);
    if (args->page_size != 1) ac_stage(out, args->kv_last_page_lens, indptr - 1, &p->last_page_lens);
}

int64_t ac_list_staging_words(const ac_mla_metadata_args_t *args) {
    ac_staging_t staging = {0};
    ac_mla_metadata_params_t unused;
    stage_tensors(args, &unused, &staging);
    return ac_staging_words(&staging);
}

/* Words of an output that the plan defines: what follows stays as it is on the device. */
static int64_t words_of_plan(const ac_mla_metadata_params_t *p, const ac_staged_t *tensor) {
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
    ac_staging_t staging = {.target = &args->target, .sizes = &args->sizes, .stream = stream};
    stage_tensors(args, p, &staging);
    if (ac_stage_in(&staging, args->staging->data, error) < 0 || ac_launch_lists(args, p, 0, error) < 0) return -1;
    for (int i = 0; i < staging.count; i++)
        if (staging.tensors[i].is_output) staging.tensors[i].words = words_of_plan(p, &staging.tensors[i]);
    return ac_stage_out(&staging, error);
}
