/* Kernels: found in their code object at the first launch on a device, launched from a cache from then on. */
#include <string.h>

#include "code_object.h"
#include "gpu.h"
#include "text.h"

/* A module of this device that another kernel of the same code object has loaded, or NULL. */
static void *find_module(const ac_gpu_device_t *device, const ac_kernel_t *kernel) {
    const ac_kernel_t *other;
    for (int i = 0; (other = ac_kernel(i)) != NULL; i++) {
        if (device->modules[i] && other->arch == kernel->arch && strcmp(other->object, kernel->object) == 0)
            return device->modules[i];
    }
    return NULL;
}

static int find_function(ac_gpu_t *gpu, int index, const ac_kernel_t *kernel, void *module, void **out_function,
                         ac_error_t *error) {
    AC_TRY_CALL(find_function, (out_function, module, kernel->name));
    return gpu->allow_local ? gpu->allow_local(gpu, index, *out_function, kernel->local_bytes, error) : 0;
}

/* Modules stay until the process ends, and so do the mapped bytes that they were made from. */
static int load_kernel(ac_gpu_t *gpu, int index, ac_gpu_device_t *device, const ac_kernel_t *kernel,
                       ac_error_t *error) {
    ac_code_object_t object;
    void *module = find_module(device, kernel), *function = NULL;
    bool fresh = !module;
    int status = 0;
    if (fresh) {
        if (ac_code_object_open(kernel, &object, error) < 0) return -1;
        int code = gpu->calls.load_module(&module, object.image);
        if (code != 0) status = ac_gpu_fail(gpu, index, AC_CALL_load_module, code, error);
    }
    if (status == 0) status = find_function(gpu, index, kernel, module, &function, error);
    if (status == 0) {
        const int number = ac_kernel_number(kernel);
        device->modules[number] = module;
        atomic_store(&device->functions[number], function);
        return 0;
    }
    ac_append(error->text, sizeof error->text, " (kernel %s of code object %s/%s)", kernel->name,
              ac_arch_name(kernel->arch), kernel->object);
    if (fresh) {
        if (module) gpu->calls.unload_module(module);
        ac_code_object_close(&object);
    }
    return -1;
}

/* Loading is legal while a stream is captured, here or in another thread, in the relaxed mode. */
static int load_relaxed(ac_gpu_t *gpu, int index, ac_gpu_device_t *device, const ac_kernel_t *kernel,
                        ac_error_t *error) {
    int mode = AC_CAPTURE_RELAXED;
    if (!gpu->calls.exchange_capture_mode) return load_kernel(gpu, index, device, kernel, error);
    AC_TRY_CALL(exchange_capture_mode, (&mode));
    int status = load_kernel(gpu, index, device, kernel, error);
    int code = gpu->calls.exchange_capture_mode(&mode);
    if (code != 0 && status == 0) status = ac_gpu_fail(gpu, index, AC_CALL_exchange_capture_mode, code, error);
    return status;
}

static int find_kernel(ac_gpu_t *gpu, int index, ac_gpu_device_t *device, const ac_kernel_t *kernel,
                       void **out_function, ac_error_t *error) {
    int status = 0;
    const int number = ac_kernel_number(kernel);
    *out_function = atomic_load(&device->functions[number]);
    if (*out_function) return 0;
    if (kernel->arch != device->facts.arch)
        return ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: expected a kernel of this device (%s), got one for %s",
                       kernel->name, device->arch_name, ac_arch_name(kernel->arch));
    pthread_mutex_lock(&gpu->lock);
    *out_function = atomic_load(&device->functions[number]);
    if (!*out_function) {
        status = load_relaxed(gpu, index, device, kernel, error);
        *out_function = atomic_load(&device->functions[number]);
    }
    pthread_mutex_unlock(&gpu->lock);
    return status;
}

/* On the current device. */
static int launch_here(ac_gpu_t *gpu, int index, ac_gpu_device_t *device, const ac_launch_t *launch,
                       ac_error_t *error) {
    const ac_kernel_t *kernel = launch->kernel;
    void *function;
    size_t bytes = launch->params_bytes;
    void *extra[] = {(void *)1, (void *)launch->params, (void *)2, &bytes, gpu->launch_end}; /* pointer, size */
    if (find_kernel(gpu, index, device, kernel, &function, error) < 0) return -1;
    if (kernel->features & AC_STARTS_EARLY && gpu->calls.launch_with)
        return gpu->launch_early(gpu, index, function, launch, extra, error);
    AC_TRY_CALL(launch, (function, (unsigned)launch->grid, 1, 1, (unsigned)kernel->threads, 1, 1,
                         (unsigned)kernel->local_bytes, (void *)launch->stream, NULL, extra));
    return 0;
}

int ac_gpu_launch(const ac_runtime_t *self, int index, const ac_launch_t *launch, ac_error_t *error) {
    ac_gpu_t *gpu = ac_gpu_of(self);
    ac_gpu_device_t *device = NULL;
    int saved = 0;
    if (launch->grid == 0) return 0;
    if (ac_gpu_begin(gpu, index, &device, &saved, error) < 0) return -1;
    int status = ac_check_grid(launch->kernel, launch->grid, &device->facts, error);
    if (status == 0) status = launch_here(gpu, index, device, launch, error);
    return ac_gpu_end(gpu, index, saved, status, error);
}
