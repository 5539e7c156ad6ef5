/* The workgroups of a launch over the host's cores. Threads live only inside a launch, so that a fork between launches
 * finds none and nothing runs when the process ends. */
#define _GNU_SOURCE /* sched_getaffinity */

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>

#include "clock.h"

enum { MAX_THREADS = 64 };

typedef struct job_t {
    const gs_dispatch_t *dispatch;
    uint64_t next_turn;   /* atomic */
    uint64_t last_turn;   /* atomic: falls to the earliest turn with a report */
    pthread_mutex_t lock; /* of the report */
    gs_report_t *report;
} job_t;

typedef struct worker_t {
    job_t *job;
    gs_crew_t *crew;
    pthread_t thread;
} worker_t;

static gs_crew_t crews[MAX_THREADS]; /* the register files and LDS: large, so they are kept */

static void keep_report(job_t *job, uint64_t turn, const gs_report_t *report) {
    pthread_mutex_lock(&job->lock);
    if (turn <= job->last_turn) {
        __atomic_store_n(&job->last_turn, turn, __ATOMIC_RELAXED);
        *job->report = *report;
    }
    pthread_mutex_unlock(&job->lock);
}

static void *work(void *argument) {
    worker_t *worker = argument;
    job_t *job = worker->job;
    for (;;) {
        uint64_t turn = __atomic_fetch_add(&job->next_turn, 1, __ATOMIC_RELAXED);
        if (turn >= job->dispatch->workgroup_count) break;
        if (turn > __atomic_load_n(&job->last_turn, __ATOMIC_RELAXED)) break;
        if (gs_clock_takes(job->dispatch, turn)) continue;
        gs_report_t report;
        if (!gs_run_workgroup(job->dispatch, worker->crew, turn, &job->last_turn, &report)) {
            keep_report(job, turn, &report);
        }
    }
    return NULL;
}

static int thread_count(const gs_dispatch_t *dispatch) {
    int threads = dispatch->options->threads;
    if (threads <= 0) {
        cpu_set_t set;
        threads = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    }
    if (threads > MAX_THREADS) threads = MAX_THREADS;
    return (uint64_t)threads > dispatch->workgroup_count ? (int)dispatch->workgroup_count : threads;
}

/* Starts threads for all workers but the first, which is the caller. Returns how many run; fewer do as well. */
static int start(worker_t *workers, int count) {
    sigset_t all, before;
    int started = 1;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the caller's threads */
    while (started < count && pthread_create(&workers[started].thread, NULL, work, &workers[started]) == 0) started++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

bool gs_run_launch(const gs_dispatch_t *dispatch, gs_totals_t *totals, gs_report_t *report) {
    worker_t workers[MAX_THREADS];
    job_t job = {dispatch, 0, UINT64_MAX, PTHREAD_MUTEX_INITIALIZER, report};
    int count = thread_count(dispatch);
    report->kind = GS_REPORT_NONE;
    for (int i = 0; i < count; i++) {
        if (!gs_crew_reserve(&crews[i], dispatch)) return false;
        memset(&crews[i].workgroup.counters, 0, sizeof crews[i].workgroup.counters);
        workers[i] = (worker_t){.job = &job, .crew = &crews[i]};
    }
    int started = start(workers, count);
    work(&workers[0]);
    for (int i = 1; i < started; i++) pthread_join(workers[i].thread, NULL);
    if (dispatch->options->clock > 0 && report->kind == GS_REPORT_NONE && !gs_clock_run(dispatch, totals, report)) {
        return false;
    }
    for (int i = 0; i < count; i++) gs_add_counters(&totals->counters, &crews[i].workgroup.counters);
    totals->launches++;
    totals->workgroups += dispatch->workgroup_count;
    totals->waves += dispatch->workgroup_count * (uint64_t)dispatch->wave_count;
    return true;
}
