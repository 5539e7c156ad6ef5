/* How many CPUs this process may use. Both answers may change while it runs: serving engines pin their workers after
 * the import, and an orchestrator may resize a container. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getaffinity, CLOCK_MONOTONIC_COARSE */
#endif

#include "available.h"

#include <inttypes.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#ifndef CLOCK_MONOTONIC_COARSE
#define CLOCK_MONOTONIC_COARSE CLOCK_MONOTONIC
#endif

#define QUOTA_LOOK_NS INT64_C(1000000000) /* reading it takes several system calls */
#define LONGEST_PATH 1024

int64_t ac_cpu_coarse_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

/* ---- the quota of the control groups ---------------------------------------------------------------------------- */

/* The first line of a file, without its end; false where there is none. */
static bool read_line(const char *path, char *out_line, int size) {
    FILE *file = fopen(path, "re");
    if (!file) return false;
    bool found = fgets(out_line, size, file) != NULL;
    fclose(file);
    if (found) out_line[strcspn(out_line, "\n")] = '\0';
    return found;
}

/* CPUs, rounded up; 0: unlimited (version 1 says -1, version 2 "max", and the text is then no number). */
static int64_t to_cpus(int64_t quota_us, int64_t period_us) {
    if (quota_us <= 0 || period_us <= 0) return 0;
    return quota_us / period_us + (quota_us % period_us != 0);
}

static int64_t quota_of_folder(const char *folder) {
    char path[LONGEST_PATH + 32], line[64], period_line[64];
    int64_t quota = 0, period = 0;
    snprintf(path, sizeof path, "%s/cpu.max", folder);
    if (read_line(path, line, sizeof line)) /* "200000 100000" */
        return sscanf(line, "%" SCNd64 " %" SCNd64, &quota, &period) == 2 ? to_cpus(quota, period) : 0;
    snprintf(path, sizeof path, "%s/cpu.cfs_quota_us", folder);
    if (!read_line(path, line, sizeof line)) return 0;
    snprintf(path, sizeof path, "%s/cpu.cfs_period_us", folder);
    if (!read_line(path, period_line, sizeof period_line)) return 0;
    if (sscanf(line, "%" SCNd64, &quota) != 1 || sscanf(period_line, "%" SCNd64, &period) != 1) return 0;
    return to_cpus(quota, period);
}

/* The smallest quota of the group and of those around it, up to the mount. In a container the group's path may be the
 * host's, of which only the mount itself is there. */
static int64_t quota_of_group(const char *mount, const char *group) {
    char folder[LONGEST_PATH];
    int64_t least = 0;
    size_t mount_length = strlen(mount);
    int length = snprintf(folder, sizeof folder, "%s%s", mount, group);
    if (length < 0 || (size_t)length >= sizeof folder) return 0;
    for (;;) {
        int64_t cpus = quota_of_folder(folder);
        if (cpus > 0 && (least == 0 || cpus < least)) least = cpus;
        char *slash = strrchr(folder + mount_length, '/');
        if (!slash) return least;
        *slash = '\0';
    }
}

/* "cpu" among the controllers that are separated by commas. */
static bool names_cpu(const char *controllers) {
    for (const char *name = controllers; *name;) {
        size_t length = strcspn(name, ",");
        if (length == 3 && strncmp(name, "cpu", 3) == 0) return true;
        name += length + (name[length] == ',');
    }
    return false;
}

int64_t ac_cpu_quota(const char *root) {
    char path[LONGEST_PATH], line[LONGEST_PATH];
    int64_t least = 0;
    snprintf(path, sizeof path, "%s/proc/self/cgroup", root);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) { /* "4:cpu,cpuacct:/a/group" or, in version 2, "0::/a/group" */
        char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
        if (!group) continue;
        line[strcspn(line, "\n")] = '\0';
        *controllers++ = *group++ = '\0';
        if (*controllers && !names_cpu(controllers)) continue;
        snprintf(path, sizeof path, "%s/sys/fs/cgroup%s%s", root, *controllers ? "/" : "", controllers);
        int64_t cpus = quota_of_group(path, group);
        if (cpus > 0 && (least == 0 || cpus < least)) least = cpus;
    }
    if (file) fclose(file);
    return least;
}

/* At most one look a second for the whole process. */
static int64_t recent_quota(int64_t now) {
    static atomic_int_least64_t next_look, quota;
    int64_t due = atomic_load(&next_look);
    if (now >= due && atomic_compare_exchange_strong(&next_look, &due, now + QUOTA_LOOK_NS))
        atomic_store(&quota, ac_cpu_quota(""));
    return atomic_load(&quota);
}

/* ---- the affinity mask ------------------------------------------------------------------------------------------- */

static void look(int64_t now, ac_cpu_available_t *out) {
    memset(out, 0, sizeof *out);
#ifdef __linux__
    if (sched_getaffinity(0, sizeof out->mask, &out->mask) == 0) out->count = CPU_COUNT(&out->mask);
#endif
    if (out->count < 1) out->count = (int)sysconf(_SC_NPROCESSORS_ONLN); /* refused, or more CPUs than the mask holds */
    int64_t quota = recent_quota(now);
    if (quota > 0 && quota < out->count) out->count = (int)quota;
    if (out->count < 1) out->count = 1;
}

const ac_cpu_available_t *ac_cpu_available(bool fresh) {
    static _Thread_local ac_cpu_available_t seen; /* each thread has a mask */
    static _Thread_local int64_t seen_at = -1;
    int64_t now = ac_cpu_coarse_ns(); /* ticks every 1 to 10 ms */
    if (fresh || now != seen_at) look(now, &seen);
    seen_at = now;
    return &seen;
}
