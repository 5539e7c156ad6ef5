/* Graphs: captured work as a list, which is a valid order of its nodes. */
#include <stdlib.h>
#include <string.h>

#include "hip_work.h"

struct ihipGraphExec_t {
    struct ihipGraph_t graph; /* a copy: the graph may go */
};

/* A node may name a kernel whose module is gone; its size is then unknown. */
static bool append_all(struct ihipGraph_t *graph, const struct ihipGraph_t *more, hipError_t *error) {
    for (int i = 0; i < more->count; i++) {
        const gs_work_t *node = more->nodes[i];
        if (node->type == hipGraphNodeTypeKernel && !gs_kernel_valid(node->kernel.kernel)) {
            *error = hipErrorInvalidDeviceFunction;
            return false;
        }
        if (!gs_graph_append(graph, node)) {
            *error = hipErrorOutOfMemory;
            return false;
        }
    }
    return true;
}

static hipError_t create(hipGraph_t *out, unsigned flags) {
    if (!out || flags != 0) return hipErrorInvalidValue;
    struct ihipGraph_t *graph = gs_graph_new();
    if (!graph || !gs_handle_add(GS_HANDLE_GRAPH, graph)) {
        free(graph);
        return hipErrorOutOfMemory;
    }
    *out = graph;
    return hipSuccess;
}

static hipError_t instantiate(hipGraphExec_t *out, hipGraph_t graph) {
    hipError_t error = hipErrorOutOfMemory;
    if (!out || !gs_handle_valid(GS_HANDLE_GRAPH, graph)) return hipErrorInvalidValue;
    struct ihipGraphExec_t *exec = calloc(1, sizeof *exec);
    if (!exec) return error;
    if (append_all(&exec->graph, graph, &error) && gs_handle_add(GS_HANDLE_GRAPH_EXEC, exec)) {
        *out = exec;
        return hipSuccess;
    }
    gs_graph_clear(&exec->graph);
    free(exec);
    return error;
}

/* On a stream that captures, the graph's nodes become part of what is captured. */
static hipError_t launch(hipGraphExec_t exec, hipStream_t handle) {
    struct ihipStream_t *stream;
    int device;
    if (!gs_handle_valid(GS_HANDLE_GRAPH_EXEC, exec)) return hipErrorInvalidValue;
    hipError_t error = gs_resolve_stream(handle, &stream, &device);
    if (error == hipSuccess && !stream) error = gs_capture_forbids_null_stream();
    if (error == hipSuccess && stream) error = gs_capture_state(stream);
    if (error != hipSuccess) return error;
    if (stream && stream->status == hipStreamCaptureStatusActive) {
        append_all(stream->origin->graph, &exec->graph, &error);
        return error;
    }
    for (int i = 0; i < exec->graph.count && error == hipSuccess; i++) error = gs_run_work(exec->graph.nodes[i]);
    return error;
}

static hipError_t destroy(hipGraph_t graph) {
    if (!gs_handle_valid(GS_HANDLE_GRAPH, graph)) return hipErrorInvalidValue;
    gs_graph_clear(graph);
    gs_handle_retire(GS_HANDLE_GRAPH, graph);
    return hipSuccess;
}

static hipError_t destroy_exec(hipGraphExec_t exec) {
    if (!gs_handle_valid(GS_HANDLE_GRAPH_EXEC, exec)) return hipErrorInvalidValue;
    gs_graph_clear(&exec->graph);
    gs_handle_retire(GS_HANDLE_GRAPH_EXEC, exec);
    return hipSuccess;
}

static hipError_t get_nodes(hipGraph_t graph, hipGraphNode_t *nodes, size_t *count) {
    if (!gs_handle_valid(GS_HANDLE_GRAPH, graph) || !count) return hipErrorInvalidValue;
    for (size_t i = 0; nodes && i < *count; i++) nodes[i] = i < (size_t)graph->count ? graph->nodes[i] : NULL;
    if (!nodes || *count > (size_t)graph->count) *count = (size_t)graph->count;
    return hipSuccess;
}

static hipError_t get_type(hipGraphNode_t node, hipGraphNodeType *type) {
    if (!node || !type) return hipErrorInvalidValue;
    *type = node->type;
    return hipSuccess;
}

GS_EXPORT hipError_t hipGraphCreate(hipGraph_t *out, unsigned flags) { GS_CALL(hipGraphCreate, create(out, flags)); }

GS_EXPORT hipError_t hipGraphInstantiate(hipGraphExec_t *out, hipGraph_t graph, hipGraphNode_t *error_node, char *log,
                                         size_t log_bytes) {
    if (error_node) *error_node = NULL;
    if (log && log_bytes > 0) *log = '\0';
    GS_CALL(hipGraphInstantiate, instantiate(out, graph));
}

GS_EXPORT hipError_t hipGraphInstantiateWithFlags(hipGraphExec_t *out, hipGraph_t graph, unsigned long long flags) {
    (void)flags;
    GS_CALL(hipGraphInstantiateWithFlags, instantiate(out, graph));
}

GS_EXPORT hipError_t hipGraphLaunch(hipGraphExec_t exec, hipStream_t stream) {
    GS_CALL(hipGraphLaunch, launch(exec, stream));
}

GS_EXPORT hipError_t hipGraphDestroy(hipGraph_t graph) { GS_CALL(hipGraphDestroy, destroy(graph)); }

GS_EXPORT hipError_t hipGraphExecDestroy(hipGraphExec_t exec) { GS_CALL(hipGraphExecDestroy, destroy_exec(exec)); }

GS_EXPORT hipError_t hipGraphGetNodes(hipGraph_t graph, hipGraphNode_t *nodes, size_t *count) {
    GS_CALL(hipGraphGetNodes, get_nodes(graph, nodes, count));
}

GS_EXPORT hipError_t hipGraphNodeGetType(hipGraphNode_t node, hipGraphNodeType *type) {
    GS_CALL(hipGraphNodeGetType, get_type(node, type));
}
