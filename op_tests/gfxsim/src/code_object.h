/* A code object as the runtime holds it: the loaded image, its kernels with their metadata, its decoded text. */
#ifndef GFXSIM_CODE_OBJECT_H
#define GFXSIM_CODE_OBJECT_H

#include "elf_image.h"

/* The arguments that the runtime fills in (code object version 5 and 6), and the two kinds that the caller does. */
typedef enum gs_argument_kind_t {
    GS_ARGUMENT_VALUE,
    GS_ARGUMENT_POINTER,
    GS_ARGUMENT_DYNAMIC_LDS_POINTER,
    GS_HIDDEN_BLOCK_COUNT_X,
    GS_HIDDEN_BLOCK_COUNT_Y,
    GS_HIDDEN_BLOCK_COUNT_Z,
    GS_HIDDEN_GROUP_SIZE_X,
    GS_HIDDEN_GROUP_SIZE_Y,
    GS_HIDDEN_GROUP_SIZE_Z,
    GS_HIDDEN_GRID_DIMS,
    GS_HIDDEN_DYNAMIC_LDS_SIZE,
    GS_HIDDEN_ZERO, /* remainders, offsets of the grid: always 0 here */
    GS_HIDDEN_OTHER /* printf, hostcall, heap, queues: 0, not modelled */
} gs_argument_kind_t;

typedef struct gs_argument_t {
    uint32_t offset, bytes;
    gs_argument_kind_t kind;
} gs_argument_t;

/* The kernel descriptor's 64 bytes (LLVM: Code Object V3 Kernel Descriptor). */
typedef struct gs_descriptor_t {
    uint32_t lds_bytes, scratch_bytes, kernarg_bytes, reserved0;
    int64_t entry_offset;
    uint8_t reserved1[20];
    uint32_t rsrc3, rsrc1, rsrc2;
    uint16_t properties, preload;
    uint32_t reserved2;
} gs_descriptor_t;

typedef struct gs_module_t gs_module_t;

typedef struct gs_kernel_t {
    gs_module_t *module;
    char *name;
    gs_descriptor_t descriptor;
    uintptr_t entry;
    uint32_t kernarg_bytes, vgprs, agprs, sgprs, max_threads;
    gs_argument_t *arguments;
    int argument_count;       /* hidden ones come last */
    uint32_t max_dynamic_lds; /* hipFuncSetAttribute */
    bool decoded;
} gs_kernel_t;

struct gs_module_t {
    int device;
    gs_image_t image;
    gs_buffer_t *buffers[GS_MAX_SEGMENTS];
    gs_kernel_t *kernels;
    int kernel_count;
    uintptr_t code_low;
    uint32_t code_words;
    gs_insn_t *insns; /* [code_words]; what gs_kernel_decode and gs_module_decode have filled in */
    bool decoded;     /* all of it */
};

/* Loads an ELF file or an uncompressed offload bundle for a device of `arch`. `bytes` may be 0: then the headers in the
 * file are trusted for its size. On an error `message` [size] says what is wrong. */
gs_load_error_t gs_module_load(const void *file, size_t bytes, gs_arch_t arch, int device, gs_module_t **out_module,
                               char *message, size_t size);
void gs_module_unload(gs_module_t *module); /* all but the struct itself */

/* Decodes all text, or the code of one kernel (all text if that calls functions), once: most of a module's kernels are
 * never launched. */
void gs_module_decode(gs_module_t *module);
void gs_kernel_decode(gs_kernel_t *kernel);

gs_kernel_t *gs_module_kernel(gs_module_t *module, const char *name);
const gs_symbol_t *gs_module_variable(const gs_module_t *module, const char *name);

/* The end of the kernel's own code: the next symbol or the end of the text. */
uintptr_t gs_kernel_code_end(const gs_kernel_t *kernel);

/* metadata.c: fills module->kernels from the note; false: damaged. */
bool gs_read_metadata(gs_module_t *module);

#endif
