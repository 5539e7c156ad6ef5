#include "script.h"

#include <stdlib.h>
#include <string.h>

#include "hip_state.h"

gs_script_t gs_script;

void gs_script_begin(void) { gs_script.written_count = gs_script.next = 0; }

void gs_script_note(uint32_t wave, uint64_t instructions) {
    gs_script_t *script = &gs_script;
    gs_turn_t *last = script->written_count ? &script->written[script->written_count - 1] : NULL;
    if (last && last->wave == wave) {
        last->instructions += (uint32_t)instructions;
        return;
    }
    if (script->written_count == script->written_capacity) {
        uint32_t capacity = script->written_capacity ? 2 * script->written_capacity : 1024;
        gs_turn_t *more = realloc(script->written, capacity * sizeof *more);
        if (!more) return;
        script->written = more;
        script->written_capacity = capacity;
    }
    script->written[script->written_count++] = (gs_turn_t){wave, (uint32_t)instructions};
}

gs_turn_t gs_script_next(const gs_run_t *run) {
    while (gs_script.next < gs_script.played_count) {
        gs_turn_t turn = gs_script.played[gs_script.next++];
        if ((int)turn.wave < run->dispatch->wave_count && run->standing[turn.wave] == GS_RUNNING) return turn;
    }
    gs_turn_t turn = {0};
    while (run->standing[turn.wave] != GS_RUNNING) turn.wave++;
    return turn;
}

/* ---- controls --------------------------------------------------------------------------------------------------- */

/* Writes down the turns of this workgroup from now on; -1: of none. */
GS_EXPORT void gfxsim_order_record(int64_t workgroup) {
    gs_lock();
    gs_script.workgroup = (uint64_t)(workgroup + 1);
    gs_script.plays = false;
    gs_unlock();
}

/* The turns of its last run: how many there are, the first `limit` of them in `turns`. */
GS_EXPORT uint32_t gfxsim_order_written(gs_turn_t *turns, uint32_t limit) {
    gs_lock();
    uint32_t count = gs_script.written_count;
    if (count) memcpy(turns, gs_script.written, (count < limit ? count : limit) * sizeof *turns);
    gs_unlock();
    return count;
}

/* Launches run the workgroup by these turns, and behind them its waves one after the other. -1: out of memory. */
GS_EXPORT int gfxsim_order_play(int64_t workgroup, const gs_turn_t *turns, uint32_t count) {
    gs_turn_t *copy = malloc((count + 1) * sizeof *copy);
    if (!copy) return -1;
    if (count) memcpy(copy, turns, count * sizeof *copy);
    gs_lock();
    free(gs_script.played);
    gs_script.played = copy;
    gs_script.played_count = count;
    gs_script.workgroup = (uint64_t)(workgroup + 1);
    gs_script.plays = true;
    gs_unlock();
    return 0;
}
