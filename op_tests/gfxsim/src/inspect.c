/* Code objects without a device: what is in them, for the command line and for tests of the decoder. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hazards.h"
#include "hip_state.h"

typedef struct gfxsim_kernel_info_t {
    char name[512];
    uint32_t vgprs, agprs, sgprs, lds_bytes, scratch_bytes, kernarg_bytes, max_threads;
    uint32_t instructions[GS_CLASS_COUNT];
    uint32_t unknown;                 /* words that are no instruction, instructions without semantics */
    uint64_t code_offset, code_bytes; /* from the start of the text */
} gfxsim_kernel_info_t;

/* NULL with a `message` [size] on an error. `arch` is gs_arch_t; the file must be for it. */
GS_EXPORT gs_module_t *gfxsim_code_open(const void *file, size_t bytes, int arch, char *message, size_t size) {
    gs_module_t *module = NULL;
    if (bytes < 64) {
        snprintf(message, size, "too short for a code object");
        return NULL;
    }
    gs_lock();
    snprintf(message, size, "out of memory");
    if (gs_module_load(file, bytes, (gs_arch_t)arch, 0, &module, message, size) == GS_LOAD_OK) gs_module_decode(module);
    gs_unlock();
    return module;
}

GS_EXPORT void gfxsim_code_close(gs_module_t *module) {
    gs_lock();
    gs_module_unload(module);
    free(module);
    gs_unlock();
}

GS_EXPORT int gfxsim_code_kernel_count(const gs_module_t *module) { return module->kernel_count; }

GS_EXPORT int gfxsim_code_kernel(const gs_module_t *module, int index, gfxsim_kernel_info_t *info) {
    if (index < 0 || index >= module->kernel_count) return -1;
    const gs_kernel_t *kernel = &module->kernels[index];
    uintptr_t end = gs_kernel_code_end(kernel);
    memset(info, 0, sizeof *info);
    snprintf(info->name, sizeof info->name, "%s", kernel->name);
    info->vgprs = kernel->vgprs;
    info->agprs = kernel->agprs;
    info->sgprs = kernel->sgprs;
    info->lds_bytes = kernel->descriptor.lds_bytes;
    info->scratch_bytes = kernel->descriptor.scratch_bytes;
    info->kernarg_bytes = kernel->kernarg_bytes;
    info->max_threads = kernel->max_threads;
    info->code_offset = kernel->entry - module->code_low;
    info->code_bytes = end - kernel->entry;
    for (uintptr_t at = kernel->entry; at < end;) {
        const gs_insn_t *insn = &module->insns[(at - module->code_low) / 4];
        if (insn->execute && insn->class_ < GS_CLASS_COUNT) info->instructions[insn->class_]++;
        else info->unknown++;
        at += insn->name ? insn->bytes : 4;
    }
    return 0;
}

/* Bytes of text; its start in the file's image. */
GS_EXPORT uint64_t gfxsim_code_text(const gs_module_t *module, uint64_t *out_address) {
    *out_address = module->code_low - module->image.base;
    return 4ull * module->code_words;
}

/* The text of the instruction at an offset into the code: its size in bytes, 4 for a word that is none. */
GS_EXPORT int gfxsim_code_print(const gs_module_t *module, uint64_t offset, char *text, int size) {
    if (offset % 4 != 0 || offset / 4 >= module->code_words) return 0;
    const gs_insn_t *insn = &module->insns[offset / 4];
    if (!insn->name) {
        snprintf(text, (size_t)size, ".long 0x%08x", ((const uint32_t *)module->code_low)[offset / 4]);
        return 4;
    }
    gs_print(module->image.arch, insn, module->code_low - module->image.base + offset, text, size);
    return insn->bytes;
}

/* Decodes and prints one instruction from `words`: its size in bytes or 0; *out_runs: the executor has semantics. */
GS_EXPORT int gfxsim_decode(int arch, const uint32_t *words, int available, uint64_t pc, char *text, int size,
                            int *out_runs) {
    gs_insn_t insn;
    memset(&insn, 0, sizeof insn);
    int bytes = gs_decode((gs_arch_t)arch, words, available, &insn);
    *out_runs = bytes > 0 && gs_bind((gs_arch_t)arch, &insn);
    if (bytes > 0) gs_print((gs_arch_t)arch, &insn, pc, text, size);
    return bytes;
}

/* ---- hazards ---------------------------------------------------------------------------------------------------- */

typedef struct gfxsim_hazard_t {
    uint64_t first, second; /* offsets into the code */
    int32_t needed, found;
    const char *rule;
} gfxsim_hazard_t;

static int list_hazards(gs_arch_t arch, const gs_insn_t *insns, uint32_t low, uint32_t high, gfxsim_hazard_t *out,
                        int limit) {
    gs_hazard_t *found = calloc((size_t)limit + 1, sizeof *found);
    int count = found ? gs_hazards_find(arch, insns, low, high, found, limit) : -1;
    for (int i = 0; i < count && i < limit; i++) {
        out[i] = (gfxsim_hazard_t){4ull * found[i].first, 4ull * found[i].second, found[i].needed, found[i].found,
                                   found[i].rule};
    }
    free(found);
    return count;
}

/* In `bytes` of the code from `offset` on: how many there are, the first `limit` of them in `out`; -1: out of memory.
 */
GS_EXPORT int gfxsim_code_hazards(const gs_module_t *module, uint64_t offset, uint64_t bytes, gfxsim_hazard_t *out,
                                  int limit) {
    uint32_t low = (uint32_t)(offset / 4), high = (uint32_t)((offset + bytes) / 4);
    if (high > module->code_words) high = module->code_words;
    return low < high ? list_hazards(module->image.arch, module->insns, low, high, out, limit) : 0;
}

/* In a few words; -1: out of memory. */
GS_EXPORT int gfxsim_words_hazards(int arch, const uint32_t *words, int count, gfxsim_hazard_t *out, int limit) {
    gs_insn_t *insns = calloc((size_t)count + 1, sizeof *insns);
    for (int i = 0; insns && i < count; i++) {
        gs_decode((gs_arch_t)arch, words + i, count - i, &insns[i]);
        gs_bind((gs_arch_t)arch, &insns[i]);
    }
    int result = insns ? list_hazards((gs_arch_t)arch, insns, 0, (uint32_t)count, out, limit) : -1;
    free(insns);
    return result;
}

/* The rules' texts, up to NULL. */
GS_EXPORT const char *gfxsim_hazard_rule(int index) { return gs_hazard_rule(index); }

/* ---- arguments -------------------------------------------------------------------------------------------------- */

/* An argument that the caller of a launch passes: {offset, bytes, gs_argument_kind_t}; -1: there is no such one. */
GS_EXPORT int gfxsim_kernel_argument(const gs_kernel_t *kernel, int index, uint32_t out[3]) {
    if (index < 0 || index >= kernel->argument_count) return -1;
    const gs_argument_t *argument = &kernel->arguments[index];
    if (argument->kind >= GS_HIDDEN_BLOCK_COUNT_X) return -1;
    out[0] = argument->offset;
    out[1] = argument->bytes;
    out[2] = (uint32_t)argument->kind;
    return 0;
}
