/* The thread pool. One op runs at a time: the calling thread and the workers take work items from a shared counter.
 *
 * An op is published in `gate`, one word: generation, an open bit, and the number of workers inside. A worker joins by
 * raising the number while the bit is set. The caller works too, clears the bit when no item is left and waits for the
 * number to fall to zero: it never waits for a worker that has not woken up. Workers spin for a while after an op, so
 * that the next op of a model's step finds them awake, and then sleep. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* sched_getaffinity */
#endif

#include "cpu.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* How long a worker spins for the next op, and a caller for the workers' last items, before it sleeps. */
#define WORKER_SPIN_NS 50000
#define CALLER_SPIN_NS 500000

#define GATE_WORKERS UINT64_C(0xffff)
#define GATE_OPEN UINT64_C(0x10000)
#define GATE_GENERATION UINT64_C(0x20000)
#define GATE_STOP (UINT64_C(1) << 63) /* workers leave for good */

/* Held while an op runs or the pool changes. Guards everything up to `gate`. */
static pthread_mutex_t run_mutex = PTHREAD_MUTEX_INITIALIZER;
static atomic_int wanted_threads; /* 0: not set; written under run_mutex, read by anyone */
static int num_workers;    /* running */
static pthread_t workers[AC_CPU_MAX_THREADS];
static void *arenas[AC_CPU_MAX_THREADS]; /* of the calling thread and of each worker */

static struct {
    ac_cpu_kernel_t kernel;
    const void *params;
    int64_t grid;
} job; /* written while the gate is shut, read by those who joined */

static _Alignas(64) atomic_uint_least64_t gate;
static _Alignas(64) atomic_int_least64_t next_item;

/* Sleepers of both kinds: workers waiting for an op, the caller waiting for workers. */
static _Alignas(64) pthread_mutex_t sleep_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER;
static atomic_int num_sleepers;

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static int count_cpus(void) {
    long count = 0;
#ifdef __linux__
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0) count = CPU_COUNT(&set);
#endif
    if (count < 1) count = sysconf(_SC_NPROCESSORS_ONLN); /* more CPUs than the set holds, or another system */
    return count < 1 ? 1 : count > AC_CPU_MAX_THREADS ? AC_CPU_MAX_THREADS : (int)count;
}

/* ---- waiting --------------------------------------------------------------------------------------------------- */

/* A worker waits for the gate to differ from what it saw; the caller for the last worker to leave. */
static int gate_differs(uint64_t seen) { return ((atomic_load(&gate) ^ seen) & ~GATE_WORKERS) != 0; }
static int gate_is_empty(uint64_t unused) {
    (void)unused;
    return !(atomic_load(&gate) & GATE_WORKERS);
}

static void wait_until(int (*done)(uint64_t), uint64_t argument, int64_t spin_ns) {
    int64_t start = now_ns();
    do {
        for (int i = 0; i < 64; i++) {
            if (done(argument)) return;
            pause_briefly();
        }
    } while (now_ns() - start < spin_ns);
    pthread_mutex_lock(&sleep_mutex);
    atomic_fetch_add(&num_sleepers, 1); /* before the test: whoever changes the gate later sees a sleeper */
    while (!done(argument)) pthread_cond_wait(&wake, &sleep_mutex);
    atomic_fetch_sub(&num_sleepers, 1);
    pthread_mutex_unlock(&sleep_mutex);
}

static void wake_sleepers(void) {
    if (atomic_load(&num_sleepers) == 0) return;
    pthread_mutex_lock(&sleep_mutex);
    pthread_cond_broadcast(&wake);
    pthread_mutex_unlock(&sleep_mutex);
}

/* ---- working --------------------------------------------------------------------------------------------------- */

static void run_items(void *local) {
    for (;;) {
        int64_t item = atomic_fetch_add_explicit(&next_item, 1, memory_order_relaxed);
        if (item >= job.grid) return;
        job.kernel(job.params, item, local);
    }
}

static void *work(void *local) {
    uint64_t seen = 0; /* of the gate without its workers; differs from any op's */
    for (;;) {
        wait_until(gate_differs, seen, WORKER_SPIN_NS);
        uint64_t value = atomic_load(&gate);
        if (value & GATE_STOP) return NULL;
        seen = value & ~GATE_WORKERS;
        while ((value & ~GATE_WORKERS) == seen && (value & GATE_OPEN)) {
            if (!atomic_compare_exchange_weak(&gate, &value, value + 1)) continue;
            run_items(local);
            value = atomic_fetch_sub(&gate, 1);
            if ((value & GATE_WORKERS) == 1 && !(value & GATE_OPEN)) wake_sleepers();
            break;
        }
    }
}

/* ---- starting and stopping, with run_mutex held ---------------------------------------------------------------- */

static void stop_workers(void) {
    if (num_workers == 0) return;
    atomic_fetch_or(&gate, GATE_STOP);
    wake_sleepers();
    for (int i = 0; i < num_workers; i++) pthread_join(workers[i], NULL);
    num_workers = 0;
    atomic_store(&gate, 0);
}

static int start_workers(int count, ac_error_t *error) {
    size_t bytes = ((size_t)ac_cpu_local_bytes() + 63) / 64 * 64;
    sigset_t all, before;
    for (int i = 0; i <= count; i++)
        if (!arenas[i] && !(arenas[i] = aligned_alloc(64, bytes)))
            return ac_fail(error, AC_ERROR_MEMORY, "cpu: cannot allocate %zu bytes of scratch for thread %d of %d",
                           bytes, i + 1, count + 1);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the process's own threads */
    int code = 0;
    while (num_workers < count && code == 0) {
        code = pthread_create(&workers[num_workers], NULL, work, arenas[num_workers + 1]);
        num_workers += code == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code == 0) return 0;
    int started = num_workers + 1;
    stop_workers();
    return ac_fail(error, AC_ERROR_MEMORY, "cpu: cannot start thread %d of %d: %s", started + 1, count + 1,
                   strerror(code));
}

/* A forked child has the forking thread alone. Whatever another thread held or was changing is set anew; the arenas
 * are kept, for nobody else is left to use them. */
static void reset_after_fork(void) {
    pthread_mutex_init(&run_mutex, NULL);
    pthread_mutex_init(&sleep_mutex, NULL);
    pthread_cond_init(&wake, NULL);
    num_workers = 0;
    atomic_store(&num_sleepers, 0);
    atomic_store(&gate, 0);
}

static void watch_forks(void) { pthread_atfork(NULL, NULL, reset_after_fork); }

static int ensure_started(ac_error_t *error) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    if (atomic_load(&wanted_threads) == 0) atomic_store(&wanted_threads, count_cpus());
    int count = atomic_load(&wanted_threads) - 1;
    if (num_workers == count && arenas[0]) return 0;
    stop_workers();
    return start_workers(count, error);
}

/* The process or the library goes: leave no thread and no memory behind, unless an op still runs. */
__attribute__((destructor)) static void release(void) {
    if (pthread_mutex_trylock(&run_mutex) != 0) return;
    stop_workers();
    for (int i = 0; i < AC_CPU_MAX_THREADS; i++) {
        free(arenas[i]);
        arenas[i] = NULL;
    }
    pthread_mutex_unlock(&run_mutex);
}

/* ---- the interface --------------------------------------------------------------------------------------------- */

/* Without the mutex: a plan must not wait for an op that runs on another thread. */
int ac_cpu_num_threads(void) {
    int count = atomic_load(&wanted_threads);
    return count ? count : count_cpus();
}

int ac_cpu_set_num_threads(int num_threads, ac_error_t *error) {
    if (num_threads < 0 || num_threads > AC_CPU_MAX_THREADS)
        return ac_fail(error, AC_ERROR_VALUE, "set_num_threads: n: expected 0 (automatic) to %d, got %d",
                       AC_CPU_MAX_THREADS, num_threads);
    pthread_mutex_lock(&run_mutex);
    atomic_store(&wanted_threads, num_threads); /* the next op starts them */
    stop_workers();
    pthread_mutex_unlock(&run_mutex);
    return 0;
}

int ac_cpu_run(ac_cpu_kernel_t kernel, int local_bytes, const void *params, int64_t grid, ac_error_t *error) {
    if (grid <= 0) return 0;
    if (local_bytes > ac_cpu_local_bytes())
        return ac_fail(error, AC_ERROR_MEMORY, "cpu: a kernel wants %d bytes of scratch, threads have %lld",
                       local_bytes, (long long)ac_cpu_local_bytes());
    pthread_mutex_lock(&run_mutex);
    int status = ensure_started(error);
    if (status == 0 && (grid == 1 || num_workers == 0)) {
        for (int64_t item = 0; item < grid; item++) kernel(params, item, arenas[0]);
    } else if (status == 0) {
        job.kernel = kernel;
        job.params = params;
        job.grid = grid;
        atomic_store_explicit(&next_item, 0, memory_order_relaxed);
        atomic_store(&gate, (atomic_load(&gate) + GATE_GENERATION) | GATE_OPEN);
        wake_sleepers();
        run_items(arenas[0]);
        atomic_fetch_and(&gate, ~GATE_OPEN);
        wait_until(gate_is_empty, 0, CALLER_SPIN_NS);
    }
    pthread_mutex_unlock(&run_mutex);
    return status;
}
