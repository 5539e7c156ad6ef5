/* The waves of one workgroup in flight, as schedule.c runs them, and the clock (clock.c) one by one. */
#ifndef GFXSIM_SCHEDULE_H
#define GFXSIM_SCHEDULE_H

#include "launch.h"

typedef enum gs_standing_t { GS_RUNNING, GS_WAITING, GS_ENDED } gs_standing_t;

typedef struct gs_run_t {
    const gs_dispatch_t *dispatch;
    gs_crew_t *crew;
    gs_report_t *report;
    gs_standing_t standing[GS_MAX_WAVES];
    uint64_t random;
    bool scripted; /* script.h: its turns are written down, or played */
} gs_run_t;

/* Starts the waves of the workgroup whose turn it is. */
void gs_schedule_begin(gs_run_t *run, uint64_t turn);

/* Runs a wave for `quantum` instructions; false: there is a report. */
bool gs_schedule_turn(gs_run_t *run, int index, uint64_t quantum);

/* How many waves are in that state. */
int gs_schedule_count(const gs_run_t *run, gs_standing_t standing);

/* All live waves wait: lets them go; false: there is a report. */
bool gs_schedule_open_barrier(gs_run_t *run);

#endif
