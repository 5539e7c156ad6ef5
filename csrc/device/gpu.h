/* What the two GPU runtimes share: the driver's entry points as one struct of functions, and every algorithm above
 * them. hip.c and cuda.c hold only what differs. */
#ifndef AC_DEVICE_GPU_H
#define AC_DEVICE_GPU_H

#include <pthread.h>
#include <stdatomic.h>

#include "device.h"

_Static_assert(sizeof(void *) == 8, "device addresses are 64 bits wide");
#define AC_GPU_MAX_DEVICES 64

/* The functions of driver_symbols.inc; one that the driver lacks is NULL. All pointers, so that they can be counted. */
typedef struct ac_driver_calls_t {
#define CALL(type, name, arguments, hip, cuda) type(*name) arguments;
#include "driver_symbols.inc"
#undef CALL
} ac_driver_calls_t;

typedef enum ac_driver_call_t {
#define CALL(type, name, arguments, hip, cuda) AC_CALL_##name,
#include "driver_symbols.inc"
#undef CALL
    AC_DRIVER_CALL_COUNT
} ac_driver_call_t;

typedef struct ac_driver_symbol_t {
    const char *name; /* NULL: not this driver's */
    bool needed;
} ac_driver_symbol_t;
#define NEEDED(name) {name, true}
#define OPTIONAL(name) {name, false}
#define ABSENT {NULL, false}

/* One device. What is not atomic is written under the lock: the facts before `inspected`. */
typedef struct ac_gpu_device_t {
    atomic_bool inspected;
    ac_device_facts_t facts;       /* arch: AC_ARCH_COUNT where the kernel table has none for this device */
    char arch_name[64];            /* as the driver says it */
    _Atomic(void *) context;       /* CUDA: the primary one, once it was needed */
    void *modules[AC_MAX_KERNELS]; /* the code object of each kernel that was used */
    _Atomic(void *) functions[AC_MAX_KERNELS];
} ac_gpu_device_t;

typedef struct ac_gpu_t {
    ac_runtime_t runtime; /* first: a pointer to it is one to the whole */
    /* What differs. */
    const char *title; /* "HIP" */
    const char *const *libraries;
    const ac_driver_symbol_t *symbols; /* [AC_DRIVER_CALL_COUNT] */
    void *launch_end;                  /* ends the `extra` of a launch */
    int64_t max_threads;               /* of one launch, all workgroups together */
    void (*places)(const char **out_only, const char **out_folder);
    void (*version_text)(int version, char *out_text, size_t size);
    const char *(*error_name)(struct ac_gpu_t *gpu, int code); /* NULL: the driver knows no such code */
    /* Fills facts and arch_name. */
    int (*inspect)(struct ac_gpu_t *gpu, int index, ac_gpu_device_t *device, ac_error_t *error);
    /* Makes the device the thread's current one; `leave` gets what `enter` gave and restores what was. */
    int (*enter)(struct ac_gpu_t *gpu, int index, int *out_saved, ac_error_t *error);
    int (*leave)(struct ac_gpu_t *gpu, int index, int saved, ac_error_t *error);
    int (*copy)(struct ac_gpu_t *gpu, int index, void *to, const void *from, size_t bytes, void *stream,
                ac_error_t *error);
    int (*allow_local)(struct ac_gpu_t *gpu, int index, void *function, int bytes, ac_error_t *error); /* or NULL */
    int (*launch_early)(struct ac_gpu_t *gpu, int index, void *function, const ac_launch_t *launch, void **extra,
                        ac_error_t *error); /* of AC_STARTS_EARLY; used where the driver has `launch_with` */
    /* What they have in common. */
    pthread_mutex_t lock; /* around everything that happens once */
    atomic_bool loaded;   /* `calls` is filled */
    atomic_bool started;  /* the driver is initialised; count and no_device are known */
    atomic_bool forked;   /* out of a process that had loaded the driver: no call of it works here */
    int count;
    char no_device[64]; /* the driver's name of the reason why there is none */
    char attempts[AC_REASON_SIZE];
    ac_driver_calls_t calls;
    ac_gpu_device_t devices[AC_GPU_MAX_DEVICES];
} ac_gpu_t;

extern ac_gpu_t ac_hip, ac_cuda;
#define AC_CODE_OUT_OF_MEMORY 2 /* in both drivers */
#define AC_CODE_NO_DEVICE 100
#define AC_CAPTURE_RELAXED 2 /* a thread's capture mode in which nothing is forbidden for another's capture's sake */

/* Finds and opens the driver's library; -1 with why not. That is not remembered: torch may bring one along later. */
int ac_gpu_load(ac_gpu_t *gpu, char *out_reason, size_t size);
void ac_gpu_describe(ac_gpu_t *gpu, ac_runtime_info_t *out_info);

/* Fills *error for a call that returned `code`, and returns -1. index -1: no device is concerned. */
int ac_gpu_fail(ac_gpu_t *gpu, int index, ac_driver_call_t call, int code, ac_error_t *error);

/* Calls the driver; a failure ends the function that it stands in. */
#define AC_TRY_CALL(name, arguments)                                                                                   \
    do {                                                                                                               \
        int code_ = gpu->calls.name arguments;                                                                         \
        if (code_ != 0) return ac_gpu_fail(gpu, index, AC_CALL_##name, code_, error);                                  \
    } while (0)

/* Around work on a device: `begin` makes it current, `end` restores the thread's own. `end` gets the status of the work
 * and returns it, or -1 when restoring is what failed. */
int ac_gpu_begin(ac_gpu_t *gpu, int index, ac_gpu_device_t **out_device, int *out_saved, ac_error_t *error);
int ac_gpu_end(ac_gpu_t *gpu, int index, int saved, int status, ac_error_t *error);
/* The functions of a GPU's ac_runtime_t. */
int ac_gpu_device_count(const ac_runtime_t *self, int *out_count, ac_error_t *error);
int ac_gpu_facts(const ac_runtime_t *self, int index, ac_device_facts_t *out_facts, ac_error_t *error);
int ac_gpu_alloc(const ac_runtime_t *self, int index, size_t bytes, void **out_pointer, ac_error_t *error);
void ac_gpu_free(const ac_runtime_t *self, int index, void *pointer);
int ac_gpu_copy(const ac_runtime_t *self, int index, void *to, const void *from, size_t bytes, intptr_t stream,
                ac_error_t *error);
int ac_gpu_synchronize(const ac_runtime_t *self, int index, ac_error_t *error);
int ac_gpu_fill32(const ac_runtime_t *self, int index, void *to, uint32_t word, int64_t count, intptr_t stream,
                  ac_error_t *error);
int ac_gpu_launch(const ac_runtime_t *self, int index, const ac_launch_t *launch, ac_error_t *error);
int ac_gpu_is_capturing(const ac_runtime_t *self, int index, intptr_t stream, bool *out_is, ac_error_t *error);
#define AC_GPU_RUNTIME(name, type)                                                                                     \
    {name,          type,          ac_gpu_device_count, ac_gpu_facts,                                                  \
     ac_gpu_alloc,  ac_gpu_free,   ac_gpu_copy,         ac_gpu_synchronize,                                            \
     ac_gpu_fill32, ac_gpu_launch, ac_gpu_is_capturing}
static inline ac_gpu_t *ac_gpu_of(const ac_runtime_t *runtime) { return (ac_gpu_t *)runtime; }

#endif
