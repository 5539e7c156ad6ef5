/* A runtime is one struct of function pointers; the ops see nothing else of a device. Runtimes: cpu.
 * A stream is the runtime's own handle as an integer (0 and unused on the CPU, which runs at once). */
#ifndef AC_DEVICE_DEVICE_H
#define AC_DEVICE_DEVICE_H

#include <stddef.h>

#include "../core/error.h"
#include "../core/kernel_table.h"
#include "../core/view.h"

typedef struct ac_device_facts_t {
    ac_arch_t arch;    /* what the kernel table is keyed by */
    int compute_units; /* CUs or SMs; threads of the pool on the CPU */
} ac_device_facts_t;

typedef struct ac_launch_t {
    const ac_kernel_t *kernel;
    const void *params;
    size_t params_bytes;
    int64_t grid; /* work items */
    intptr_t stream;
} ac_launch_t;

typedef struct ac_runtime_t {
    const char *name;
    int device_type; /* ac_device_type_t */
    int (*device_count)(void);
    int (*facts)(int index, ac_device_facts_t *out_facts, ac_error_t *error);
    /* Memory for aiter_c.empty, 64-byte aligned at least. Never called by an op. */
    int (*alloc)(int index, size_t bytes, void **out_pointer, ac_error_t *error);
    void (*free)(int index, void *pointer);
    int (*copy)(int index, void *to, const void *from, size_t bytes, intptr_t stream, ac_error_t *error);
    /* Writes `count` 32-bit words; in stream order. */
    int (*fill32)(int index, void *to, uint32_t word, int64_t count, intptr_t stream, ac_error_t *error);
    int (*launch)(int index, const ac_launch_t *launch, ac_error_t *error);
} ac_runtime_t;

/* The runtime that serves a DLPack device type, or NULL with *out_reason (why none does). */
const ac_runtime_t *ac_runtime_for(int device_type, const char **out_reason);

extern const ac_runtime_t ac_cpu_runtime;

#endif
