/* NVIDIA GPUs: the driver API of libcuda.so.1, whose ABI is stable. Work happens in the device's primary context, which
 * is the one of the CUDA runtime and of torch; the thread's own context is back in place after every call. */
#include <stdio.h>

#include "gpu.h"

#define ATTRIBUTE_UNITS 16 /* CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT */
#define ATTRIBUTE_MAJOR 75 /* CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR */
#define ATTRIBUTE_MINOR 76
#define FUNCTION_MAX_LOCAL 8            /* CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES */
#define LAUNCH_EARLY 6                  /* CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION */
#define LOCAL_BYTES_AT_HAND (48 * 1024) /* a kernel that wants more says so first */

static const ac_driver_symbol_t symbols[AC_DRIVER_CALL_COUNT] = {
#define CALL(type, name, arguments, hip, cuda) cuda,
#include "driver_symbols.inc"
#undef CALL
};

static const char *const libraries[] = {"libcuda.so.1", NULL};

static void places(const char **out_only, const char **out_folder) {
    *out_only = NULL;
    *out_folder = NULL;
}

static void version_text(int version, char *out_text, size_t size) {
    snprintf(out_text, size, "CUDA %d.%d", version / 1000, version % 1000 / 10);
}

static const char *error_name(ac_gpu_t *gpu, int code) {
    const char *name = NULL;
    return gpu->calls.cuda_error_name(code, &name) == 0 ? name : NULL;
}

static int inspect(ac_gpu_t *gpu, int index, ac_gpu_device_t *device, ac_error_t *error) {
    int handle, major, minor;
    AC_TRY_CALL(get_device, (&handle, index));
    AC_TRY_CALL(attribute, (&major, ATTRIBUTE_MAJOR, handle));
    AC_TRY_CALL(attribute, (&minor, ATTRIBUTE_MINOR, handle));
    AC_TRY_CALL(attribute, (&device->facts.compute_units, ATTRIBUTE_UNITS, handle));
    snprintf(device->arch_name, sizeof device->arch_name, "compute capability %d.%d", major, minor);
    device->facts.arch = ac_arch_from_driver(AC_DEVICE_CUDA, device->arch_name);
    return 0;
}

static int retain_context(ac_gpu_t *gpu, int index, void **out_context, ac_error_t *error) {
    int handle;
    AC_TRY_CALL(get_device, (&handle, index));
    AC_TRY_CALL(retain_context, (out_context, handle));
    return 0;
}

static int find_context(ac_gpu_t *gpu, int index, void **out_context, ac_error_t *error) {
    ac_gpu_device_t *device = &gpu->devices[index];
    int status = 0;
    *out_context = atomic_load(&device->context);
    if (*out_context) return 0;
    pthread_mutex_lock(&gpu->lock);
    *out_context = atomic_load(&device->context);
    if (!*out_context) {
        status = retain_context(gpu, index, out_context, error);
        if (status == 0) atomic_store(&device->context, *out_context);
    }
    pthread_mutex_unlock(&gpu->lock);
    return status;
}

static int enter(ac_gpu_t *gpu, int index, int *out_saved, ac_error_t *error) {
    void *context;
    *out_saved = 0; /* the driver's stack of contexts keeps it */
    if (find_context(gpu, index, &context, error) < 0) return -1;
    AC_TRY_CALL(push_context, (context));
    return 0;
}

static int leave(ac_gpu_t *gpu, int index, int saved, ac_error_t *error) {
    void *context;
    (void)saved;
    AC_TRY_CALL(pop_context, (&context));
    return 0;
}

static int copy(ac_gpu_t *gpu, int index, void *to, const void *from, size_t bytes, void *stream, ac_error_t *error) {
    AC_TRY_CALL(cuda_copy, (to, from, bytes, stream));
    return 0;
}

static int allow_local(ac_gpu_t *gpu, int index, void *function, int bytes, ac_error_t *error) {
    if (bytes > LOCAL_BYTES_AT_HAND) AC_TRY_CALL(set_attribute, (function, FUNCTION_MAX_LOCAL, bytes));
    return 0;
}

/* CUlaunchAttribute and CUlaunchConfig of the driver's ABI. */
typedef struct {
    int number, reserved;
    union {
        int truth;
        char bytes[64];
    } value;
} launch_attribute_t;
typedef struct {
    unsigned grid[3], block[3], local_bytes;
    void *stream;
    launch_attribute_t *attributes;
    unsigned attribute_count;
} launch_config_t;
_Static_assert(sizeof(launch_attribute_t) == 72 && sizeof(launch_config_t) == 56, "the driver's layouts");

/* "Programmatic dependent launch": the kernel starts when every workgroup of the one before it has allowed that or has
 * ended, and waits itself for what that one writes. */
static int launch_early(ac_gpu_t *gpu, int index, void *function, const ac_launch_t *launch, void **extra,
                        ac_error_t *error) {
    const ac_kernel_t *kernel = launch->kernel;
    launch_attribute_t early = {.number = LAUNCH_EARLY, .value.truth = 1};
    const launch_config_t config = {
        .grid = {(unsigned)launch->grid, 1, 1},
        .block = {(unsigned)kernel->threads, 1, 1},
        .local_bytes = (unsigned)kernel->local_bytes,
        .stream = (void *)launch->stream,
        .attributes = &early,
        .attribute_count = 1,
    };
    AC_TRY_CALL(launch_with, (&config, function, NULL, extra));
    return 0;
}

ac_gpu_t ac_cuda = {
    .runtime = AC_GPU_RUNTIME("cuda", AC_DEVICE_CUDA),
    .title = "CUDA",
    .libraries = libraries,
    .symbols = symbols,
    .launch_end = (void *)0,
    .max_threads = INT64_MAX,
    .places = places,
    .version_text = version_text,
    .error_name = error_name,
    .inspect = inspect,
    .enter = enter,
    .leave = leave,
    .copy = copy,
    .allow_local = allow_local,
    .launch_early = launch_early,
    .lock = PTHREAD_MUTEX_INITIALIZER,
};
