/* A runtime is one struct of function pointers; the ops see nothing else of a device. Runtimes: cpu, hip, cuda.
 * A stream is the runtime's own handle as an integer (0 and unused on the CPU, which runs at once). */
#ifndef AC_DEVICE_DEVICE_H
#define AC_DEVICE_DEVICE_H

#include <stddef.h>

#include "../core/check.h"
#include "../core/kernel.h"

typedef struct ac_device_facts_t {
    ac_arch_t arch;                 /* what the kernel table is keyed by */
    int compute_units;              /* CUs or SMs; threads of the pool on the CPU */
    int64_t max_items, max_threads; /* of one launch: work items, and the threads of all of them together */
} ac_device_facts_t;

typedef struct ac_launch_t {
    const ac_kernel_t *kernel;
    const void *params;
    size_t params_bytes;
    int64_t grid; /* work items: see ac_check_grid */
    intptr_t stream;
    /* What this launch writes, of what the kernel can: AC_WRITES_* and the addresses in `params` that it does it to. */
    unsigned writes;
    const void *final_rows, *partial_rows, *lse;
} ac_launch_t;

typedef struct ac_runtime_t ac_runtime_t;

/* Every function gets the runtime that it was taken from as `self`. */
struct ac_runtime_t {
    const char *name;
    int device_type; /* ac_device_type_t */
    int (*device_count)(const ac_runtime_t *self, int *out_count, ac_error_t *error);
    /* UnsupportedError for a device that the kernel table does not know. */
    int (*facts)(const ac_runtime_t *self, int index, ac_device_facts_t *out_facts, ac_error_t *error);
    /* Memory for aiter_c.empty, 64-byte aligned at least. Never called by an op. Free waits for the device's work. */
    int (*alloc)(const ac_runtime_t *self, int index, size_t bytes, void **out_pointer, ac_error_t *error);
    void (*free)(const ac_runtime_t *self, int index, void *pointer);
    /* Between any two of: the device, the host. In stream order; the host memory may be in use until a synchronize. */
    int (*copy)(const ac_runtime_t *self, int index, void *to, const void *from, size_t bytes, intptr_t stream,
                ac_error_t *error);
    /* Waits for all work of all streams. No op calls it where its tensors are all on one side. */
    int (*synchronize)(const ac_runtime_t *self, int index, ac_error_t *error);
    /* Writes `count` 32-bit words; in stream order. */
    int (*fill32)(const ac_runtime_t *self, int index, void *to, uint32_t word, int64_t count, intptr_t stream,
                  ac_error_t *error);
    int (*launch)(const ac_runtime_t *self, int index, const ac_launch_t *launch, ac_error_t *error);
    /* Whether work on the stream goes into a graph at the moment, and is not done. */
    int (*is_capturing)(const ac_runtime_t *self, int index, intptr_t stream, bool *out_is, ac_error_t *error);
};

/* The runtime that serves a DLPack device type, or NULL with *out_reason (why none does; good until the thread's next
 * call). The first call for a GPU type loads that GPU's driver library, nothing else does. */
const ac_runtime_t *ac_runtime_for(int device_type, const char **out_reason);

#define AC_REASON_SIZE 1536 /* several library paths, each with the loader's message */

/* What a bug report needs to know of a runtime. */
typedef struct ac_runtime_info_t {
    const ac_runtime_t *runtime; /* NULL: none, see note */
    int device_count;
    char library[512];             /* the file that serves it; "" on the CPU */
    char version[32];              /* of the driver interface, such as "HIP 6.4.43482" */
    char attempts[AC_REASON_SIZE]; /* the libraries that were tried before, and why each would not do */
    char note[AC_REASON_SIZE];     /* why there is no runtime, or no device */
} ac_runtime_info_t;

/* The device of a call. */
typedef struct ac_target_t {
    const ac_runtime_t *runtime;
    ac_device_t device;
    ac_device_facts_t facts;
} ac_target_t;

/* `name`: the argument that chose the device. */
int ac_find_target(const char *op, const char *name, ac_device_t device, ac_target_t *out_target, ac_error_t *error);

/* Refuses what the kernel cannot write and what has no address, then launches. */
int ac_launch(const ac_target_t *target, const ac_launch_t *launch, ac_error_t *error);

/* UnsupportedError for a launch that the device would not take: ops ask before they write anything. `op` and `name`
 * head the text. */
int ac_check_launch(const char *op, const char *name, const ac_kernel_t *kernel, int64_t grid,
                    const ac_device_facts_t *facts, ac_error_t *error);
/* Work items of one launch at most. */
int64_t ac_max_grid(const ac_kernel_t *kernel, const ac_device_facts_t *facts);
int ac_check_grid(const ac_kernel_t *kernel, int64_t grid, const ac_device_facts_t *facts, ac_error_t *error);

void ac_runtime_describe(int device_type, ac_runtime_info_t *out_info);

/* Where things are looked for. Set once, before the first use of a device; the strings are kept. */
typedef struct ac_device_config_t {
    const char *hip_library;        /* instead of every other place, or NULL */
    const char *hip_package_folder; /* where pip puts the HIP libraries (_rocm_sdk_core/lib), or NULL */
    const char *code_object_folder; /* instead of the hsa/ of the package, or NULL */
} ac_device_config_t;

void ac_device_configure(const ac_device_config_t *config);
const ac_device_config_t *ac_device_config(void);

extern const ac_runtime_t ac_cpu_runtime; /* those of the GPUs are in gpu.h */

#endif
