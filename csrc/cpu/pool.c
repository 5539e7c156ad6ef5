/* The thread pool. One op runs at a time: the calling thread and the workers take work items from a shared counter.
 *
 * An op is published in `gate`, one word: generation, an open bit, and the number of workers inside. A worker joins by
 * raising the number while the bit is set. The caller works too, clears the bit when no item is left and waits for the
 * number to fall to zero: it never waits for a worker that has not woken up. Workers spin for a while after an op, so
 * that the next op of a model's step finds them awake, and then sleep.
 *
 * What the system refuses costs speed and not the call: without a thread, or without scratch for it, the others
 * compute. An automatic number of threads follows the CPUs that the calling thread may use. One that was asked for is
 * kept; where it exceeds the CPUs, no thread spins and an op wakes no more workers than there are CPUs.
 *
 * A long op asks now and then whether to give up (ac_cpu_set_interrupt_check), on the calling thread: in a kernel's
 * blocks, between items, while it waits for workers, and while it waits for its turn. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* cpu_set_t */
#endif

#include "../core/float_env.h"
#include "available.h"
#include "cpu.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* How long a worker spins for the next op, and a caller for the workers' last items, before it sleeps. */
#define WORKER_SPIN_NS 50000
#define CALLER_SPIN_NS 500000

#define ASK_NS INT64_C(100000000)    /* between two questions whether to give up: each may wait for Python's GIL */
#define RETRY_NS INT64_C(1000000000) /* before another attempt at threads that could not be had */

#define GATE_WORKERS UINT64_C(0xffff)
#define GATE_OPEN UINT64_C(0x10000)
#define GATE_GENERATION UINT64_C(0x20000)
#define GATE_STOP (UINT64_C(1) << 63) /* workers leave for good */

static atomic_int asked_threads;   /* 0: automatic */
static atomic_bool is_newly_asked; /* the workers are those of an earlier number */

/* Held while an op runs or the pool changes. Guards everything up to `job`. */
static pthread_mutex_t run_mutex = PTHREAD_MUTEX_INITIALIZER;
static int num_workers; /* running */
static pthread_t workers[AC_CPU_MAX_THREADS];
static void *arenas[AC_CPU_MAX_THREADS]; /* of the calling thread and of each worker */
static cpu_set_t workers_mask;           /* the CPUs that the workers run on: those of the thread that started them */
static int64_t next_start;               /* when workers that could not be started are tried again */

static _Alignas(64) struct {
    ac_cpu_kernel_t kernel;
    const void *params;
    int64_t grid;
    atomic_bool is_cancelled;
} job; /* the first three: written while the gate is shut, read by those who joined */

static _Alignas(64) atomic_uint_least64_t gate;
static _Alignas(64) atomic_int_least64_t next_item;
static _Alignas(64) atomic_bool is_crowded; /* more threads than CPUs: who spins keeps another from working */

typedef struct sleepers_t {
    pthread_cond_t cond;
    atomic_int count;
} sleepers_t;

static pthread_mutex_t sleep_mutex = PTHREAD_MUTEX_INITIALIZER;        /* of both */
static sleepers_t idle_workers = {.cond = PTHREAD_COND_INITIALIZER};   /* until an op opens the gate */
static sleepers_t waiting_caller = {.cond = PTHREAD_COND_INITIALIZER}; /* until the last worker has left */

static bool (*should_stop)(void); /* set once, before the first op */

static _Thread_local struct {
    int64_t next_ask; /* 0 but on the thread whose op runs */
    bool is_asking;
} self;

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

/* The time at which a wait ends to ask, by the clock that mutexes and condition variables go by. A step of that clock
 * can delay the question, and nothing else. */
static struct timespec time_to_ask(void) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_nsec += ASK_NS;
    t.tv_sec += t.tv_nsec / 1000000000;
    t.tv_nsec %= 1000000000;
    return t;
}

/* ---- giving up --------------------------------------------------------------------------------------------------- */

static bool ask(void) {
    self.is_asking = true;
    bool stop = should_stop && should_stop();
    self.is_asking = false;
    return stop;
}

static int fail_interrupted(ac_error_t *error) {
    return ac_fail(error, AC_ERROR_INTERRUPTED, "cpu: interrupted; the contents of the outputs are undefined");
}

/* Once an op is cancelled nothing is asked any more: the handler's exception is live. */
bool ac_cpu_cancelled(void) {
    if (self.is_asking) return false; /* a signal handler runs an op within another */
    if (atomic_load_explicit(&job.is_cancelled, memory_order_relaxed)) return true;
    if (!self.next_ask || ac_cpu_coarse_ns() < self.next_ask) return false;
    if (ask()) atomic_store(&job.is_cancelled, true);
    self.next_ask = ac_cpu_coarse_ns() + ASK_NS;
    return atomic_load(&job.is_cancelled); /* also set by a handler that forks */
}

void ac_cpu_set_interrupt_check(bool (*check)(void)) { should_stop = check; }

/* ---- waiting ----------------------------------------------------------------------------------------------------- */

/* A worker waits for the gate to differ from what it saw; the caller for the last worker to leave. */
static bool gate_differs(uint64_t seen) { return ((atomic_load(&gate) ^ seen) & ~GATE_WORKERS) != 0; }
static bool gate_is_empty(uint64_t unused) {
    (void)unused;
    return !(atomic_load(&gate) & GATE_WORKERS);
}

static bool spin_until(bool (*done)(uint64_t), uint64_t argument, int64_t spin_ns) {
    int64_t start = now_ns();
    do {
        for (int i = 0; i < 64; i++) {
            if (done(argument)) return true;
            pause_briefly();
        }
    } while (now_ns() - start < spin_ns);
    return false;
}

/* `until`: when to stop waiting, or NULL. */
static void sleep_until(bool (*done)(uint64_t), uint64_t argument, sleepers_t *sleepers, const struct timespec *until) {
    pthread_mutex_lock(&sleep_mutex);
    atomic_fetch_add(&sleepers->count, 1); /* before the test: whoever changes the gate later sees a sleeper */
    for (int code = 0; code == 0 && !done(argument);)
        code = until ? pthread_cond_timedwait(&sleepers->cond, &sleep_mutex, until)
                     : pthread_cond_wait(&sleepers->cond, &sleep_mutex);
    atomic_fetch_sub(&sleepers->count, 1);
    pthread_mutex_unlock(&sleep_mutex);
}

static void wait_for_op(uint64_t seen) {
    int64_t spin_ns = atomic_load_explicit(&is_crowded, memory_order_relaxed) ? 0 : WORKER_SPIN_NS;
    if (!spin_until(gate_differs, seen, spin_ns)) sleep_until(gate_differs, seen, &idle_workers, NULL);
}

static void wait_for_workers(void) {
    int64_t spin_ns = atomic_load_explicit(&is_crowded, memory_order_relaxed) ? 0 : CALLER_SPIN_NS;
    bool is_done = spin_until(gate_is_empty, 0, spin_ns);
    while (!is_done) {
        struct timespec until = time_to_ask();
        sleep_until(gate_is_empty, 0, &waiting_caller, &until);
        is_done = gate_is_empty(0);
        if (!is_done) ac_cpu_cancelled();
    }
}

/* Wakes `most` of them at most. */
static void wake(sleepers_t *sleepers, int64_t most) {
    int count = atomic_load(&sleepers->count);
    if (count == 0) return;
    pthread_mutex_lock(&sleep_mutex);
    if (count <= most) pthread_cond_broadcast(&sleepers->cond);
    else
        for (int64_t i = 0; i < most; i++) pthread_cond_signal(&sleepers->cond);
    pthread_mutex_unlock(&sleep_mutex);
}

/* ---- working ----------------------------------------------------------------------------------------------------- */

static void run_items(void *local) {
    while (!ac_cpu_cancelled()) {
        int64_t item = atomic_fetch_add_explicit(&next_item, 1, memory_order_relaxed);
        if (item >= job.grid) return;
        job.kernel(job.params, item, local);
    }
}

static void *work(void *local) {
    uint64_t seen = 0;    /* of the gate without its workers; differs from any op's */
    ac_float_env_enter(); /* a thread inherits its creator's */
    for (;;) {
        wait_for_op(seen);
        uint64_t value = atomic_load(&gate);
        if (value & GATE_STOP) return NULL;
        seen = value & ~GATE_WORKERS;
        while ((value & ~GATE_WORKERS) == seen && (value & GATE_OPEN)) {
            if (!atomic_compare_exchange_weak(&gate, &value, value + 1)) continue;
            run_items(local);
            value = atomic_fetch_sub(&gate, 1);
            if ((value & GATE_WORKERS) == 1 && !(value & GATE_OPEN)) wake(&waiting_caller, 1);
            break;
        }
    }
}

/* On the calling thread, and on the workers that come while items are left. As many are woken as may be of use: one
 * per item and per CPU. */
static void run_job(bool is_shared, int num_cpus) {
    atomic_store_explicit(&next_item, 0, memory_order_relaxed);
    if (is_shared) {
        atomic_store(&gate, (atomic_load(&gate) + GATE_GENERATION) | GATE_OPEN);
        wake(&idle_workers, job.grid - 1 < num_cpus ? job.grid - 1 : num_cpus);
    }
    run_items(arenas[0]);
    if (is_shared) {
        atomic_fetch_and(&gate, ~GATE_OPEN);
        wait_for_workers();
    }
}

/* ---- starting and stopping, with run_mutex held ------------------------------------------------------------------ */

static void stop_workers(void) {
    next_start = 0;
    if (num_workers == 0) return;
    atomic_fetch_or(&gate, GATE_STOP);
    wake(&idle_workers, num_workers);
    for (int i = 0; i < num_workers; i++) pthread_join(workers[i], NULL);
    num_workers = 0;
    atomic_store(&gate, 0);
}

static void *new_arena(void) { return aligned_alloc(64, ((size_t)ac_cpu_local_bytes() + 63) / 64 * 64); }

/* Starts workers up to `count`, or as many as the system gives. */
static void start_workers(int count) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the process's own threads */
    for (; num_workers < count; num_workers++) {
        void **arena = &arenas[num_workers + 1];
        if (!*arena && !(*arena = new_arena())) break;
        if (pthread_create(&workers[num_workers], NULL, work, *arena) != 0) break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (num_workers < count) next_start = ac_cpu_coarse_ns() + RETRY_NS;
}

/* Has `count` workers, or as many as can be had. Those of an automatic number follow the calling thread to other CPUs;
 * if that has only one, they sleep. */
static void fit_workers(int count, bool is_automatic, const cpu_set_t *mask) {
    bool has_moved = is_automatic && memcmp(mask, &workers_mask, sizeof *mask) != 0;
    bool is_new = atomic_load(&is_newly_asked) && atomic_exchange(&is_newly_asked, false);
    if (is_new || (count > 0 && (has_moved || num_workers > count))) stop_workers();
    if (num_workers >= count || ac_cpu_coarse_ns() < next_start) return;
    if (num_workers == 0) workers_mask = *mask;
    start_workers(count);
}

/* A forked child has the forking thread alone. Whatever another thread held or was changing is set anew; the arenas
 * are kept: no other thread is left to use them. A signal handler that forks during an op leaves the child without the
 * workers' part of it: there the op has failed. */
static void reset_after_fork(void) {
    pthread_mutex_init(&run_mutex, NULL);
    pthread_mutex_init(&sleep_mutex, NULL);
    pthread_cond_init(&idle_workers.cond, NULL);
    pthread_cond_init(&waiting_caller.cond, NULL);
    num_workers = 0;
    next_start = 0;
    atomic_store(&idle_workers.count, 0);
    atomic_store(&waiting_caller.count, 0);
    atomic_store(&gate, 0);
    if (self.is_asking) atomic_store(&job.is_cancelled, true);
}

static void watch_forks(void) { pthread_atfork(NULL, NULL, reset_after_fork); }

/* The process ends or the library is unloaded: no thread and no memory may remain, unless an op still runs. */
__attribute__((destructor)) static void release(void) {
    if (pthread_mutex_trylock(&run_mutex) != 0) return;
    stop_workers();
    for (int i = 0; i < AC_CPU_MAX_THREADS; i++) {
        free(arenas[i]);
        arenas[i] = NULL;
    }
    pthread_mutex_unlock(&run_mutex);
}

/* ---- the interface ----------------------------------------------------------------------------------------------- */

static int at_most_max(int count) { return count < AC_CPU_MAX_THREADS ? count : AC_CPU_MAX_THREADS; }

/* Without the mutex: a plan must not wait for an op that runs on another thread. */
int ac_cpu_num_threads(bool fresh) {
    int asked = atomic_load(&asked_threads);
    return asked ? asked : at_most_max(ac_cpu_available(fresh)->count);
}

int ac_cpu_set_num_threads(int num_threads, ac_error_t *error) {
    if (num_threads < 0 || num_threads > AC_CPU_MAX_THREADS)
        return ac_fail(error, AC_ERROR_VALUE, "set_num_threads: n: expected 0 (automatic) to %d, got %d",
                       AC_CPU_MAX_THREADS, num_threads);
    atomic_store(&asked_threads, num_threads);
    atomic_store(&is_newly_asked, true); /* the next op stops and starts workers */
    return 0;
}

static int fail_no_scratch(ac_error_t *error) {
    return ac_fail(error, AC_ERROR_MEMORY, "cpu: cannot allocate %lld bytes of scratch",
                   (long long)ac_cpu_local_bytes());
}

/* An op of a signal handler, within another op of this thread, which holds the pool. */
static int run_alone(ac_cpu_kernel_t kernel, const void *params, int64_t grid, ac_error_t *error) {
    void *arena = new_arena();
    if (!arena) return fail_no_scratch(error);
    for (int64_t item = 0; item < grid; item++) kernel(params, item, arena);
    free(arena);
    return 0;
}

/* Ops of other threads run first. */
static int lock_pool(ac_error_t *error) {
    if (pthread_mutex_trylock(&run_mutex) == 0) return 0;
    for (;;) {
        struct timespec until = time_to_ask();
        if (pthread_mutex_timedlock(&run_mutex, &until) == 0) return 0;
        if (ask()) return fail_interrupted(error);
    }
}

static int run_locked(ac_error_t *error) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, watch_forks);
    if (!arenas[0] && !(arenas[0] = new_arena())) return fail_no_scratch(error);
    const ac_cpu_available_t *available = ac_cpu_available(false);
    const int asked = atomic_load(&asked_threads), count = (asked ? asked : at_most_max(available->count)) - 1;
    fit_workers(count, asked == 0, &available->mask);
    atomic_store_explicit(&is_crowded, num_workers >= available->count, memory_order_relaxed);
    atomic_store_explicit(&job.is_cancelled, false, memory_order_relaxed);
    self.next_ask = ac_cpu_coarse_ns() + ASK_NS;
    run_job(job.grid > 1 && count > 0 && num_workers > 0, available->count);
    self.next_ask = 0;
    return atomic_load_explicit(&job.is_cancelled, memory_order_relaxed) ? fail_interrupted(error) : 0;
}

int ac_cpu_run(ac_cpu_kernel_t kernel, int local_bytes, const void *params, int64_t grid, ac_error_t *error) {
    if (grid <= 0) return 0;
    if (local_bytes > ac_cpu_local_bytes())
        return ac_fail(error, AC_ERROR_MEMORY, "cpu: a kernel wants %d bytes of scratch, threads have %lld",
                       local_bytes, (long long)ac_cpu_local_bytes());
    if (self.is_asking) return run_alone(kernel, params, grid, error);
    if (lock_pool(error) < 0) return -1;
    job.kernel = kernel;
    job.params = params;
    job.grid = grid;
    int status = run_locked(error);
    pthread_mutex_unlock(&run_mutex);
    return status;
}
