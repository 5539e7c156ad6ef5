/* The metadata note: a map whose "amdhsa.kernels" lists the kernels and their arguments. */
#include <stdlib.h>
#include <string.h>

#include "code_object.h"
#include "msgpack.h"

static const struct {
    const char *name;
    gs_argument_kind_t kind;
} KINDS[] = {
    {"by_value", GS_ARGUMENT_VALUE},
    {"global_buffer", GS_ARGUMENT_POINTER},
    {"dynamic_shared_pointer", GS_ARGUMENT_DYNAMIC_LDS_POINTER},
    {"hidden_block_count_x", GS_HIDDEN_BLOCK_COUNT_X},
    {"hidden_block_count_y", GS_HIDDEN_BLOCK_COUNT_Y},
    {"hidden_block_count_z", GS_HIDDEN_BLOCK_COUNT_Z},
    {"hidden_group_size_x", GS_HIDDEN_GROUP_SIZE_X},
    {"hidden_group_size_y", GS_HIDDEN_GROUP_SIZE_Y},
    {"hidden_group_size_z", GS_HIDDEN_GROUP_SIZE_Z},
    {"hidden_remainder_x", GS_HIDDEN_ZERO},
    {"hidden_remainder_y", GS_HIDDEN_ZERO},
    {"hidden_remainder_z", GS_HIDDEN_ZERO},
    {"hidden_global_offset_x", GS_HIDDEN_ZERO},
    {"hidden_global_offset_y", GS_HIDDEN_ZERO},
    {"hidden_global_offset_z", GS_HIDDEN_ZERO},
    {"hidden_grid_dims", GS_HIDDEN_GRID_DIMS},
    {"hidden_dynamic_lds_size", GS_HIDDEN_DYNAMIC_LDS_SIZE},
};

static gs_argument_kind_t argument_kind(gs_pack_string_t name) {
    for (size_t i = 0; i < sizeof KINDS / sizeof *KINDS; i++) {
        if (gs_pack_is(name, KINDS[i].name)) return KINDS[i].kind;
    }
    bool hidden = name.length > 7 && memcmp(name.text, "hidden_", 7) == 0;
    return hidden ? GS_HIDDEN_OTHER : GS_ARGUMENT_POINTER; /* samplers, images and queues are passed by address */
}

static char *copied(gs_pack_string_t string) {
    char *copy = malloc((size_t)string.length + 1);
    if (!copy) return NULL;
    memcpy(copy, string.text, string.length);
    copy[string.length] = '\0';
    return copy;
}

static void read_argument(gs_pack_t *pack, gs_argument_t *argument) {
    uint32_t pairs = gs_pack_map(pack);
    for (uint32_t i = 0; i < pairs && !pack->bad; i++) {
        gs_pack_string_t key = gs_pack_string(pack);
        if (gs_pack_is(key, ".offset")) {
            argument->offset = (uint32_t)gs_pack_uint(pack);
        } else if (gs_pack_is(key, ".size")) {
            argument->bytes = (uint32_t)gs_pack_uint(pack);
        } else if (gs_pack_is(key, ".value_kind")) {
            argument->kind = argument_kind(gs_pack_string(pack));
        } else {
            gs_pack_skip(pack);
        }
    }
}

static void read_arguments(gs_pack_t *pack, gs_kernel_t *kernel) {
    uint32_t count = gs_pack_array(pack);
    kernel->arguments = calloc(count ? count : 1, sizeof *kernel->arguments);
    if (!kernel->arguments) pack->bad = true;
    for (uint32_t i = 0; i < count && !pack->bad; i++) read_argument(pack, &kernel->arguments[i]);
    kernel->argument_count = pack->bad ? 0 : (int)count;
}

static void read_kernel(gs_pack_t *pack, gs_kernel_t *kernel) {
    const struct {
        const char *key;
        uint32_t *field;
    } numbers[] = {
        {".kernarg_segment_size", &kernel->kernarg_bytes},
        {".max_flat_workgroup_size", &kernel->max_threads},
        {".vgpr_count", &kernel->vgprs},
        {".agpr_count", &kernel->agprs},
        {".sgpr_count", &kernel->sgprs},
    };
    uint32_t pairs = gs_pack_map(pack);
    for (uint32_t i = 0; i < pairs && !pack->bad; i++) {
        gs_pack_string_t key = gs_pack_string(pack);
        uint32_t *field = NULL;
        for (size_t j = 0; j < sizeof numbers / sizeof *numbers; j++) {
            if (gs_pack_is(key, numbers[j].key)) field = numbers[j].field;
        }
        if (field) {
            *field = (uint32_t)gs_pack_uint(pack);
        } else if (gs_pack_is(key, ".args") && !kernel->arguments) {
            read_arguments(pack, kernel);
        } else if (gs_pack_is(key, ".symbol") && !kernel->name) {
            kernel->name = copied(gs_pack_string(pack)); /* "NAME.kd"; .name is not always the linkage name */
        } else {
            gs_pack_skip(pack);
        }
    }
    size_t length = kernel->name ? strlen(kernel->name) : 0;
    if (length <= 3 || strcmp(kernel->name + length - 3, ".kd") != 0) {
        pack->bad = true;
    } else {
        kernel->name[length - 3] = '\0';
    }
}

static bool arguments_fit(const gs_kernel_t *kernel) {
    for (int i = 0; i < kernel->argument_count; i++) {
        const gs_argument_t *argument = &kernel->arguments[i];
        if (argument->offset > kernel->kernarg_bytes || argument->bytes > kernel->kernarg_bytes - argument->offset) {
            return false;
        }
    }
    return kernel->kernarg_bytes <= 1 << 20;
}

bool gs_read_metadata(gs_module_t *module) {
    const uint8_t *start = module->image.metadata;
    gs_pack_t pack = {start, start + module->image.metadata_bytes, false};
    uint32_t pairs = gs_pack_map(&pack);
    for (uint32_t i = 0; i < pairs && !pack.bad; i++) {
        if (!gs_pack_is(gs_pack_string(&pack), "amdhsa.kernels") || module->kernels) {
            gs_pack_skip(&pack);
            continue;
        }
        uint32_t count = gs_pack_array(&pack);
        module->kernels = calloc(count ? count : 1, sizeof *module->kernels);
        if (!module->kernels) return false;
        for (uint32_t k = 0; k < count && !pack.bad; k++) {
            module->kernel_count++;
            read_kernel(&pack, &module->kernels[k]);
            if (!pack.bad && !arguments_fit(&module->kernels[k])) pack.bad = true;
        }
    }
    return !pack.bad && module->kernels;
}
