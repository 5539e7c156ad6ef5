/* A system with other CPUs, fewer threads or less memory than this one: preloaded before the C library, it answers in
 * its place what the pool asks. Tests turn the answers by ctypes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

unsigned long fake_cpus;          /* the affinity mask of every thread; 0: the real one */
int fake_threads_left = 1 << 30;  /* how many threads may still be started */
int fake_threads_asked;           /* how often one was asked for */
int fake_blocks_left = 1 << 30;   /* how many times aligned_alloc still gives memory */
char fake_root[512];              /* put before /proc/self/cgroup and /sys/fs/cgroup */

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int sched_getaffinity(pid_t pid, size_t size, cpu_set_t *mask) {
    if (!fake_cpus) return REAL(sched_getaffinity)(pid, size, mask);
    memset(mask, 0, size);
    for (int i = 0; i < 64; i++)
        if (fake_cpus >> i & 1) CPU_SET(i, mask);
    return 0;
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *argument) {
    fake_threads_asked++;
    if (fake_threads_left <= 0) return EAGAIN;
    fake_threads_left--;
    return REAL(pthread_create)(thread, attributes, run, argument);
}

void *aligned_alloc(size_t alignment, size_t size) {
    if (fake_blocks_left <= 0) return NULL;
    fake_blocks_left--;
    return REAL(aligned_alloc)(alignment, size);
}

FILE *fopen(const char *path, const char *mode) {
    char other[1024];
    if (strncmp(path, "/proc/self/cgroup", 17) == 0 || strncmp(path, "/sys/fs/cgroup", 14) == 0) {
        snprintf(other, sizeof other, "%s%s", fake_root, path);
        path = other;
    }
    return REAL(fopen)(path, mode);
}
