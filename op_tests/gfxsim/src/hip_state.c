#include "hip_state.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char DEFAULT_DEVICES[] = "gfx942,gfx950,gfx942,gfx950";

gs_state_t gs_state;
_Thread_local int gs_current_device;
_Thread_local hipError_t gs_last_error;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static bool forked; /* this process is a child: as on a GPU, the runtime is not usable in it */

/* ---- start-up --------------------------------------------------------------------------------------------------- */

static const char *const CALL_NAMES[] = {
#define HIP_FUNCTION(name) #name,
#include "hip_functions.inc"
#undef HIP_FUNCTION
};

const char *gs_call_name(gs_call_t call) { return CALL_NAMES[call]; }

static void set_hide_memory(bool hide) {
    gs_state.options.hide_memory = hide;
    for (int i = 0; i < gs_state.device_count; i++) gs_memory_show_device(i, !hide);
}

bool gs_set_option(const char *name, uint64_t value) {
    gs_options_t *options = &gs_state.options;
    if (strcmp(name, "seed") == 0) options->seed = value;
    else if (strcmp(name, "quantum") == 0) options->quantum = value ? value : 1;
    else if (strcmp(name, "timeout") == 0) options->timeout = value;
    else if (strcmp(name, "threads") == 0) options->threads = (int)value;
    else if (strcmp(name, "order_check") == 0) options->order_check = (int)value;
    else if (strcmp(name, "check_barriers") == 0) options->check_barriers = (int)value;
    else if (strcmp(name, "check_waits") == 0) options->check_waits = value != 0;
    else if (strcmp(name, "check_races") == 0) options->check_races = value != 0;
    else if (strcmp(name, "check_uninitialized") == 0) options->check_uninitialized = value != 0;
    else if (strcmp(name, "keep_going") == 0) options->keep_going = value != 0;
    else if (strcmp(name, "clock") == 0) options->clock = (int)value;
    else if (strcmp(name, "clock_active") == 0) options->clock_active = (int)value;
    else if (strcmp(name, "clock_near") == 0) options->clock_near = (int)value;
    else if (strcmp(name, "clock_only") == 0) options->clock_only = value != 0;
    else if (strcmp(name, "quiet") == 0) options->quiet = value != 0;
    else if (strcmp(name, "hide_memory") == 0) set_hide_memory(value != 0);
    else if (strcmp(name, "sticky") == 0) options->sticky = value != 0;
    else if (strcmp(name, "late_errors") == 0) options->late_errors = value != 0;
    else if (strcmp(name, "fill") == 0) options->fill = (uint8_t)value;
    else return false;
    return true;
}

void gs_read_options(void) {
    static const char *const NAMES[] = {"seed",        "quantum",     "timeout",
                                        "threads",     "order_check", "check_barriers",
                                        "check_waits", "check_races", "check_uninitialized",
                                        "keep_going",  "quiet",       "hide_memory",
                                        "sticky",      "late_errors", "fill",
                                        "clock",       "clock_only",  "clock_active",
                                        "clock_near"};
    gs_state.options = (gs_options_t){.quantum = 4096,
                                      .timeout = 100 * 1000 * 1000,
                                      .check_barriers = 1,
                                      .check_waits = true,
                                      .check_races = true,
                                      .check_uninitialized = true,
                                      .hide_memory = true,
                                      .sticky = true,
                                      .fill = 0xff};
    for (size_t i = 0; i < sizeof NAMES / sizeof *NAMES; i++) {
        char variable[64] = "GFXSIM_";
        size_t length = strlen(variable);
        for (const char *c = NAMES[i]; *c; c++) variable[length++] = (char)(*c >= 'a' ? *c - 'a' + 'A' : *c);
        const char *value = getenv(variable);
        if (value && *value) gs_set_option(NAMES[i], strtoull(value, NULL, 0));
    }
}

static void add_device(const char *name, size_t length) {
    bool gfx942 = length == 6 && strncmp(name, "gfx942", 6) == 0;
    bool gfx950 = length == 6 && strncmp(name, "gfx950", 6) == 0;
    if (!gfx942 && !gfx950) {
        if (length > 0) fprintf(stderr, "gfxsim: GFXSIM_DEVICES: no such device: %.*s\n", (int)length, name);
        return;
    }
    if (gs_state.device_count == GS_MAX_DEVICES) return;
    gs_state.devices[gs_state.device_count++] =
        gfx942 ? (gs_device_t){GS_GFX942, 304, 64 << 10, 192ull << 30, 0, GS_HEALTHY}
               : (gs_device_t){GS_GFX950, 256, 160 << 10, 288ull << 30, 0, GS_HEALTHY};
}

static void read_devices(void) {
    const char *list = getenv("GFXSIM_DEVICES");
    if (!list) list = DEFAULT_DEVICES;
    for (;;) {
        size_t length = strcspn(list, ", ");
        add_device(list, length);
        if (list[length] == '\0') break;
        list += length + 1;
    }
}

static void after_fork_in_child(void) {
    pthread_mutex_init(&lock, NULL);
    forked = true;
}

static void start(void) {
    gs_read_options();
    read_devices();
    pthread_atfork(gs_lock, gs_unlock, after_fork_in_child);
}

/* ---- calls ------------------------------------------------------------------------------------------------------ */

void gs_lock(void) {
    pthread_once(&once, start);
    pthread_mutex_lock(&lock);
}

void gs_unlock(void) { pthread_mutex_unlock(&lock); }

hipError_t gs_enter(gs_call_t call) {
    gs_lock();
    uint64_t number = ++gs_state.calls[call];
    hipError_t error = hipSuccess;
    if (forked) {
        error = hipErrorNotInitialized;
    } else if (gs_state.faults[call].at == number) {
        error = gs_state.faults[call].error;
    }
    return error == hipSuccess ? hipSuccess : gs_leave(error);
}

hipError_t gs_leave(hipError_t error) {
    if (error != hipSuccess && error != hipErrorNotReady) gs_last_error = error;
    gs_unlock();
    return error;
}

/* ---- failure ---------------------------------------------------------------------------------------------------- */

hipError_t gs_device_error(int device, bool waits) {
    gs_device_t *state = &gs_state.devices[device];
    if (state->health == GS_FAILED) return hipErrorContextIsDestroyed;
    if (state->health == GS_HEALTHY || !waits) return hipSuccess;
    state->health = gs_state.options.sticky ? GS_FAILED : GS_HEALTHY;
    return hipErrorLaunchFailure;
}

hipError_t gs_device_fail(int device, const gs_report_t *report) {
    gs_state.report = *report;
    if (!gs_state.options.quiet) fprintf(stderr, "gfxsim: %s\n", report->text);
    bool late = gs_state.options.late_errors;
    if (late) gs_state.devices[device].health = GS_FAILURE_PENDING;
    else if (gs_state.options.sticky) gs_state.devices[device].health = GS_FAILED;
    return late ? hipSuccess : hipErrorLaunchFailure;
}

/* ---- handles ---------------------------------------------------------------------------------------------------- */

enum { MAX_RETIRED = 256 };

static struct {
    void **objects;
    int count, capacity;
} tables[GS_HANDLE_KIND_COUNT];

static void *retired[MAX_RETIRED];
static int next_retired;

bool gs_handle_add(gs_handle_kind_t kind, void *object) {
    if (tables[kind].count == tables[kind].capacity) {
        int capacity = tables[kind].capacity ? 2 * tables[kind].capacity : 16;
        void **grown = realloc(tables[kind].objects, (size_t)capacity * sizeof *grown);
        if (!grown) return false;
        tables[kind].objects = grown;
        tables[kind].capacity = capacity;
    }
    tables[kind].objects[tables[kind].count++] = object;
    return true;
}

static int find(gs_handle_kind_t kind, const void *object) {
    int index = tables[kind].count - 1;
    while (index >= 0 && tables[kind].objects[index] != object) index--;
    return index;
}

bool gs_handle_valid(gs_handle_kind_t kind, const void *object) { return object && find(kind, object) >= 0; }

void gs_handle_retire(gs_handle_kind_t kind, void *object) {
    int index = find(kind, object);
    if (index < 0) return;
    tables[kind].objects[index] = tables[kind].objects[--tables[kind].count];
    free(retired[next_retired]);
    retired[next_retired] = object;
    next_retired = (next_retired + 1) % MAX_RETIRED;
}

void *gs_handle_at(gs_handle_kind_t kind, int index) {
    return index < tables[kind].count ? tables[kind].objects[index] : NULL;
}

int gs_handle_count(gs_handle_kind_t kind) { return tables[kind].count; }
