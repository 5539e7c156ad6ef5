/* Lists whose tensors are on the CPU and on a GPU: the op runs on the CPU, with copies of those on the GPU. It waits
 * for the device before and after, so that everything is complete on return and no stream can be the wrong one. */
#ifndef AC_OPS_ATTENTION_STAGING_H
#define AC_OPS_ATTENTION_STAGING_H

#include "../../core/rules.h"
#include "../../device/device.h"

typedef struct ac_staged_t {
    const ac_view_t *view;
    int64_t words; /* of int32, that are copied: there before, or of an output back after */
    void *field;   /* of the params: its address */
    bool is_output;
    char *host; /* its copy */
} ac_staged_t;
#define AC_MAX_STAGED 9

typedef struct ac_staging_t {
    const ac_target_t *target; /* the GPU */
    const ac_sizes_t *sizes;   /* the op, and the argument that chose the device */
    intptr_t stream;
    int count;
    ac_staged_t tensors[AC_MAX_STAGED];
} ac_staging_t;

/* Takes the tensor where it is not on the CPU. `words`: that are read; -1: an output, all of it. */
void ac_stage(ac_staging_t *staging, const ac_view_t *view, int64_t words, void *field);
/* int32 of memory that the copies need. */
int64_t ac_staging_words(const ac_staging_t *staging);
/* Copies the inputs to `memory` and sets every field; refused while the stream is captured. */
int ac_stage_in(ac_staging_t *staging, char *memory, ac_error_t *error);
/* Copies the outputs back: of each as many words as `words` says by now. */
int ac_stage_out(const ac_staging_t *staging, ac_error_t *error);

#endif
