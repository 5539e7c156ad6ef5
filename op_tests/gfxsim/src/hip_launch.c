/* Modules, functions and launches of the HIP API. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hip_work.h"

enum { MAX_THREADS_PER_BLOCK = 1024, MESSAGE_BYTES = 256 };

/* ---- modules ---------------------------------------------------------------------------------------------------- */

static hipError_t load(hipModule_t *out, const void *image) {
    static const hipError_t ERRORS[] = {
        [GS_LOAD_OK] = hipSuccess,
        [GS_LOAD_INVALID] = hipErrorInvalidImage,
        [GS_LOAD_WRONG_ARCH] = hipErrorNoBinaryForGpu,
        [GS_LOAD_NO_MEMORY] = hipErrorOutOfMemory,
    };
    if (gs_state.device_count == 0) return hipErrorNoDevice;
    if (!out || !image) return hipErrorInvalidValue;
    hipError_t failed = gs_device_error(gs_current_device, false);
    if (failed == hipSuccess) failed = gs_capture_forbids();
    if (failed != hipSuccess) return failed;
    char message[MESSAGE_BYTES] = "out of memory";
    gs_module_t *module;
    gs_load_error_t error = gs_module_load(image, 0, gs_state.devices[gs_current_device].arch, gs_current_device,
                                           &module, message, sizeof message);
    if (error != GS_LOAD_OK) {
        if (!gs_state.options.quiet) fprintf(stderr, "gfxsim: hipModuleLoadData: %s\n", message);
        return ERRORS[error];
    }
    if (!gs_handle_add(GS_HANDLE_MODULE, module)) {
        gs_module_unload(module);
        free(module);
        return hipErrorOutOfMemory;
    }
    *out = module;
    return hipSuccess;
}

static hipError_t unload(hipModule_t module) {
    if (!gs_handle_valid(GS_HANDLE_MODULE, module)) return hipErrorInvalidHandle;
    hipError_t error = gs_capture_forbids();
    if (error != hipSuccess) return error;
    gs_module_unload(module);
    gs_handle_retire(GS_HANDLE_MODULE, module);
    return hipSuccess;
}

static hipError_t get_function(hipFunction_t *out, hipModule_t module, const char *name) {
    if (!out || !name || !*name) return hipErrorInvalidValue;
    if (!gs_handle_valid(GS_HANDLE_MODULE, module)) return hipErrorInvalidHandle;
    *out = gs_module_kernel(module, name);
    return *out ? hipSuccess : hipErrorNotFound;
}

static hipError_t get_global(void **address, size_t *bytes, hipModule_t module, const char *name) {
    if ((!address && !bytes) || !name || !*name) return hipErrorInvalidValue;
    if (!gs_handle_valid(GS_HANDLE_MODULE, module)) return hipErrorInvalidHandle;
    const gs_symbol_t *symbol = gs_module_variable(module, name);
    if (!symbol) return hipErrorNotFound;
    if (address) *address = (void *)symbol->address;
    if (bytes) *bytes = symbol->bytes;
    return hipSuccess;
}

GS_EXPORT hipError_t hipModuleLoadData(hipModule_t *out, const void *image) {
    GS_CALL(hipModuleLoadData, load(out, image));
}

GS_EXPORT hipError_t hipModuleLoadDataEx(hipModule_t *out, const void *image, unsigned count, void *options,
                                         void **values) {
    (void)count, (void)options, (void)values;
    GS_CALL(hipModuleLoadDataEx, load(out, image));
}

GS_EXPORT hipError_t hipModuleUnload(hipModule_t module) { GS_CALL(hipModuleUnload, unload(module)); }

GS_EXPORT hipError_t hipModuleGetFunction(hipFunction_t *out, hipModule_t module, const char *name) {
    GS_CALL(hipModuleGetFunction, get_function(out, module, name));
}

GS_EXPORT hipError_t hipModuleGetGlobal(void **address, size_t *bytes, hipModule_t module, const char *name) {
    GS_CALL(hipModuleGetGlobal, get_global(address, bytes, module, name));
}

/* ---- functions -------------------------------------------------------------------------------------------------- */

static uint32_t lds_left(const gs_kernel_t *kernel) {
    uint32_t most = gs_state.devices[kernel->module->device].max_lds;
    return most > kernel->descriptor.lds_bytes ? most - kernel->descriptor.lds_bytes : 0;
}

static hipError_t get_attribute(int *value, hipFunction_attribute attribute, hipFunction_t kernel) {
    if (!value) return hipErrorInvalidValue;
    if (!gs_kernel_valid(kernel)) return hipErrorInvalidHandle;
    switch (attribute) {
    case HIP_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK: *value = (int)kernel->max_threads; break;
    case HIP_FUNC_ATTRIBUTE_SHARED_SIZE_BYTES: *value = (int)kernel->descriptor.lds_bytes; break;
    case HIP_FUNC_ATTRIBUTE_LOCAL_SIZE_BYTES: *value = (int)kernel->descriptor.scratch_bytes; break;
    case HIP_FUNC_ATTRIBUTE_NUM_REGS: *value = (int)kernel->vgprs; break;
    case HIP_FUNC_ATTRIBUTE_PTX_VERSION:
    case HIP_FUNC_ATTRIBUTE_BINARY_VERSION: *value = kernel->module->image.arch == GS_GFX950 ? 95 : 94; break;
    case HIP_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES: *value = (int)lds_left(kernel); break;
    case HIP_FUNC_ATTRIBUTE_CONST_SIZE_BYTES:
    case HIP_FUNC_ATTRIBUTE_CACHE_MODE_CA:
    case HIP_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT: *value = 0; break;
    default: return hipErrorInvalidValue;
    }
    return hipSuccess;
}

static hipError_t set_attribute(hipFunction_t kernel, int attribute, int value) {
    if (!gs_kernel_valid(kernel)) return hipErrorInvalidDeviceFunction;
    if (attribute == HIP_FUNC_ATTRIBUTE_PREFERRED_SHARED_MEMORY_CARVEOUT) {
        return value >= -1 && value <= 100 ? hipSuccess : hipErrorInvalidValue;
    }
    if (attribute != HIP_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES) return hipErrorInvalidValue;
    return value >= 0 && (uint32_t)value <= lds_left(kernel) ? hipSuccess : hipErrorInvalidValue;
}

GS_EXPORT hipError_t hipFuncGetAttribute(int *value, hipFunction_attribute attribute, hipFunction_t function) {
    GS_CALL(hipFuncGetAttribute, get_attribute(value, attribute, function));
}

GS_EXPORT hipError_t hipFuncSetAttribute(const void *function, int attribute, int value) {
    GS_CALL(hipFuncSetAttribute, set_attribute((hipFunction_t)function, attribute, value));
}

/* ---- arguments -------------------------------------------------------------------------------------------------- */

static hipError_t arguments_from_params(const gs_kernel_t *kernel, void **params, uint8_t *arguments) {
    for (int i = 0; i < kernel->argument_count; i++) {
        const gs_argument_t *argument = &kernel->arguments[i];
        if (argument->kind >= GS_HIDDEN_BLOCK_COUNT_X) break;
        if (!params || !params[i]) return hipErrorInvalidValue;
        memcpy(arguments + argument->offset, params[i], argument->bytes);
    }
    return hipSuccess;
}

static hipError_t arguments_from_extra(const gs_kernel_t *kernel, void **extra, uint8_t *arguments) {
    const void *buffer = NULL;
    const size_t *bytes = NULL;
    for (int i = 0; extra[i] != HIP_LAUNCH_PARAM_END; i += 2) {
        if (extra[i] == HIP_LAUNCH_PARAM_BUFFER_POINTER) buffer = extra[i + 1];
        else if (extra[i] == HIP_LAUNCH_PARAM_BUFFER_SIZE) bytes = extra[i + 1];
        else return hipErrorInvalidValue;
    }
    if (!buffer || !bytes) return hipErrorInvalidValue;
    for (int i = 0; i < kernel->argument_count; i++) {
        const gs_argument_t *argument = &kernel->arguments[i];
        bool hidden = argument->kind >= GS_HIDDEN_BLOCK_COUNT_X;
        if (!hidden && argument->offset + argument->bytes > *bytes) return hipErrorInvalidValue;
    }
    memcpy(arguments, buffer, *bytes < kernel->kernarg_bytes ? *bytes : kernel->kernarg_bytes);
    return hipSuccess;
}

/* ---- launch ----------------------------------------------------------------------------------------------------- */

static hipError_t check_sizes(const gs_kernel_work_t *work) {
    const gs_kernel_t *kernel = work->kernel;
    uint64_t threads = 1;
    for (int axis = 0; axis < 3; axis++) {
        if (work->grid[axis] == 0) return hipErrorInvalidValue;
        if (work->block[axis] == 0) return hipErrorInvalidConfiguration;
        if ((uint64_t)work->grid[axis] * work->block[axis] > UINT32_MAX) return hipErrorInvalidConfiguration;
        if (work->block[axis] > MAX_THREADS_PER_BLOCK) return hipErrorInvalidValue;
        threads *= work->block[axis];
    }
    if (kernel->descriptor.lds_bytes > gs_state.devices[kernel->module->device].max_lds) {
        return hipErrorLaunchOutOfResources;
    }
    if (threads > MAX_THREADS_PER_BLOCK || work->dynamic_lds > lds_left(kernel)) return hipErrorInvalidValue;
    return threads > kernel->max_threads ? hipErrorLaunchFailure : hipSuccess; /* beyond __launch_bounds__ */
}

static hipError_t launch(gs_work_t *work, hipStream_t handle, void **params, void **extra) {
    struct ihipStream_t *stream;
    int device;
    gs_kernel_t *kernel = work->kernel.kernel;
    hipError_t error = gs_resolve_stream(handle, &stream, &device);
    if (error != hipSuccess) return error;
    if (!kernel) return hipErrorInvalidImage;
    if (!gs_kernel_valid(kernel)) return hipErrorInvalidDeviceFunction;
    if (device != gs_current_device) return hipErrorInvalidHandle; /* the caller forgot to switch the device */
    if (device != kernel->module->device) return hipErrorInvalidDevice;
    if (params && extra) return hipErrorInvalidValue;
    error = check_sizes(&work->kernel);
    if (error != hipSuccess) return error;
    work->kernel.arguments = calloc(1, kernel->kernarg_bytes + 1);
    if (!work->kernel.arguments) return hipErrorOutOfMemory;
    error = extra ? arguments_from_extra(kernel, extra, work->kernel.arguments)
                  : arguments_from_params(kernel, params, work->kernel.arguments);
    if (error == hipSuccess) error = gs_submit(handle, work);
    free(work->kernel.arguments);
    return error;
}

GS_EXPORT hipError_t hipModuleLaunchKernel(hipFunction_t function, unsigned grid_x, unsigned grid_y, unsigned grid_z,
                                           unsigned block_x, unsigned block_y, unsigned block_z, unsigned lds_bytes,
                                           hipStream_t stream, void **params, void **extra) {
    gs_work_t work = {.type = hipGraphNodeTypeKernel,
                      .kernel = {function, {grid_x, grid_y, grid_z}, {block_x, block_y, block_z}, lds_bytes, NULL}};
    GS_CALL(hipModuleLaunchKernel, launch(&work, stream, params, extra));
}
