/* What calls put on streams: run at once, or a node of the graph that the stream captures. */
#include <stdlib.h>
#include <string.h>

#include "hip_work.h"

/* ---- nodes of graphs --------------------------------------------------------------------------------------------- */

struct ihipGraph_t *gs_graph_new(void) { return calloc(1, sizeof(struct ihipGraph_t)); }

void gs_graph_clear(struct ihipGraph_t *graph) {
    for (int i = 0; i < graph->count; i++) {
        if (graph->nodes[i]->type == hipGraphNodeTypeKernel) free(graph->nodes[i]->kernel.arguments);
        free(graph->nodes[i]);
    }
    free(graph->nodes);
    memset(graph, 0, sizeof *graph);
}

static gs_work_t *copied(const gs_work_t *work) {
    gs_work_t *copy = malloc(sizeof *copy);
    if (!copy) return NULL;
    *copy = *work;
    if (work->type != hipGraphNodeTypeKernel) return copy;
    uint32_t bytes = work->kernel.kernel->kernarg_bytes;
    copy->kernel.arguments = malloc(bytes + 1);
    if (!copy->kernel.arguments) {
        free(copy);
        return NULL;
    }
    memcpy(copy->kernel.arguments, work->kernel.arguments, bytes);
    return copy;
}

bool gs_graph_append(struct ihipGraph_t *graph, const gs_work_t *work) {
    if (graph->count == graph->capacity) {
        int capacity = graph->capacity ? 2 * graph->capacity : 16;
        gs_work_t **grown = realloc(graph->nodes, (size_t)capacity * sizeof *grown);
        if (!grown) return false;
        graph->nodes = grown;
        graph->capacity = capacity;
    }
    graph->nodes[graph->count] = copied(work);
    if (!graph->nodes[graph->count]) return false;
    graph->count++;
    return true;
}

/* ---- submission -------------------------------------------------------------------------------------------------- */

hipError_t gs_submit(hipStream_t handle, const gs_work_t *work) {
    struct ihipStream_t *stream;
    gs_work_t on_device = *work;
    hipError_t error = gs_resolve_stream(handle, &stream, &on_device.device);
    if (error == hipSuccess && !stream) error = gs_capture_forbids_null_stream();
    if (error == hipSuccess && stream) error = gs_capture_state(stream);
    if (error != hipSuccess) return error;
    if (!stream || stream->status == hipStreamCaptureStatusNone) return gs_run_work(&on_device);
    error = gs_check_work(&on_device);
    if (error != hipSuccess) return error;
    stream->unjoined = stream != stream->origin;
    return gs_graph_append(stream->origin->graph, &on_device) ? hipSuccess : hipErrorOutOfMemory;
}
