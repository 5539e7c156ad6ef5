/* Devices, versions and errors of the HIP API. */
#include <stdio.h>
#include <string.h>

#include "hip_work.h"
#include "hip_state.h"

enum { HIP_VERSION = 60443484 /* 6.4.43484, the number that ROCm 6.4 reports */ };

static bool is_device(int device) { return device >= 0 && device < gs_state.device_count; }

static hipError_t store(int *out, int value) {
    if (!out) return hipErrorInvalidValue;
    *out = value;
    return hipSuccess;
}

static hipError_t initialize(unsigned flags) {
    if (flags != 0) return hipErrorInvalidValue;
    return gs_state.device_count > 0 ? hipSuccess : hipErrorNoDevice;
}

GS_EXPORT hipError_t hipInit(unsigned flags) { GS_CALL(hipInit, initialize(flags)); }

GS_EXPORT hipError_t hipDriverGetVersion(int *version) { GS_CALL(hipDriverGetVersion, store(version, HIP_VERSION)); }

GS_EXPORT hipError_t hipRuntimeGetVersion(int *version) { GS_CALL(hipRuntimeGetVersion, store(version, HIP_VERSION)); }

/* ---- which device ----------------------------------------------------------------------------------------------- */

static hipError_t get_device_count(int *count) {
    hipError_t error = store(count, gs_state.device_count);
    return error == hipSuccess && gs_state.device_count == 0 ? hipErrorNoDevice : error;
}

static hipError_t get_device(int *device) {
    if (!device) return hipErrorInvalidValue;
    if (gs_state.device_count == 0) return hipErrorNoDevice;
    return store(device, gs_current_device);
}

static hipError_t set_device(int device) {
    if (!is_device(device)) return hipErrorInvalidDevice;
    gs_current_device = device;
    return hipSuccess;
}

static hipError_t device_get(hipDevice_t *device, int ordinal) {
    if (!device) return hipErrorInvalidValue;
    return is_device(ordinal) ? store(device, ordinal) : hipErrorInvalidDevice;
}

static hipError_t can_access_peer(int *can, int device, int peer) {
    if (!can) return hipErrorInvalidValue;
    return is_device(device) && is_device(peer) ? store(can, 0) : hipErrorInvalidDevice;
}

static hipError_t synchronize(void) {
    if (gs_state.device_count == 0) return hipErrorNoDevice;
    hipError_t error = gs_capture_forbids();
    return error == hipSuccess ? gs_device_error(gs_current_device, true) : error;
}

GS_EXPORT hipError_t hipGetDeviceCount(int *count) { GS_CALL(hipGetDeviceCount, get_device_count(count)); }

GS_EXPORT hipError_t hipGetDevice(int *device) { GS_CALL(hipGetDevice, get_device(device)); }

GS_EXPORT hipError_t hipSetDevice(int device) { GS_CALL(hipSetDevice, set_device(device)); }

GS_EXPORT hipError_t hipDeviceGet(hipDevice_t *device, int ordinal) {
    GS_CALL(hipDeviceGet, device_get(device, ordinal));
}

GS_EXPORT hipError_t hipDeviceCanAccessPeer(int *can, int device, int peer) {
    GS_CALL(hipDeviceCanAccessPeer, can_access_peer(can, device, peer));
}

GS_EXPORT hipError_t hipDeviceSynchronize(void) { GS_CALL(hipDeviceSynchronize, synchronize()); }

/* ---- what it is like -------------------------------------------------------------------------------------------- */

static const char *product_name(const gs_device_t *device) {
    return device->arch == GS_GFX950 ? "AMD Instinct MI355X (gfxsim)" : "AMD Instinct MI300X (gfxsim)";
}

static hipError_t get_name(char *name, int length, hipDevice_t device) {
    if (!name || length <= 0) return hipErrorInvalidValue;
    if (!is_device(device)) return hipErrorInvalidDevice;
    snprintf(name, (size_t)length, "%s", product_name(&gs_state.devices[device]));
    return hipSuccess;
}

static hipError_t get_total_memory(size_t *bytes, hipDevice_t device) {
    if (!bytes) return hipErrorInvalidValue;
    if (!is_device(device)) return hipErrorInvalidDevice;
    *bytes = gs_state.devices[device].memory_bytes;
    return hipSuccess;
}

static hipError_t get_attribute(int *value, int attribute, int device_index) {
    if (!value) return hipErrorInvalidValue;
    if (!is_device(device_index)) return hipErrorInvalidDevice;
    const gs_device_t *device = &gs_state.devices[device_index];
    bool gfx950 = device->arch == GS_GFX950;
    switch (attribute) {
    case hipDeviceAttributeClockRate: return store(value, gfx950 ? 2400000 : 2100000);
    case hipDeviceAttributeConcurrentKernels: return store(value, 1);
    case hipDeviceAttributeIntegrated: return store(value, 0);
    case hipDeviceAttributeL2CacheSize: return store(value, 4 << 20);
    case hipDeviceAttributeComputeCapabilityMajor: return store(value, 9);
    case hipDeviceAttributeComputeCapabilityMinor: return store(value, gfx950 ? 5 : 4);
    case hipDeviceAttributeMaxBlockDimX:
    case hipDeviceAttributeMaxBlockDimX + 1:
    case hipDeviceAttributeMaxBlockDimX + 2:
    case hipDeviceAttributeMaxThreadsPerBlock: return store(value, 1024);
    case hipDeviceAttributeMaxGridDimX: return store(value, INT32_MAX);
    case hipDeviceAttributeMaxGridDimX + 1:
    case hipDeviceAttributeMaxGridDimX + 2: return store(value, 65535);
    case hipDeviceAttributeMaxThreadsPerMultiProcessor: return store(value, 2048);
    case hipDeviceAttributeMemoryBusWidth: return store(value, 8192);
    case hipDeviceAttributeMemoryClockRate: return store(value, gfx950 ? 2000000 : 1300000);
    case hipDeviceAttributeMultiprocessorCount:
    case hipDeviceAttributePhysicalMultiProcessorCount: return store(value, device->compute_units);
    case hipDeviceAttributeMaxRegistersPerBlock: return store(value, 65536);
    case hipDeviceAttributeMaxSharedMemoryPerBlock:
    case hipDeviceAttributeSharedMemPerBlockOptin:
    case hipDeviceAttributeSharedMemPerMultiprocessor:
    case hipDeviceAttributeMaxSharedMemoryPerMultiprocessor: return store(value, (int)device->max_lds);
    case hipDeviceAttributeUnifiedAddressing: return store(value, 1);
    case hipDeviceAttributeWarpSize: return store(value, GS_LANES);
    case hipDeviceAttributeNumberOfXccs: return store(value, 8);
    default: return hipErrorInvalidValue; /* not known here; a zero would be a guess */
    }
}

/* Where the fields of interest stand in the two layouts of hipDeviceProp_t. */
typedef struct layout_t {
    size_t bytes, memory, lds, warp, threads, clock, major, minor, units, arch, lds_per_unit;
} layout_t;

static const layout_t LAYOUT_R0000 = {792, 256, 264, 276, 280, 308, 328, 332, 336, 396, 376}; /* HIP 5 */
static const layout_t LAYOUT_R0600 = {1472, 288, 296, 308, 320, 348, 360, 364, 388, 1160, 1416};

static hipError_t get_properties(void *properties, int device_index, const layout_t *layout) {
    if (!properties) return hipErrorInvalidValue;
    if (!is_device(device_index)) return hipErrorInvalidDevice;
    const gs_device_t *device = &gs_state.devices[device_index];
    uint8_t *base = properties;
    uint64_t memory = device->memory_bytes, lds = device->max_lds;
    int warp = GS_LANES, threads = 1024, clock = 2100000, major = 9, minor = device->arch == GS_GFX950 ? 5 : 4;
    memset(base, 0, layout->bytes);
    snprintf((char *)base, 256, "%s", product_name(device));
    memcpy(base + layout->memory, &memory, sizeof memory);
    memcpy(base + layout->lds, &lds, sizeof lds);
    memcpy(base + layout->lds_per_unit, &lds, sizeof lds);
    memcpy(base + layout->warp, &warp, sizeof warp);
    memcpy(base + layout->threads, &threads, sizeof threads);
    memcpy(base + layout->clock, &clock, sizeof clock);
    memcpy(base + layout->major, &major, sizeof major);
    memcpy(base + layout->minor, &minor, sizeof minor);
    memcpy(base + layout->units, &device->compute_units, sizeof device->compute_units);
    snprintf((char *)base + layout->arch, 256, "%s:sramecc+:xnack-", gs_arch_name(device->arch));
    return hipSuccess;
}

GS_EXPORT hipError_t hipDeviceGetName(char *name, int length, hipDevice_t device) {
    GS_CALL(hipDeviceGetName, get_name(name, length, device));
}

GS_EXPORT hipError_t hipDeviceTotalMem(size_t *bytes, hipDevice_t device) {
    GS_CALL(hipDeviceTotalMem, get_total_memory(bytes, device));
}

GS_EXPORT hipError_t hipDeviceGetAttribute(int *value, int attribute, int device) {
    GS_CALL(hipDeviceGetAttribute, get_attribute(value, attribute, device));
}

GS_EXPORT hipError_t hipGetDeviceProperties(void *properties, int device) {
    GS_CALL(hipGetDeviceProperties, get_properties(properties, device, &LAYOUT_R0000));
}

GS_EXPORT hipError_t hipGetDevicePropertiesR0600(void *properties, int device) {
    GS_CALL(hipGetDevicePropertiesR0600, get_properties(properties, device, &LAYOUT_R0600));
}

/* ---- errors ----------------------------------------------------------------------------------------------------- */

/* These two report the last error; a failure of theirs, an injected one, is their answer and does not become it. */
static hipError_t last_error(gs_call_t call, bool forget) {
    hipError_t before = gs_last_error, entered = gs_enter(call);
    if (entered != hipSuccess) {
        gs_last_error = before;
        return entered;
    }
    if (forget) gs_last_error = hipSuccess;
    gs_unlock();
    return before;
}

GS_EXPORT hipError_t hipGetLastError(void) { return last_error(GS_CALL_hipGetLastError, true); }

GS_EXPORT hipError_t hipPeekAtLastError(void) { return last_error(GS_CALL_hipPeekAtLastError, false); }

static const struct {
    hipError_t code;
    const char *name, *text;
} ERRORS[] = {
#define HIP_ERROR(name, code, text) {name, #name, text},
#include "hip_errors.inc"
#undef HIP_ERROR
};

static int error_row(hipError_t error) {
    int count = (int)(sizeof ERRORS / sizeof *ERRORS), row = 0;
    while (row < count - 1 && ERRORS[row].code != error) row++;
    return row; /* the last one is hipErrorUnknown */
}

static void count_call(gs_call_t call) {
    gs_lock();
    gs_state.calls[call]++;
    gs_unlock();
}

GS_EXPORT const char *hipGetErrorName(hipError_t error) {
    count_call(GS_CALL_hipGetErrorName);
    return ERRORS[error_row(error)].name;
}

GS_EXPORT const char *hipGetErrorString(hipError_t error) {
    count_call(GS_CALL_hipGetErrorString);
    return ERRORS[error_row(error)].text;
}
