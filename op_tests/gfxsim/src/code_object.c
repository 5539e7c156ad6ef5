#include "code_object.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char BUNDLE_MAGIC[] = "__CLANG_OFFLOAD_BUNDLE__";
enum { BUNDLE_MAGIC_BYTES = sizeof BUNDLE_MAGIC - 1, MAX_BUNDLE_ENTRIES = 64, MAX_TARGET_NAME = 256 };

static uint64_t read_u64(const uint8_t *at) {
    uint64_t value;
    memcpy(&value, at, sizeof value);
    return value;
}

/* An offload bundle is a list of (offset, size, target name); finds the code object whose target names `arch`. */
static const uint8_t *unbundle(const uint8_t *file, gs_arch_t arch, size_t *out_bytes) {
    const uint8_t *at = file + BUNDLE_MAGIC_BYTES;
    uint64_t count = read_u64(at);
    at += 8;
    for (uint64_t i = 0; i < count && i < MAX_BUNDLE_ENTRIES; i++) {
        uint64_t offset = read_u64(at), bytes = read_u64(at + 8), length = read_u64(at + 16);
        char target[MAX_TARGET_NAME + 1];
        if (length > MAX_TARGET_NAME) return NULL;
        memcpy(target, at + 24, length);
        target[length] = '\0';
        at += 24 + length;
        const char *name = strstr(target, gs_arch_name(arch));
        if (name && target + strlen(target) >= name + 6 && bytes > 0) {
            *out_bytes = bytes;
            return file + offset;
        }
    }
    return NULL;
}

/* ---- text ------------------------------------------------------------------------------------------------------- */

/* Decodes up to `end` or to what is decoded already; returns where it stopped. */
static uint32_t decode_from(gs_module_t *module, uint32_t word, uint32_t end) {
    const uint32_t *words = (const uint32_t *)module->code_low;
    while (word < end && !module->insns[word].name) {
        int available = module->code_words - word > 4 ? 4 : (int)(module->code_words - word);
        gs_insn_t insn;
        int bytes = gs_decode(module->image.arch, words + word, available, &insn);
        if (bytes > 0) {
            gs_bind(module->image.arch, &insn);
            module->insns[word] = insn;
        }
        word += bytes > 0 ? (uint32_t)bytes / 4 : 1;
    }
    return word;
}

static gs_load_error_t find_text(gs_module_t *module) {
    const gs_image_t *image = &module->image;
    uintptr_t low = UINTPTR_MAX, high = 0;
    for (int i = 0; i < image->segment_count; i++) {
        if (!image->segments[i].executable) continue;
        if (image->segments[i].low < low) low = image->segments[i].low;
        if (image->segments[i].high > high) high = image->segments[i].high;
    }
    if (high <= low || low % 4 != 0) return GS_LOAD_INVALID;
    module->code_low = low;
    module->code_words = (uint32_t)((high - low) / 4);
    module->insns = calloc(module->code_words, sizeof *module->insns);
    return module->insns ? GS_LOAD_OK : GS_LOAD_NO_MEMORY;
}

/* Data between functions can mislead a pass from the start, so each function is a start, too. */
void gs_module_decode(gs_module_t *module) {
    const gs_image_t *image = &module->image;
    if (module->decoded) return;
    module->decoded = true;
    for (int i = 0; i < image->symbol_count; i++) {
        uintptr_t address = image->symbols[i].address, end = module->code_low + 4ull * module->code_words;
        if (!image->symbols[i].is_object && address >= module->code_low && address < end) {
            decode_from(module, (uint32_t)((address - module->code_low) / 4), module->code_words);
        }
    }
    for (uint32_t word = 0; word < module->code_words;) {
        word = decode_from(module, word, module->code_words);
        if (word < module->code_words) word += module->insns[word].bytes / 4;
    }
}

static bool leaves_its_code(const gs_insn_t *insn) {
    return strstr(insn->name, "setpc") || strstr(insn->name, "swappc") || strstr(insn->name, "s_call");
}

void gs_kernel_decode(gs_kernel_t *kernel) {
    gs_module_t *module = kernel->module;
    if (kernel->decoded || module->decoded) return;
    kernel->decoded = true;
    uint32_t first = (uint32_t)((kernel->entry - module->code_low) / 4);
    uint32_t end = (uint32_t)((gs_kernel_code_end(kernel) - module->code_low) / 4);
    if (end > module->code_words) end = module->code_words;
    decode_from(module, first, end);
    for (uint32_t word = first; word < end; word++)
        if (module->insns[word].name && leaves_its_code(&module->insns[word])) gs_module_decode(module);
}

/* ---- kernels ---------------------------------------------------------------------------------------------------- */

static const gs_symbol_t *find_symbol(const gs_module_t *module, const char *name) {
    for (int i = 0; i < module->image.symbol_count; i++) {
        if (strcmp(module->image.symbols[i].name, name) == 0) return &module->image.symbols[i];
    }
    return NULL;
}

static bool resolve_kernel(gs_module_t *module, gs_kernel_t *kernel) {
    char name[1024];
    if (snprintf(name, sizeof name, "%s.kd", kernel->name) >= (int)sizeof name) return false;
    const gs_symbol_t *symbol = find_symbol(module, name);
    if (!symbol || !gs_image_holds(&module->image, symbol->address, sizeof kernel->descriptor)) return false;
    memcpy(&kernel->descriptor, (const void *)symbol->address, sizeof kernel->descriptor);
    kernel->module = module;
    kernel->entry = symbol->address + (uintptr_t)kernel->descriptor.entry_offset;
    if (kernel->max_threads == 0) kernel->max_threads = 1024;
    uintptr_t code_high = module->code_low + 4ull * module->code_words;
    return kernel->entry >= module->code_low && kernel->entry < code_high && kernel->entry % 4 == 0;
}

static gs_load_error_t register_segments(gs_module_t *module) {
    for (int i = 0; i < module->image.segment_count; i++) {
        const gs_segment_t *segment = &module->image.segments[i];
        char name[40];
        const char *kind = segment->executable ? "code" : segment->writable ? "variables" : "constants";
        snprintf(name, sizeof name, "%s of %.26s", kind, module->kernel_count ? module->kernels[0].name : "module");
        module->buffers[i] = gs_memory_add((const void *)segment->low, segment->high - segment->low, segment->writable,
                                           module->device, name);
        if (!module->buffers[i]) return GS_LOAD_NO_MEMORY;
    }
    return GS_LOAD_OK;
}

static gs_load_error_t load(gs_module_t *module, const void *file, size_t bytes, gs_arch_t arch, char *message,
                            size_t size) {
    gs_load_error_t error = gs_image_load(file, bytes, &module->image, message, size);
    if (error != GS_LOAD_OK) return error;
    if (module->image.arch != arch) {
        snprintf(message, size, "the code object is for %s, the device is %s", gs_arch_name(module->image.arch),
                 gs_arch_name(arch));
        return GS_LOAD_WRONG_ARCH;
    }
    snprintf(message, size, "its metadata or text is damaged");
    if (!gs_read_metadata(module)) return GS_LOAD_INVALID;
    error = find_text(module);
    for (int i = 0; i < module->kernel_count && error == GS_LOAD_OK; i++) {
        if (!resolve_kernel(module, &module->kernels[i])) error = GS_LOAD_INVALID;
    }
    return error == GS_LOAD_OK ? register_segments(module) : error;
}

gs_load_error_t gs_module_load(const void *file, size_t bytes, gs_arch_t arch, int device, gs_module_t **out_module,
                               char *message, size_t size) {
    if (memcmp(file, BUNDLE_MAGIC, BUNDLE_MAGIC_BYTES) == 0) {
        file = unbundle(file, arch, &bytes);
        if (!file) {
            snprintf(message, size, "the bundle holds no code object for %s", gs_arch_name(arch));
            return GS_LOAD_WRONG_ARCH;
        }
    }
    if (bytes == 0) bytes = gs_elf_size(file);
    gs_module_t *module = calloc(1, sizeof *module);
    if (!module) return GS_LOAD_NO_MEMORY;
    module->device = device;
    gs_load_error_t error = load(module, file, bytes, arch, message, size);
    if (error != GS_LOAD_OK) {
        gs_module_unload(module);
        free(module);
        return error;
    }
    *out_module = module;
    return GS_LOAD_OK;
}

void gs_module_unload(gs_module_t *module) {
    for (int i = 0; i < GS_MAX_SEGMENTS; i++) gs_memory_remove(module->buffers[i]);
    for (int i = 0; i < module->kernel_count; i++) {
        free(module->kernels[i].name);
        free(module->kernels[i].arguments);
    }
    free(module->kernels);
    free(module->insns);
    gs_image_unload(&module->image);
}

gs_kernel_t *gs_module_kernel(gs_module_t *module, const char *name) {
    for (int i = 0; i < module->kernel_count; i++) {
        if (strcmp(module->kernels[i].name, name) == 0) return &module->kernels[i];
    }
    return NULL;
}

const gs_symbol_t *gs_module_variable(const gs_module_t *module, const char *name) {
    const gs_symbol_t *symbol = find_symbol(module, name);
    return symbol && symbol->is_object ? symbol : NULL;
}

uintptr_t gs_kernel_code_end(const gs_kernel_t *kernel) {
    const gs_module_t *module = kernel->module;
    uintptr_t end = module->code_low + 4ull * module->code_words;
    for (int i = 0; i < module->image.symbol_count; i++) {
        const gs_symbol_t *symbol = &module->image.symbols[i];
        if (symbol->is_object) continue;
        if (symbol->address == kernel->entry && symbol->bytes > 0) return symbol->address + symbol->bytes;
        if (symbol->address > kernel->entry && symbol->address < end) end = symbol->address;
    }
    return end;
}
