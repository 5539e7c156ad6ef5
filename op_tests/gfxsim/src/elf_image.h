/* Loads the ELF file of a code object into guarded memory: segments, relocations, dynamic symbols, metadata note. */
#ifndef GFXSIM_ELF_IMAGE_H
#define GFXSIM_ELF_IMAGE_H

#include "memory.h"

enum { GS_MAX_SEGMENTS = 8 };

typedef struct gs_segment_t {
    uintptr_t low, high;
    bool writable, executable;
} gs_segment_t;

typedef struct gs_symbol_t {
    const char *name; /* in the loaded image */
    uintptr_t address;
    uint64_t bytes;
    bool is_object; /* a variable or a kernel descriptor; else a function */
} gs_symbol_t;

typedef struct gs_image_t {
    gs_mapping_t mapping;
    uintptr_t base; /* the address of the file's virtual address 0 */
    gs_arch_t arch;
    gs_segment_t segments[GS_MAX_SEGMENTS];
    int segment_count;
    gs_symbol_t *symbols;
    int symbol_count;
    const uint8_t *metadata; /* MessagePack, in the caller's file */
    size_t metadata_bytes;
} gs_image_t;

typedef enum gs_load_error_t { GS_LOAD_OK, GS_LOAD_INVALID, GS_LOAD_WRONG_ARCH, GS_LOAD_NO_MEMORY } gs_load_error_t;

/* Size of the ELF file at `file` by its own headers, or 0: not one. At least 64 bytes are read. */
size_t gs_elf_size(const void *file);

/* `bytes` bounds all that is read. On an error `message` [size] says what is wrong and nothing is kept. */
gs_load_error_t gs_image_load(const void *file, size_t bytes, gs_image_t *image, char *message, size_t size);
void gs_image_unload(gs_image_t *image);

/* True if the image holds [address, address + bytes). */
bool gs_image_holds(const gs_image_t *image, uintptr_t address, uint64_t bytes);

const char *gs_arch_name(gs_arch_t arch);

#endif
