/* See staging.h. */
#include "staging.h"

#include <string.h>

void ac_stage(ac_staging_t *staging, const ac_view_t *view, int64_t words, void *field) {
    if (view->device.type == AC_DEVICE_CPU) return;
    const int64_t all = ac_view_numel(view) * ac_dtype_bytes(view->dtype) / 4;
    staging->tensors[staging->count++] = (ac_staged_t){view, words < 0 ? all : words, field, words < 0, NULL};
}

/* Each copy begins at an even word. */
static int64_t room(const ac_staged_t *tensor) { return tensor->words + tensor->words % 2; }

int64_t ac_staging_words(const ac_staging_t *staging) {
    int64_t words = 1; /* to begin at an even one */
    for (int i = 0; i < staging->count; i++) words += room(&staging->tensors[i]);
    return words;
}

static int copy(const ac_staging_t *staging, void *to, const void *from, int64_t words, ac_error_t *error) {
    const ac_runtime_t *runtime = staging->target->runtime;
    return runtime->copy(runtime, staging->target->device.index, to, from, (size_t)words * 4, staging->stream, error);
}

static int wait(const ac_staging_t *staging, ac_error_t *error) {
    const ac_runtime_t *runtime = staging->target->runtime;
    return runtime->synchronize(runtime, staging->target->device.index, error);
}

static int refuse_capture(const ac_staging_t *staging, ac_error_t *error) {
    const ac_device_t device = staging->target->device;
    const ac_runtime_t *runtime = staging->target->runtime;
    bool capturing = false;
    if (runtime->is_capturing(runtime, device.index, staging->stream, &capturing, error) < 0) return -1;
    if (!capturing) return 0;
    char text[48];
    return ac_fail(error, AC_ERROR_VALUE,
                   "%s: %s: expected all tensors on %s while its stream is captured, got some on the CPU",
                   staging->sizes->op, staging->sizes->leader, ac_device_text(device, text, sizeof text));
}

int ac_stage_in(ac_staging_t *staging, char *memory, ac_error_t *error) {
    char *at = memory + ((uintptr_t)memory % 8 ? 4 : 0);
    if (refuse_capture(staging, error) < 0 || wait(staging, error) < 0) return -1;
    for (int i = 0; i < staging->count; i++) {
        ac_staged_t *tensor = &staging->tensors[i];
        if (!tensor->is_output && copy(staging, at, tensor->view->data, tensor->words, error) < 0) return -1;
        memcpy(tensor->field, &at, sizeof at);
        tensor->host = at;
        at += room(tensor) * 4;
    }
    return wait(staging, error);
}

int ac_stage_out(const ac_staging_t *staging, ac_error_t *error) {
    for (int i = 0; i < staging->count; i++) {
        const ac_staged_t *tensor = &staging->tensors[i];
        if (tensor->is_output && copy(staging, tensor->view->data, tensor->host, tensor->words, error) < 0) return -1;
    }
    return wait(staging, error);
}
