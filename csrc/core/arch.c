/* The rows of arch.inc as a table, and how it is searched. */
#include "arch.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    ac_device_type_t device;
    const char *driver_name, *suffix;
} archs[AC_ARCH_COUNT] = {
#define ARCH(id, name, device, driver_name, suffix) [id] = {name, device, driver_name, suffix},
#include "arch.inc"
#undef ARCH
};

const char *ac_arch_name(ac_arch_t arch) { return arch < AC_ARCH_COUNT ? archs[arch].name : "?"; }

const char *ac_arch_suffix(ac_arch_t arch) { return arch < AC_ARCH_COUNT ? archs[arch].suffix : NULL; }

ac_device_type_t ac_arch_device(ac_arch_t arch) { return archs[arch].device; }

bool ac_arch_is_cpu(ac_arch_t arch) { return arch < AC_ARCH_COUNT && archs[arch].device == AC_DEVICE_CPU; }

ac_arch_t ac_arch_lowest(ac_arch_t arch) { return ac_arch_is_cpu(arch) ? AC_CPU_PORTABLE : arch; }

ac_arch_t ac_arch_from_name(const char *name) {
    int i = 0;
    while (i < AC_ARCH_COUNT && strcmp(archs[i].name, name) != 0) i++;
    return (ac_arch_t)i;
}

ac_arch_t ac_arch_from_driver(ac_device_type_t device, const char *driver_name) {
    for (int i = 0; i < AC_ARCH_COUNT; i++)
        if (archs[i].device == device && archs[i].driver_name && strcmp(archs[i].driver_name, driver_name) == 0)
            return (ac_arch_t)i;
    return AC_ARCH_COUNT;
}

const char *ac_arch_list_text(ac_device_type_t device, char *text, int size) {
    int left = 0, used = 0;
    text[0] = 0;
    for (int i = 0; i < AC_ARCH_COUNT; i++) left += archs[i].device == device;
    for (int i = 0; i < AC_ARCH_COUNT && used < size; i++) {
        if (archs[i].device != device) continue;
        const char *join = used == 0 ? "" : left == 1 ? " or " : ", ";
        const bool same = archs[i].driver_name && strcmp(archs[i].driver_name, archs[i].name) == 0;
        used += snprintf(text + used, (size_t)(size - used), "%s%s", join, archs[i].driver_name);
        if (!same && used < size) used += snprintf(text + used, (size_t)(size - used), " (%s)", archs[i].name);
        left--;
    }
    return text;
}
