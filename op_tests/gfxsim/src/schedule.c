/* The waves of one workgroup: turns, barriers, time limit. */
#include <stdlib.h>
#include <string.h>

#include "script.h"
#include "wait.h"

enum { POISON = 0xff, RANDOM_QUANTUM = 64, CHECK_STOP_EVERY = 16 };

static uint64_t mixed(uint64_t value) {
    value ^= value >> 33;
    value *= 0xff51afd7ed558ccdull;
    value ^= value >> 33;
    value *= 0xc4ceb9fe1a85ec53ull;
    return value ^ value >> 33;
}

static uint32_t next_random(gs_run_t *run, uint32_t below) {
    run->random = mixed(run->random + 0x9e3779b97f4a7c15ull);
    return (uint32_t)(run->random >> 32) % below;
}

static uint64_t common_divisor(uint64_t a, uint64_t b) {
    while (b != 0) {
        uint64_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* ---- the crew --------------------------------------------------------------------------------------------------- */

/* Poisons what the last workgroup left. */
static void clear_lds(gs_workgroup_t *group, uint32_t bytes) {
    memset(group->lds, POISON, bytes);
    memset(group->lds_written, 0, bytes);
    group->lds_touched = 0;
}

static bool reserve_lds(gs_crew_t *crew, uint32_t bytes) {
    gs_workgroup_t *group = &crew->workgroup;
    if (!gs_races_reserve(&crew->races, bytes)) return false;
    if (bytes <= crew->lds_capacity && group->lds) return true;
    free(group->lds);
    free(group->lds_written);
    group->lds = malloc(bytes + 1);
    group->lds_written = malloc(bytes + 1);
    crew->lds_capacity = group->lds && group->lds_written ? bytes : 0;
    if (crew->lds_capacity != bytes) return false;
    clear_lds(group, bytes);
    return true;
}

bool gs_crew_reserve(gs_crew_t *crew, const gs_dispatch_t *dispatch) {
    uint32_t scratch_bytes = dispatch->program.scratch_bytes;
    bool larger = scratch_bytes > crew->scratch_bytes;
    if (larger) crew->scratch_bytes = scratch_bytes;
    for (int i = 0; i < GS_MAX_WAVES; i++) {
        if (larger) {
            free(crew->scratch[i]);
            crew->scratch[i] = NULL;
        }
        if (i >= dispatch->wave_count) continue;
        if (!crew->waves[i]) crew->waves[i] = gs_wave_new();
        if (!crew->scratch[i]) crew->scratch[i] = malloc((size_t)crew->scratch_bytes * GS_LANES + 1);
        if (!crew->waves[i] || !crew->scratch[i]) return false;
    }
    return reserve_lds(crew, dispatch->lds_bytes);
}

/* Workgroups start in order; with seed 1 in reverse; with others by a stride that visits each once. */
static uint64_t workgroup_of_turn(const gs_dispatch_t *dispatch, uint64_t turn) {
    uint64_t total = dispatch->workgroup_count, seed = dispatch->options->seed;
    if (seed == 0) return turn;
    if (seed == 1) return total - 1 - turn;
    uint64_t stride = 1 + mixed(seed) % total, start = mixed(~seed) % total;
    while (common_divisor(stride, total) != 1) stride++;
    return (start + turn * stride) % total;
}

static void begin_workgroup(const gs_dispatch_t *dispatch, gs_crew_t *crew, uint64_t index) {
    const uint32_t *grid = dispatch->launch->grid;
    gs_workgroup_t *group = &crew->workgroup;
    group->lds_bytes = dispatch->lds_bytes;
    group->wave_count = dispatch->wave_count;
    group->races = &crew->races;
    group->id[0] = (uint32_t)(index % grid[0]);
    group->id[1] = (uint32_t)(index / grid[0] % grid[1]);
    group->id[2] = (uint32_t)(index / grid[0] / grid[1]);
    gs_races_next_interval(&crew->races);
    clear_lds(group, group->lds_touched);
    for (int i = 0; i < dispatch->wave_count; i++) {
        memset(crew->scratch[i], POISON, (size_t)dispatch->program.scratch_bytes * GS_LANES);
        gs_dispatch_start_wave(dispatch, crew, i);
    }
}

/* ---- turns ------------------------------------------------------------------------------------------------------ */

int gs_schedule_count(const gs_run_t *run, gs_standing_t standing) {
    int sum = 0;
    for (int i = 0; i < run->dispatch->wave_count; i++) sum += run->standing[i] == standing;
    return sum;
}

bool gs_schedule_turn(gs_run_t *run, int index, uint64_t quantum) {
    gs_wave_t *wave = run->crew->waves[index];
    const gs_workgroup_t *group = &run->crew->workgroup;
    uint64_t before = gs_wave_instruction_count(wave);
    gs_stop_t stop = gs_wave_run(wave, quantum);
    if (run->scripted) gs_script_note((uint32_t)index, gs_wave_instruction_count(wave) - before);
    switch (stop) {
    case GS_STOP_END: run->standing[index] = GS_ENDED; return true;
    case GS_STOP_BARRIER: run->standing[index] = GS_WAITING; return true;
    case GS_STOP_REPORT: gs_report_of_wave(run->report, wave); return false;
    case GS_STOP_QUANTUM: break;
    }
    if (gs_wave_instruction_count(wave) < run->dispatch->options->timeout) return true;
    gs_report_of_machine(run->report, run->dispatch, group, index, gs_wave_pc(wave), GS_REPORT_TIMEOUT,
                         "no end after %llu instructions", (unsigned long long)gs_wave_instruction_count(wave));
    return false;
}

static bool take_scripted_turn(gs_run_t *run) {
    gs_turn_t turn = gs_script_next(run);
    return gs_schedule_turn(run, (int)turn.wave,
                            turn.instructions ? turn.instructions : run->dispatch->options->timeout + 1);
}

/* One turn of every running wave: in order, or in reverse with seed 1. Other seeds: one turn of a random wave. */
static bool take_turns(gs_run_t *run) {
    const gs_options_t *options = run->dispatch->options;
    int waves = run->dispatch->wave_count;
    if (run->scripted && gs_script.plays) return take_scripted_turn(run);
    if (options->seed <= 1) {
        for (int i = 0; i < waves; i++) {
            int index = options->seed == 0 ? i : waves - 1 - i;
            if (run->standing[index] == GS_RUNNING && !gs_schedule_turn(run, index, options->quantum)) return false;
        }
        return true;
    }
    int choice = (int)next_random(run, (uint32_t)gs_schedule_count(run, GS_RUNNING)), index = 0;
    while (run->standing[index] != GS_RUNNING || choice-- > 0) index++;
    return gs_schedule_turn(run, index, 1 + next_random(run, RANDOM_QUANTUM));
}

/* ---- barriers --------------------------------------------------------------------------------------------------- */

static int first(const gs_run_t *run, gs_standing_t standing) {
    int index = 0;
    while (run->standing[index] != standing) index++;
    return index;
}

/* All live waves wait. The pc of a waiting wave lies behind its s_barrier. */
bool gs_schedule_open_barrier(gs_run_t *run) {
    const gs_dispatch_t *dispatch = run->dispatch;
    gs_workgroup_t *group = &run->crew->workgroup;
    int waiting = first(run, GS_WAITING);
    uintptr_t pc = gs_wave_pc(run->crew->waves[waiting]) - 4;
    if (dispatch->options->check_barriers >= 1 && gs_schedule_count(run, GS_ENDED) > 0) {
        gs_report_of_machine(run->report, dispatch, group, waiting, pc, GS_REPORT_BARRIER,
                             "barrier not reached by all: %d of %d waves wait, wave %d has ended",
                             gs_schedule_count(run, GS_WAITING), dispatch->wave_count, first(run, GS_ENDED));
        return false;
    }
    for (int i = 0; i < dispatch->wave_count; i++) {
        if (run->standing[i] != GS_WAITING) continue;
        uintptr_t other = gs_wave_pc(run->crew->waves[i]) - 4;
        if (dispatch->options->check_barriers >= 2 && other != pc) {
            gs_report_of_machine(run->report, dispatch, group, waiting, pc, GS_REPORT_BARRIER,
                                 "waves wait at different barriers: wave %d at code+0x%zx", i,
                                 (size_t)(other - dispatch->program.code_low));
            return false;
        }
        run->standing[i] = GS_RUNNING;
    }
    gs_races_next_interval(group->races);
    for (int i = 0; dispatch->program.check_races && i < dispatch->wave_count; i++) {
        gs_wait_carry_lds(run->crew->waves[i]);
    }
    return true;
}

void gs_schedule_begin(gs_run_t *run, uint64_t turn) {
    uint64_t index = workgroup_of_turn(run->dispatch, turn);
    memset(run->standing, 0, sizeof run->standing); /* GS_RUNNING */
    run->random = mixed(run->dispatch->options->seed ^ mixed(index + 1));
    run->scripted = gs_script.workgroup == index + 1;
    if (run->scripted) gs_script_begin();
    begin_workgroup(run->dispatch, run->crew, index);
}

bool gs_run_workgroup(const gs_dispatch_t *dispatch, gs_crew_t *crew, uint64_t turn, const uint64_t *last_turn,
                      gs_report_t *report) {
    gs_run_t run = {.dispatch = dispatch, .crew = crew, .report = report};
    gs_schedule_begin(&run, turn);
    for (uint64_t round = 0;; round++) {
        if (round % CHECK_STOP_EVERY == 0 && __atomic_load_n(last_turn, __ATOMIC_RELAXED) < turn) return true;
        if (gs_schedule_count(&run, GS_RUNNING) > 0) {
            if (!take_turns(&run)) return false;
        } else if (gs_schedule_count(&run, GS_WAITING) > 0) {
            if (!gs_schedule_open_barrier(&run)) return false;
        } else {
            return true;
        }
    }
}
