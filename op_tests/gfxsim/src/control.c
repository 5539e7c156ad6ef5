/* The functions beside HIP's that tests and tools call: options, reports, counters, call counts, injected failures. */
#include <stdio.h>
#include <string.h>

#include "findings.h"
#include "hip_state.h"

/* 0, or -1: no such option. */
GS_EXPORT int gfxsim_set_option(const char *name, uint64_t value) {
    gs_lock();
    bool known = gs_set_option(name, value);
    gs_unlock();
    return known ? 0 : -1;
}

/* As GFXSIM_... in the environment had them at the start. */
GS_EXPORT void gfxsim_reset_options(void) {
    gs_lock();
    gs_read_options();
    gs_unlock();
}

/* ---- reports ---------------------------------------------------------------------------------------------------- */

/* The kind of the last report and its text; 0: none since the last reset. */
GS_EXPORT int gfxsim_last_report(char *text, size_t size) {
    gs_lock();
    gs_report_kind_t kind = gs_state.report.kind;
    if (size > 0) snprintf(text, size, "%s", kind == GS_REPORT_NONE ? "" : gs_state.report.text);
    gs_unlock();
    return (int)kind;
}

GS_EXPORT const char *gfxsim_report_kind_name(int kind) { return gs_report_kind_name((gs_report_kind_t)kind); }

/* What launches found that kept going: the kind, the offset of the instruction in the code, slack (findings.h), and a
 * text. 0: no more. */
GS_EXPORT int gfxsim_finding(int index, uint64_t *offset, int64_t *slack, char *text, size_t size) {
    gs_finding_t finding;
    if (!gs_findings_get(index, &finding)) return 0;
    *offset = finding.offset;
    *slack = finding.slack;
    if (size > 0) snprintf(text, size, "%s", finding.text);
    return (int)finding.kind;
}

/* Makes failed devices work again and forgets the report, findings and faults not yet come. Memory and handles stay. */
GS_EXPORT void gfxsim_reset(void) {
    gs_lock();
    for (int i = 0; i < gs_state.device_count; i++) gs_state.devices[i].health = GS_HEALTHY;
    memset(gs_state.faults, 0, sizeof gs_state.faults);
    memset(&gs_state.report, 0, sizeof gs_state.report);
    gs_findings_clear();
    gs_last_error = hipSuccess;
    gs_unlock();
}

/* ---- counters --------------------------------------------------------------------------------------------------- */

/* Since the last gfxsim_reset_counters. */
GS_EXPORT void gfxsim_total_counters(gs_totals_t *totals) {
    gs_lock();
    *totals = gs_state.totals;
    gs_unlock();
}

GS_EXPORT uint64_t gfxsim_launch_count(void) {
    gs_lock();
    uint64_t count = gs_state.launch_count;
    gs_unlock();
    return count;
}

/* One launch: 0 is the first since the last gfxsim_reset_counters. -1: not made, or too long ago. */
GS_EXPORT int gfxsim_launch_record(uint64_t index, gs_launch_record_t *record) {
    gs_lock();
    bool known = index < gs_state.launch_count && gs_state.launch_count - index <= GS_MAX_LAUNCH_LOG;
    if (known) *record = gs_state.launches[index % GS_MAX_LAUNCH_LOG];
    gs_unlock();
    return known ? 0 : -1;
}

GS_EXPORT int gfxsim_last_counters(gs_launch_record_t *record) {
    uint64_t count = gfxsim_launch_count();
    return count == 0 ? -1 : gfxsim_launch_record(count - 1, record);
}

GS_EXPORT void gfxsim_reset_counters(void) {
    gs_lock();
    memset(&gs_state.totals, 0, sizeof gs_state.totals);
    gs_state.launch_count = 0;
    gs_unlock();
}

/* ---- calls ------------------------------------------------------------------------------------------------------ */

static int call_of(const char *name) {
    int call = 0;
    while (call < GS_CALL_COUNT && strcmp(gs_call_name((gs_call_t)call), name) != 0) call++;
    return call < GS_CALL_COUNT ? call : -1;
}

/* How often the function was called in this process, failing calls included; -1: there is no such function. */
GS_EXPORT int64_t gfxsim_call_count(const char *name) {
    int call = call_of(name);
    if (call < 0) return -1;
    gs_lock();
    int64_t count = (int64_t)gs_state.calls[call];
    gs_unlock();
    return count;
}

/* The names, one after the other, up to NULL. */
GS_EXPORT const char *gfxsim_call_name(int index) {
    return index >= 0 && index < GS_CALL_COUNT ? gs_call_name((gs_call_t)index) : NULL;
}

/* The nth call from now on (1: the next one) does nothing and returns `error`. -1: there is no such function. */
GS_EXPORT int gfxsim_fail_next(const char *name, uint64_t nth, int error) {
    int call = call_of(name);
    if (call < 0 || nth == 0) return -1;
    gs_lock();
    gs_state.faults[call].at = gs_state.calls[call] + nth;
    gs_state.faults[call].error = (hipError_t)error;
    gs_unlock();
    return 0;
}

/* ---- memory ----------------------------------------------------------------------------------------------------- */

/* What hipMalloc gave and hipFree did not take back; device -1: of all devices. */
GS_EXPORT void gfxsim_live_memory(int device, uint64_t *allocations, uint64_t *bytes) {
    gs_lock();
    *allocations = *bytes = 0;
    for (int i = 0; i < gs_memory_count(); i++) {
        const gs_buffer_t *buffer = gs_memory_at(i);
        bool counts = buffer->device >= 0 && (device == -1 || buffer->device == device);
        if (!counts || buffer->high == buffer->low) continue;
        if (!gs_memory_is_allocation_start(buffer, (const void *)buffer->low)) continue;
        ++*allocations;
        *bytes += buffer->high - buffer->low;
    }
    gs_unlock();
}

/* Live handles: streams, events, modules, graphs, executable graphs. */
GS_EXPORT int gfxsim_live_handles(void) {
    int count = 0;
    gs_lock();
    for (int kind = 0; kind < GS_HANDLE_KIND_COUNT; kind++) count += gs_handle_count((gs_handle_kind_t)kind);
    gs_unlock();
    return count;
}
