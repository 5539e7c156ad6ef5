/* AMD GPUs: libamdhip64. Its headers are not needed; what stands here of its ABI is the same from HIP 5.0 on, except
 * where it says otherwise. */
#include <stdio.h>
#include <string.h>

#include "gpu.h"

#define COPY_KIND_DEFAULT 4 /* hipMemcpyDefault: the direction follows from the addresses */

static const ac_driver_symbol_t symbols[AC_DRIVER_CALL_COUNT] = {
#define CALL(type, name, arguments, hip, cuda) hip,
#include "driver_symbols.inc"
#undef CALL
};

static const char *const libraries[] = {"libamdhip64.so.7", "libamdhip64.so.6", "libamdhip64.so.5", "libamdhip64.so",
                                        NULL};

/* hipDeviceProp_t: its size with room to grow, and where the two fields lie that are read. HIP 6 gave it another layout
 * and the function that fills it another symbol; the old symbol kept the old layout. */
#define PROPERTIES_BYTES 4096
#define ARCH_NAME_BYTES 256
typedef struct {
    size_t compute_units, arch_name;
} layout_t;
static const layout_t layout_r0600 = {388, 1160}, layout_before = {336, 396};

static void places(const char **out_only, const char **out_folder) {
    *out_only = ac_device_config()->hip_library;
    *out_folder = ac_device_config()->hip_package_folder;
}

static void version_text(int version, char *out_text, size_t size) {
    snprintf(out_text, size, "HIP %d.%d.%d", version / 10000000, version / 100000 % 100, version % 100000);
}

static const char *error_name(ac_gpu_t *gpu, int code) { return gpu->calls.hip_error_name(code); }

static int read_properties(ac_gpu_t *gpu, int index, char *properties, const layout_t **out_layout, ac_error_t *error) {
    if (gpu->calls.properties) {
        *out_layout = &layout_r0600;
        AC_TRY_CALL(properties, (properties, index));
    } else if (gpu->calls.old_properties) {
        *out_layout = &layout_before;
        AC_TRY_CALL(old_properties, (properties, index));
    } else {
        return ac_fail(error, AC_ERROR_DEVICE, "hip:%d: the HIP driver library lacks %s and %s", index,
                       symbols[AC_CALL_properties].name, symbols[AC_CALL_old_properties].name);
    }
    return 0;
}

static int inspect(ac_gpu_t *gpu, int index, ac_gpu_device_t *device, ac_error_t *error) {
    _Alignas(16) char properties[PROPERTIES_BYTES] = {0};
    const layout_t *layout = &layout_r0600;
    if (read_properties(gpu, index, properties, &layout, error) < 0) return -1;
    const char *name = properties + layout->arch_name; /* "gfx942:sramecc+:xnack-" */
    size_t length = 0;
    while (length < ARCH_NAME_BYTES && length < sizeof device->arch_name - 1 && name[length] && name[length] != ':')
        length++;
    memcpy(device->arch_name, name, length);
    device->arch_name[length] = '\0';
    memcpy(&device->facts.compute_units, properties + layout->compute_units, sizeof(int));
    device->facts.arch = ac_arch_from_driver(AC_DEVICE_HIP, device->arch_name);
    return 0;
}

static int enter(ac_gpu_t *gpu, int index, int *out_saved, ac_error_t *error) {
    AC_TRY_CALL(get_current, (out_saved));
    if (*out_saved != index) AC_TRY_CALL(set_current, (index));
    return 0;
}

static int leave(ac_gpu_t *gpu, int index, int saved, ac_error_t *error) {
    if (saved != index) AC_TRY_CALL(set_current, (saved));
    return 0;
}

static int copy(ac_gpu_t *gpu, int index, void *to, const void *from, size_t bytes, void *stream, ac_error_t *error) {
    AC_TRY_CALL(hip_copy, (to, from, bytes, COPY_KIND_DEFAULT, stream));
    return 0;
}

ac_gpu_t ac_hip = {
    .runtime = AC_GPU_RUNTIME("hip", AC_DEVICE_HIP),
    .title = "HIP",
    .libraries = libraries,
    .symbols = symbols,
    .launch_end = (void *)3,
    .max_threads = UINT32_MAX, /* a launch packet counts threads, not workgroups, in 32 bits */
    .places = places,
    .version_text = version_text,
    .error_name = error_name,
    .inspect = inspect,
    .enter = enter,
    .leave = leave,
    .copy = copy,
    .lock = PTHREAD_MUTEX_INITIALIZER,
};
