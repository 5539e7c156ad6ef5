/* The state in which a wave starts (LLVM's AMDGPU usage: Initial Kernel Execution State, Kernel Argument Segment). */
#include <stdio.h>
#include <string.h>

#include "launch.h"

/* kernel_code_properties and compute_pgm_rsrc2 of the kernel descriptor */
enum {
    PRIVATE_SEGMENT_BUFFER = 1 << 0,
    DISPATCH_PTR = 1 << 1,
    QUEUE_PTR = 1 << 2,
    KERNARG_PTR = 1 << 3,
    DISPATCH_ID = 1 << 4,
    FLAT_SCRATCH_INIT = 1 << 5,
    PRIVATE_SEGMENT_SIZE = 1 << 6,

    USER_SGPRS_SHIFT = 1,
    USER_SGPRS_MASK = 31,
    WORKGROUP_ID_X_SHIFT = 7, /* y and z follow */
    WORKGROUP_INFO = 1 << 10,
    WORK_ITEM_IDS_SHIFT = 11, /* 2 bits: 0 only x, 1 x and y, 2 all */

    FLOAT_MODE_SHIFT = 12,
    PRELOAD_LENGTH_MASK = 127,
    PRELOAD_OFFSET_SHIFT = 7,
    PRELOAD_PROLOGUE_BYTES = 256 /* code for firmware without preloading; skipped by firmware with it */
};

/* The AQL packet that dispatch_ptr points to. */
typedef struct packet_t {
    uint16_t header, setup, workgroup_size[3], reserved0;
    uint32_t grid_size[3], private_segment_bytes, group_segment_bytes;
    uint64_t kernel_object, kernarg_address, reserved1, completion_signal;
} packet_t;

enum { QUEUE_BYTES = 256, SCALAR_LOAD_ALIGNMENT = 16 };

/* Scalar loads may be widened up to the 16-byte alignment of the segment. */
static uint32_t padded_kernarg_bytes(const gs_kernel_t *kernel) {
    uint32_t bytes = kernel->kernarg_bytes;
    if (bytes < kernel->descriptor.kernarg_bytes) bytes = kernel->descriptor.kernarg_bytes;
    return (bytes + SCALAR_LOAD_ALIGNMENT - 1) / SCALAR_LOAD_ALIGNMENT * SCALAR_LOAD_ALIGNMENT;
}

static uint64_t hidden_value(const gs_launch_t *launch, gs_argument_kind_t kind) {
    switch (kind) {
    case GS_HIDDEN_BLOCK_COUNT_X:
    case GS_HIDDEN_BLOCK_COUNT_Y:
    case GS_HIDDEN_BLOCK_COUNT_Z: return launch->grid[kind - GS_HIDDEN_BLOCK_COUNT_X];
    case GS_HIDDEN_GROUP_SIZE_X:
    case GS_HIDDEN_GROUP_SIZE_Y:
    case GS_HIDDEN_GROUP_SIZE_Z: return launch->block[kind - GS_HIDDEN_GROUP_SIZE_X];
    case GS_HIDDEN_GRID_DIMS:
        if (launch->grid[2] > 1 || launch->block[2] > 1) return 3;
        return launch->grid[1] > 1 || launch->block[1] > 1 ? 2 : 1;
    case GS_HIDDEN_DYNAMIC_LDS_SIZE: return launch->dynamic_lds;
    default: return 0;
    }
}

static void fill_kernarg(const gs_launch_t *launch, uint8_t *kernarg) {
    const gs_kernel_t *kernel = launch->kernel;
    if (kernel->kernarg_bytes > 0) memcpy(kernarg, launch->arguments, kernel->kernarg_bytes);
    for (int i = 0; i < kernel->argument_count; i++) {
        const gs_argument_t *argument = &kernel->arguments[i];
        if (argument->kind < GS_HIDDEN_BLOCK_COUNT_X) continue;
        uint64_t value = hidden_value(launch, argument->kind);
        memset(kernarg + argument->offset, 0, argument->bytes);
        memcpy(kernarg + argument->offset, &value, argument->bytes < 8 ? argument->bytes : 8);
    }
}

static void fill_packet(const gs_dispatch_t *dispatch, packet_t *packet) {
    const gs_launch_t *launch = dispatch->launch;
    *packet = (packet_t){.setup = 3,
                         .private_segment_bytes = launch->kernel->descriptor.scratch_bytes,
                         .group_segment_bytes = dispatch->lds_bytes,
                         .kernarg_address = dispatch->kernarg->low};
    for (int axis = 0; axis < 3; axis++) {
        packet->workgroup_size[axis] = (uint16_t)launch->block[axis];
        packet->grid_size[axis] = launch->grid[axis] * launch->block[axis];
    }
}

static void push(gs_dispatch_t *dispatch, uint32_t value) {
    if (dispatch->user_sgpr_count < GS_MAX_USER_SGPRS) dispatch->user_sgprs[dispatch->user_sgpr_count++] = value;
}

static void push_address(gs_dispatch_t *dispatch, uintptr_t address) {
    push(dispatch, (uint32_t)address);
    push(dispatch, (uint32_t)(address >> 32));
}

/* The user SGPRs, in the fixed order of the ABI; preloaded arguments come last. */
static void fill_user_sgprs(gs_dispatch_t *dispatch) {
    const gs_descriptor_t *descriptor = &dispatch->launch->kernel->descriptor;
    uint32_t properties = descriptor->properties;
    uintptr_t packet = dispatch->packet->low, queue = packet + sizeof(packet_t);
    if (properties & PRIVATE_SEGMENT_BUFFER) {
        for (int i = 0; i < 4; i++) push(dispatch, 0);
    }
    if (properties & DISPATCH_PTR) push_address(dispatch, packet);
    if (properties & QUEUE_PTR) push_address(dispatch, queue);
    if (properties & KERNARG_PTR) push_address(dispatch, dispatch->kernarg->low);
    if (properties & DISPATCH_ID) push_address(dispatch, 0);
    if (properties & FLAT_SCRATCH_INIT) push_address(dispatch, 0);
    if (properties & PRIVATE_SEGMENT_SIZE) push(dispatch, descriptor->scratch_bytes);

    uint32_t length = descriptor->preload & PRELOAD_LENGTH_MASK, first = descriptor->preload >> PRELOAD_OFFSET_SHIFT;
    const uint32_t *kernarg = (const uint32_t *)dispatch->kernarg->low;
    uint32_t words = (uint32_t)(dispatch->kernarg->high - dispatch->kernarg->low) / 4;
    for (uint32_t i = first; i < first + length; i++) push(dispatch, i < words ? kernarg[i] : 0);
    if (length > 0) dispatch->entry += PRELOAD_PROLOGUE_BYTES;
}

/* Registers that a kernel is given: all of them, and how many of those are not accumulation registers. */
static int vgprs_of(const gs_descriptor_t *descriptor) { return ((int)(descriptor->rsrc3 & 63) + 1) * 4; }

static int agprs_of(const gs_descriptor_t *descriptor) {
    int both = ((int)(descriptor->rsrc1 & 63) + 1) * 8, agprs = both - vgprs_of(descriptor);
    return agprs < 0 ? 0 : agprs > GS_FIRST_AGPR ? GS_FIRST_AGPR : agprs;
}

bool gs_dispatch_begin(gs_dispatch_t *dispatch, const gs_launch_t *launch, const gs_options_t *options) {
    const gs_kernel_t *kernel = launch->kernel;
    const gs_module_t *module = kernel->module;
    gs_kernel_decode(launch->kernel);
    memset(dispatch, 0, sizeof *dispatch);
    dispatch->launch = launch;
    dispatch->options = options;
    dispatch->lds_bytes = kernel->descriptor.lds_bytes + launch->dynamic_lds;
    dispatch->threads = launch->block[0] * launch->block[1] * launch->block[2];
    dispatch->wave_count = (int)((dispatch->threads + GS_LANES - 1) / GS_LANES);
    dispatch->workgroup_count = (uint64_t)launch->grid[0] * launch->grid[1] * launch->grid[2];
    dispatch->entry = kernel->entry;
    dispatch->program = (gs_program_t){.arch = module->image.arch,
                                       .device = module->device,
                                       .kernel = kernel->name,
                                       .float_mode = (uint8_t)(kernel->descriptor.rsrc1 >> FLOAT_MODE_SHIFT),
                                       .code_low = module->code_low,
                                       .code_words = module->code_words,
                                       .insns = module->insns,
                                       .scratch_bytes = kernel->descriptor.scratch_bytes,
                                       .vgprs = vgprs_of(&kernel->descriptor),
                                       .agprs = agprs_of(&kernel->descriptor),
                                       .check_waits = options->check_waits,
                                       .check_races = options->check_races,
                                       .check_uninitialized = options->check_uninitialized,
                                       .keep_going = options->keep_going};
    dispatch->kernarg = gs_memory_allocate(padded_kernarg_bytes(kernel), false, module->device, "kernarg", 0);
    dispatch->packet = gs_memory_allocate(sizeof(packet_t) + QUEUE_BYTES, false, module->device, "dispatch packet", 0);
    if (!dispatch->kernarg || !dispatch->packet) {
        gs_dispatch_end(dispatch);
        return false;
    }
    fill_kernarg(launch, (uint8_t *)dispatch->kernarg->low);
    fill_packet(dispatch, (packet_t *)dispatch->packet->low);
    fill_user_sgprs(dispatch);
    return true;
}

void gs_dispatch_end(gs_dispatch_t *dispatch) {
    gs_memory_remove(dispatch->kernarg);
    gs_memory_remove(dispatch->packet);
    dispatch->kernarg = dispatch->packet = NULL;
}

/* Work-item ids: 10 bits each of x, y, z in v0. Those that a kernel does not ask for are 0; clang counts on it. */
static void set_work_items(const gs_dispatch_t *dispatch, gs_wave_t *wave, int index) {
    const uint32_t *block = dispatch->launch->block;
    uint32_t last_axis = dispatch->launch->kernel->descriptor.rsrc2 >> WORK_ITEM_IDS_SHIFT & 3;
    uint32_t ids[GS_LANES];
    for (uint32_t lane = 0; lane < GS_LANES; lane++) {
        uint32_t item = (uint32_t)index * GS_LANES + lane;
        ids[lane] = item % block[0];
        if (last_axis >= 1) ids[lane] |= item / block[0] % block[1] << 10;
        if (last_axis >= 2) ids[lane] |= item / (block[0] * block[1]) << 20;
    }
    gs_wave_set_vgpr(wave, 0, ids);
}

void gs_dispatch_start_wave(const gs_dispatch_t *dispatch, gs_crew_t *crew, int index) {
    uint32_t rsrc2 = dispatch->launch->kernel->descriptor.rsrc2;
    uint32_t left = dispatch->threads - (uint32_t)index * GS_LANES;
    uint64_t active = left >= GS_LANES ? ~0ull : (1ull << left) - 1;
    gs_wave_t *wave = crew->waves[index];
    gs_wave_start(wave, &dispatch->program, &crew->workgroup, index, dispatch->entry, active, crew->scratch[index]);
    for (int i = 0; i < dispatch->user_sgpr_count; i++) gs_wave_set_sgpr(wave, i, dispatch->user_sgprs[i]);
    int next = (int)(rsrc2 >> USER_SGPRS_SHIFT & USER_SGPRS_MASK);
    for (int axis = 0; axis < 3; axis++) {
        if (rsrc2 >> (WORKGROUP_ID_X_SHIFT + axis) & 1) gs_wave_set_sgpr(wave, next++, crew->workgroup.id[axis]);
    }
    if (rsrc2 & WORKGROUP_INFO) gs_wave_set_sgpr(wave, next++, 0);
    set_work_items(dispatch, wave, index);
}
