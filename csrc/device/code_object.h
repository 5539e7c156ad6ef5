/* The code objects: hsa/<arch>/<object>.co (AMD) or .cubin (NVIDIA), built by scripts/build_kernels. */
#ifndef AC_DEVICE_CODE_OBJECT_H
#define AC_DEVICE_CODE_OBJECT_H

#include <stddef.h>

#include "../core/error.h"
#include "../core/kernel.h"

typedef struct ac_code_object_t {
    char path[1024];
    const void *image; /* [bytes], mapped read-only */
    size_t bytes;
} ac_code_object_t;

/* Maps the code object that holds the kernel. It is looked for in the folder that AITER_C_HSA names, else in hsa/
 * beside the extension (a wheel), else in hsa/ one folder up (a checkout). Refused when it was built from another
 * source than the one beside which this extension was built: a stale kernel gives wrong numbers without a word. */
int ac_code_object_open(const ac_kernel_t *kernel, ac_code_object_t *out_object, ac_error_t *error);
void ac_code_object_close(ac_code_object_t *object);

/* True when there is a file, of whatever content. */
bool ac_code_object_exists(const ac_kernel_t *kernel);

/* A code object that this extension knows, "<arch>/<object>", and the hash of its source, 64 hex digits. */
typedef struct ac_object_hash_t {
    const char *object, *hash;
} ac_object_hash_t;

/* Number `i` of them; NULL when there is no such number. */
const ac_object_hash_t *ac_object_hash(int i);

#endif
