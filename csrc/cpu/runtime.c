/* The CPU as a device: memory is the process's own, everything runs at once, streams have no meaning. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "../device/device.h"
#include "cpu.h"

int64_t ac_cpu_local_bytes(void) {
    static _Atomic int64_t most;
    const ac_kernel_t *kernel;
    if (most == 0)
        for (int i = 0; (kernel = ac_kernel(i)) != NULL; i++)
            if (kernel->run && kernel->local_bytes > most) most = kernel->local_bytes;
    return most;
}

static int cpu_device_count(const ac_runtime_t *self, int *out_count, ac_error_t *error) {
    (void)self, (void)error;
    *out_count = 1;
    return 0;
}

static int cpu_facts(const ac_runtime_t *self, int index, ac_device_facts_t *out_facts, ac_error_t *error) {
    (void)self, (void)index, (void)error;
    out_facts->arch = ac_cpu_arch();
    out_facts->compute_units = ac_cpu_num_threads(false);
    out_facts->max_items = out_facts->max_threads = INT64_MAX;
    return 0;
}

static int cpu_alloc(const ac_runtime_t *self, int index, size_t bytes, void **out_pointer, ac_error_t *error) {
    (void)self, (void)index;
    /* aligned_alloc wants a multiple of the alignment, and 0 bytes shall have an address too. */
    *out_pointer = bytes <= SIZE_MAX - 64 ? aligned_alloc(64, bytes == 0 ? 64 : (bytes + 63) / 64 * 64) : NULL;
    if (!*out_pointer) return ac_fail(error, AC_ERROR_MEMORY, "cpu: cannot allocate %zu bytes", bytes);
    return 0;
}

static void cpu_free(const ac_runtime_t *self, int index, void *pointer) {
    (void)self, (void)index;
    free(pointer);
}

static int cpu_copy(const ac_runtime_t *self, int index, void *to, const void *from, size_t bytes, intptr_t stream,
                    ac_error_t *error) {
    (void)self, (void)index, (void)stream, (void)error;
    if (bytes > 0) memcpy(to, from, bytes);
    return 0;
}

static int cpu_synchronize(const ac_runtime_t *self, int index, ac_error_t *error) {
    (void)self, (void)index, (void)error;
    return 0;
}

static int cpu_fill32(const ac_runtime_t *self, int index, void *to, uint32_t word, int64_t count, intptr_t stream,
                      ac_error_t *error) {
    (void)self, (void)index, (void)stream, (void)error;
    for (int64_t i = 0; i < count; i++) memcpy((char *)to + i * (int64_t)sizeof word, &word, sizeof word);
    return 0;
}

static int cpu_launch(const ac_runtime_t *self, int index, const ac_launch_t *launch, ac_error_t *error) {
    const ac_cpu_kernel_t run = launch->kernel->run;
    (void)self, (void)index;
    if (!run || launch->kernel->arch > ac_cpu_arch())
        return ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: expected a kernel of this processor (%s), got one for %s",
                       launch->kernel->name, ac_arch_name(ac_cpu_arch()), ac_arch_name(launch->kernel->arch));
    return ac_cpu_run(run, launch->kernel->local_bytes, launch->params, launch->grid, error);
}

static int cpu_is_capturing(const ac_runtime_t *self, int index, intptr_t stream, bool *out_is, ac_error_t *error) {
    (void)self, (void)index, (void)stream, (void)error;
    *out_is = false;
    return 0;
}

const ac_runtime_t ac_cpu_runtime = {
    .name = "cpu",
    .device_type = AC_DEVICE_CPU,
    .device_count = cpu_device_count,
    .facts = cpu_facts,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .copy = cpu_copy,
    .synchronize = cpu_synchronize,
    .fill32 = cpu_fill32,
    .launch = cpu_launch,
    .is_capturing = cpu_is_capturing,
};
