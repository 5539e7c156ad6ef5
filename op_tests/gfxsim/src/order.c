/* Does a result depend on the order in which waves and workgroups run? Runs a launch again under other interleavings,
 * each time from the same memory, and compares every byte that the kernel may write. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "launch.h"

typedef struct snapshot_t {
    int count;
    struct {
        const gs_buffer_t *buffer;
        uint8_t *bytes;
    } *parts;
} snapshot_t;

static void discard(snapshot_t *snapshot) {
    for (int i = 0; i < snapshot->count; i++) free(snapshot->parts[i].bytes);
    free(snapshot->parts);
}

static bool take(snapshot_t *snapshot, int device) {
    snapshot->count = 0;
    snapshot->parts = calloc((size_t)gs_memory_count() + 1, sizeof *snapshot->parts);
    if (!snapshot->parts) return false;
    for (int i = 0; i < gs_memory_count(); i++) {
        const gs_buffer_t *buffer = gs_memory_at(i);
        size_t size = buffer->high - buffer->low;
        if (!buffer->writable || size == 0 || (buffer->device != device && buffer->device != -1)) continue;
        uint8_t *bytes = malloc(size);
        if (!bytes) {
            discard(snapshot);
            return false;
        }
        gs_memory_show(buffer, true);
        memcpy(bytes, (const void *)buffer->low, size);
        snapshot->parts[snapshot->count].buffer = buffer;
        snapshot->parts[snapshot->count++].bytes = bytes;
    }
    return true;
}

static void restore(const snapshot_t *snapshot) {
    for (int i = 0; i < snapshot->count; i++) {
        const gs_buffer_t *buffer = snapshot->parts[i].buffer;
        memcpy((void *)buffer->low, snapshot->parts[i].bytes, buffer->high - buffer->low);
    }
}

static bool compare(const snapshot_t *expected, const gs_launch_t *launch, uint64_t seed, gs_report_t *report) {
    for (int i = 0; i < expected->count; i++) {
        const gs_buffer_t *buffer = expected->parts[i].buffer;
        const uint8_t *now = (const uint8_t *)buffer->low;
        size_t size = buffer->high - buffer->low, offset = 0;
        if (memcmp(now, expected->parts[i].bytes, size) == 0) continue;
        while (now[offset] == expected->parts[i].bytes[offset]) offset++;
        report->kind = GS_REPORT_ORDER;
        snprintf(report->text, sizeof report->text,
                 "kernel %.512s: the result depends on the order of the waves: %s + %zu is 0x%02x in order and 0x%02x "
                 "with seed %llu",
                 launch->kernel->name, buffer->name, offset, expected->parts[i].bytes[offset], now[offset],
                 (unsigned long long)seed);
        return false;
    }
    return true;
}

static bool run(const gs_launch_t *launch, const gs_options_t *options, gs_totals_t *totals, gs_report_t *report) {
    gs_dispatch_t dispatch;
    if (!gs_dispatch_begin(&dispatch, launch, options)) return false;
    bool ok = gs_run_launch(&dispatch, totals, report);
    gs_dispatch_end(&dispatch);
    return ok;
}

static bool run_again(const gs_launch_t *launch, const gs_options_t *options, const snapshot_t *before,
                      gs_report_t *report) {
    snapshot_t expected;
    if (!take(&expected, launch->kernel->module->device)) return false;
    bool ok = true;
    for (int i = 1; i <= options->order_check && ok && report->kind == GS_REPORT_NONE; i++) {
        gs_options_t other = *options;
        gs_totals_t ignored = {0};
        other.seed = options->seed + (uint64_t)i;
        restore(before);
        ok = run(launch, &other, &ignored, report);
        if (ok && report->kind == GS_REPORT_NONE) compare(&expected, launch, other.seed, report);
    }
    restore(&expected);
    discard(&expected);
    return ok;
}

bool gs_run_checked(const gs_launch_t *launch, const gs_options_t *options, gs_totals_t *totals, gs_report_t *report) {
    if (options->order_check <= 0) return run(launch, options, totals, report);
    snapshot_t before;
    if (!take(&before, launch->kernel->module->device)) return false;
    bool ok = run(launch, options, totals, report);
    if (ok && report->kind == GS_REPORT_NONE) ok = run_again(launch, options, &before, report);
    discard(&before);
    return ok;
}
