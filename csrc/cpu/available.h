/* How many CPUs this process may use now. */
#ifndef AC_CPU_AVAILABLE_H
#define AC_CPU_AVAILABLE_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __linux__
#include <sched.h>
#else
typedef struct cpu_set_t {
    char unknown;
} cpu_set_t;
#endif

typedef struct ac_cpu_available_t {
    int count;      /* at least 1: CPUs of the mask, or fewer by the quota of the control groups */
    cpu_set_t mask; /* of the calling thread; empty where the system does not say */
} ac_cpu_available_t;

/* What the calling thread may use; good until its next call. The mask was looked up now, or some milliseconds ago
 * unless `fresh`; the quota at most a second ago. */
const ac_cpu_available_t *ac_cpu_available(bool fresh);

/* The CPUs (rounded up) that the process's control groups, version 1 or 2, allow it, or 0 where they set no limit.
 * `root` is put before the system's paths: "" but in tests. */
int64_t ac_cpu_quota(const char *root);

/* A clock that takes a few nanoseconds and ticks every 1 to 10 ms. */
int64_t ac_cpu_coarse_ns(void);

#endif
