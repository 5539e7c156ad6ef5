/* The architectures that kernels are written for: the rows of arch.inc. */
#ifndef AC_CORE_ARCH_H
#define AC_CORE_ARCH_H

#include <stdbool.h>

/* DLPack's numbers. */
typedef enum ac_device_type_t {
    AC_DEVICE_CPU = 1,
    AC_DEVICE_CUDA = 2,
    AC_DEVICE_CUDA_HOST = 3,
    AC_DEVICE_HIP = 10,
    AC_DEVICE_HIP_HOST = 11,
} ac_device_type_t;

typedef enum ac_arch_t {
#define ARCH(id, name, device, driver_name, suffix) id,
#include "arch.inc"
#undef ARCH
    AC_ARCH_COUNT
} ac_arch_t;

const char *ac_arch_name(ac_arch_t arch);        /* "?" for AC_ARCH_COUNT */
const char *ac_arch_suffix(ac_arch_t arch);      /* of its code objects; NULL on the CPU */
ac_device_type_t ac_arch_device(ac_arch_t arch); /* of one that is not AC_ARCH_COUNT */
bool ac_arch_is_cpu(ac_arch_t arch);
/* The first architecture whose kernels `arch` runs; `arch` is the last. */
ac_arch_t ac_arch_lowest(ac_arch_t arch);
ac_arch_t ac_arch_from_name(const char *name); /* AC_ARCH_COUNT: no such name */
/* From what a driver calls a device of the type; AC_ARCH_COUNT: no kernel is written for it. */
ac_arch_t ac_arch_from_driver(ac_device_type_t device, const char *driver_name);
/* "gfx942 or gfx950", the driver's names of a device type; returns text. */
const char *ac_arch_list_text(ac_device_type_t device, char *text, int size);

#endif
