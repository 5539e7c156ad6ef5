/* From a launch to its waves: dispatch.c sets up registers and arguments, schedule.c runs the waves of one workgroup,
 * parallel.c the workgroups of a launch, order.c a launch under several interleavings. */
#ifndef GFXSIM_LAUNCH_H
#define GFXSIM_LAUNCH_H

#include "code_object.h"
#include "races.h"

enum { GS_MAX_WAVES = 16, GS_MAX_USER_SGPRS = 32, GS_REPORT_TEXT = 2048 };

typedef struct gs_options_t {
    uint64_t seed;      /* 0: waves take turns; else a random interleaving */
    uint64_t quantum;   /* instructions of a turn */
    uint64_t timeout;   /* instructions of one wave before the launch is given up */
    int threads;        /* 0: all that the process may use */
    int order_check;    /* reruns under other seeds */
    int check_barriers; /* 1: a wave must not end while others wait; 2: all must wait at the same instruction */
    bool check_waits, check_races, check_uninitialized;
    bool keep_going;  /* missing waits and LDS races are listed and do not end the launch */
    int clock;        /* compute units whose workgroups are timed (clock.h); 0: none */
    int clock_active; /* compute units that share the memory's bandwidth; 0: those that have work */
    int clock_near;   /* what a launch reads is in the Infinity Cache, as what the one before wrote */
    bool clock_only;  /* workgroups that are not timed do not run */
    bool quiet;       /* nothing on stderr */
    bool hide_memory; /* device memory faults when the host touches it */
    bool sticky;      /* a device that failed stays failed until gfxsim_reset, as on a GPU */
    bool late_errors; /* a launch succeeds and the next synchronisation fails, as on a GPU */
    uint8_t fill;     /* fresh device memory; 0xff is a NaN in every format */
} gs_options_t;

typedef struct gs_report_t {
    gs_report_kind_t kind;
    char text[GS_REPORT_TEXT];
} gs_report_t;

typedef struct gs_launch_t {
    gs_kernel_t *kernel;
    uint32_t grid[3], block[3]; /* workgroups; work-items of one */
    uint32_t dynamic_lds;
    const uint8_t *arguments; /* [kernel->kernarg_bytes], the explicit ones filled in */
} gs_launch_t;

typedef struct gs_totals_t {
    gs_counters_t counters;
    uint64_t launches, workgroups, waves;
} gs_totals_t;

/* A launch made ready: all that its waves share. */
typedef struct gs_dispatch_t {
    gs_program_t program;
    const gs_launch_t *launch;
    const gs_options_t *options;
    uint32_t lds_bytes, threads;
    int wave_count; /* per workgroup */
    uint64_t workgroup_count;
    uintptr_t entry;
    uint32_t user_sgprs[GS_MAX_USER_SGPRS];
    int user_sgpr_count;
    gs_buffer_t *kernarg, *packet;
} gs_dispatch_t;

/* One host thread's waves and LDS, kept from launch to launch. */
typedef struct gs_crew_t {
    gs_workgroup_t workgroup;
    gs_races_t races;
    gs_wave_t *waves[GS_MAX_WAVES];
    uint8_t *scratch[GS_MAX_WAVES];
    uint32_t scratch_bytes, lds_capacity;
} gs_crew_t;

/* dispatch.c; false: out of memory. */
bool gs_dispatch_begin(gs_dispatch_t *dispatch, const gs_launch_t *launch, const gs_options_t *options);
void gs_dispatch_start_wave(const gs_dispatch_t *dispatch, gs_crew_t *crew, int index);
void gs_dispatch_end(gs_dispatch_t *dispatch);

/* schedule.c: runs the workgroup whose turn it is. False: there is a report. A report of another thread lowers
 * `*last_turn`, and later turns give up. */
bool gs_crew_reserve(gs_crew_t *crew, const gs_dispatch_t *dispatch);
bool gs_run_workgroup(const gs_dispatch_t *dispatch, gs_crew_t *crew, uint64_t turn, const uint64_t *last_turn,
                      gs_report_t *report);

/* parallel.c: false: out of memory. The report of the earliest turn wins; kind NONE: there is none. */
bool gs_run_launch(const gs_dispatch_t *dispatch, gs_totals_t *totals, gs_report_t *report);

/* order.c: gs_run_launch, then again under other seeds as the options say. */
bool gs_run_checked(const gs_launch_t *launch, const gs_options_t *options, gs_totals_t *totals, gs_report_t *report);

/* report.c */
const char *gs_report_kind_name(gs_report_kind_t kind);
void gs_report_of_wave(gs_report_t *report, const gs_wave_t *wave);
void gs_report_of_machine(gs_report_t *report, const gs_dispatch_t *dispatch, const gs_workgroup_t *workgroup, int wave,
                          uintptr_t pc, gs_report_kind_t kind, const char *format, ...)
    __attribute__((format(printf, 7, 8)));
void gs_add_counters(gs_counters_t *sum, const gs_counters_t *more);

#endif
