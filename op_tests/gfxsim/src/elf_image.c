#include "elf_image.h"

#include <elf.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    MACHINE_AMDGPU = 224,
    OSABI_AMDGPU_HSA = 64,
    FLAG_MACH_MASK = 0xff,
    MACH_GFX942 = 0x4c,
    MACH_GFX950 = 0x4f,
    MACH_GFX9_4_GENERIC = 0x5f,
    RELOCATION_ABS32_LOW = 1,
    RELOCATION_ABS32_HIGH = 2,
    RELOCATION_ABS64 = 3,
    RELOCATION_ABS32 = 6,
    RELOCATION_RELATIVE64 = 13,
    NOTE_AMDGPU_METADATA = 32
};

static const uint64_t MAX_IMAGE_BYTES = 1 << 30;

typedef struct loader_t {
    const uint8_t *file;
    size_t bytes;
    gs_image_t *image;
    char *message;
    size_t message_size;
} loader_t;

/* What the dynamic section says; zero: absent. */
typedef struct dynamic_t {
    uint64_t symbols, strings, strings_bytes, hash, gnu_hash, relocations, relocations_bytes;
} dynamic_t;

static gs_load_error_t invalid(const loader_t *loader, const char *what) {
    snprintf(loader->message, loader->message_size, "not a loadable code object: %s", what);
    return GS_LOAD_INVALID;
}

const char *gs_arch_name(gs_arch_t arch) { return arch == GS_GFX950 ? "gfx950" : "gfx942"; }

bool gs_image_holds(const gs_image_t *image, uintptr_t address, uint64_t bytes) {
    for (int i = 0; i < image->segment_count; i++) {
        const gs_segment_t *segment = &image->segments[i];
        if (address >= segment->low && address <= segment->high && bytes <= segment->high - address) return true;
    }
    return false;
}

/* ---- headers ---------------------------------------------------------------------------------------------------- */

static bool is_elf64(const Elf64_Ehdr *header) {
    return memcmp(header->e_ident, ELFMAG, SELFMAG) == 0 && header->e_ident[EI_CLASS] == ELFCLASS64 &&
           header->e_ident[EI_DATA] == ELFDATA2LSB;
}

size_t gs_elf_size(const void *file) {
    Elf64_Ehdr header;
    memcpy(&header, file, sizeof header);
    if (!is_elf64(&header) || header.e_phentsize != sizeof(Elf64_Phdr)) return 0;
    uint64_t end = sizeof header;
    uint64_t sections = header.e_shoff + (uint64_t)header.e_shnum * header.e_shentsize;
    if (sections > end) end = sections;
    for (int i = 0; i < header.e_phnum; i++) {
        Elf64_Phdr program;
        memcpy(&program, (const uint8_t *)file + header.e_phoff + i * sizeof program, sizeof program);
        if (program.p_offset + program.p_filesz > end) end = program.p_offset + program.p_filesz;
    }
    return end <= MAX_IMAGE_BYTES ? end : 0;
}

static gs_load_error_t check_header(const loader_t *loader, const Elf64_Ehdr *header) {
    if (!is_elf64(header)) return invalid(loader, "no 64-bit ELF file");
    if (header->e_machine != MACHINE_AMDGPU || header->e_ident[EI_OSABI] != OSABI_AMDGPU_HSA) {
        return invalid(loader, "an ELF file, but not for amdgcn-amd-amdhsa");
    }
    if (header->e_type != ET_DYN) return invalid(loader, "not linked (a relocatable object?)");
    if (header->e_phentsize != sizeof(Elf64_Phdr) || header->e_phoff > loader->bytes ||
        (uint64_t)header->e_phnum * sizeof(Elf64_Phdr) > loader->bytes - header->e_phoff) {
        return invalid(loader, "its program headers lie outside of the file");
    }
    switch (header->e_flags & FLAG_MACH_MASK) {
    case MACH_GFX942:
    case MACH_GFX9_4_GENERIC: loader->image->arch = GS_GFX942; return GS_LOAD_OK;
    case MACH_GFX950: loader->image->arch = GS_GFX950; return GS_LOAD_OK;
    default:
        snprintf(loader->message, loader->message_size, "its processor (EF_AMDGPU_MACH 0x%x) is not gfx942 or gfx950",
                 header->e_flags & FLAG_MACH_MASK);
        return GS_LOAD_WRONG_ARCH;
    }
}

/* ---- segments --------------------------------------------------------------------------------------------------- */

static Elf64_Phdr program_header(const loader_t *loader, const Elf64_Ehdr *header, int index) {
    Elf64_Phdr program;
    memcpy(&program, loader->file + header->e_phoff + (size_t)index * sizeof program, sizeof program);
    return program;
}

static gs_load_error_t load_segments(const loader_t *loader, const Elf64_Ehdr *header) {
    gs_image_t *image = loader->image;
    uint64_t top = 0;
    for (int i = 0; i < header->e_phnum; i++) {
        Elf64_Phdr program = program_header(loader, header, i);
        if (program.p_type != PT_LOAD) continue;
        if (program.p_offset > loader->bytes || program.p_filesz > loader->bytes - program.p_offset ||
            program.p_filesz > program.p_memsz || program.p_memsz > MAX_IMAGE_BYTES ||
            program.p_vaddr > MAX_IMAGE_BYTES) {
            return invalid(loader, "a segment lies outside of the file");
        }
        if (program.p_vaddr + program.p_memsz > top) top = program.p_vaddr + program.p_memsz;
    }
    if (top == 0) return invalid(loader, "no segments");
    if (!gs_mapping_create(&image->mapping, top)) return GS_LOAD_NO_MEMORY;
    image->base = (uintptr_t)image->mapping.body;
    for (int i = 0; i < header->e_phnum; i++) {
        Elf64_Phdr program = program_header(loader, header, i);
        if (program.p_type != PT_LOAD || program.p_memsz == 0) continue;
        if (image->segment_count == GS_MAX_SEGMENTS) return invalid(loader, "too many segments");
        uintptr_t low = image->base + program.p_vaddr;
        memcpy((void *)low, loader->file + program.p_offset, program.p_filesz);
        image->segments[image->segment_count++] =
            (gs_segment_t){low, low + program.p_memsz, (program.p_flags & PF_W) != 0, (program.p_flags & PF_X) != 0};
    }
    return GS_LOAD_OK;
}

/* Constants that need relocation lie in a segment that is writable only until then. */
static void protect(const loader_t *loader, const Elf64_Phdr *program) {
    gs_image_t *image = loader->image;
    uintptr_t low = image->base + program->p_vaddr, high = low + program->p_memsz;
    for (int i = 0; i < image->segment_count; i++) {
        if (image->segments[i].low >= low && image->segments[i].high <= high) image->segments[i].writable = false;
    }
}

static void find_metadata(const loader_t *loader, const Elf64_Phdr *program) {
    if (program->p_offset > loader->bytes || program->p_filesz > loader->bytes - program->p_offset) return;
    const uint8_t *at = loader->file + program->p_offset;
    uint64_t left = program->p_filesz;
    while (left >= sizeof(Elf64_Nhdr)) {
        Elf64_Nhdr note;
        memcpy(&note, at, sizeof note);
        uint64_t name = ((uint64_t)note.n_namesz + 3) & ~3ull, data = ((uint64_t)note.n_descsz + 3) & ~3ull;
        if (name > left - sizeof note || note.n_descsz > left - sizeof note - name) return;
        if (note.n_type == NOTE_AMDGPU_METADATA && name >= 6 && memcmp(at + sizeof note, "AMDGPU", 6) == 0) {
            loader->image->metadata = at + sizeof note + name;
            loader->image->metadata_bytes = note.n_descsz;
            return;
        }
        if (data > left - sizeof note - name) return;
        at += sizeof note + name + data;
        left -= sizeof note + name + data;
    }
}

/* ---- the dynamic section ---------------------------------------------------------------------------------------- */

/* A table of the file that is read in place. */
static bool holds_table(const gs_image_t *image, uintptr_t address, uint64_t bytes, uintptr_t alignment) {
    return address % alignment == 0 && gs_image_holds(image, address, bytes);
}

static dynamic_t read_dynamic(const loader_t *loader, const Elf64_Phdr *program) {
    dynamic_t dynamic = {0};
    const gs_image_t *image = loader->image;
    if (!holds_table(image, image->base + program->p_vaddr, program->p_memsz, 8)) return dynamic;
    const Elf64_Dyn *entry = (const Elf64_Dyn *)(image->base + program->p_vaddr);
    for (uint64_t i = 0; i < program->p_memsz / sizeof *entry && entry[i].d_tag != DT_NULL; i++) {
        uint64_t value = entry[i].d_un.d_val;
        switch (entry[i].d_tag) {
        case DT_SYMTAB: dynamic.symbols = value; break;
        case DT_STRTAB: dynamic.strings = value; break;
        case DT_STRSZ: dynamic.strings_bytes = value; break;
        case DT_HASH: dynamic.hash = value; break;
        case DT_GNU_HASH: dynamic.gnu_hash = value; break;
        case DT_RELA: dynamic.relocations = value; break;
        case DT_RELASZ: dynamic.relocations_bytes = value; break;
        default: break;
        }
    }
    return dynamic;
}

/* The number of dynamic symbols stands in neither table header: DT_HASH has it as its chain count; with DT_GNU_HASH
 * the end of the last chain gives it. 0: unknown. */
static uint32_t symbol_count(const gs_image_t *image, const dynamic_t *dynamic) {
    if (dynamic->hash) {
        uintptr_t address = image->base + dynamic->hash;
        return holds_table(image, address, 8, 4) ? ((const uint32_t *)address)[1] : 0;
    }
    uintptr_t address = image->base + dynamic->gnu_hash;
    if (!dynamic->gnu_hash || !holds_table(image, address, 16, 4)) return 0;
    const uint32_t *table = (const uint32_t *)address;
    uint32_t bucket_count = table[0], first = table[1], bloom_words = table[2];
    uint64_t head = 16 + 8ull * bloom_words;
    if (!gs_image_holds(image, address, head + 4ull * bucket_count)) return 0;
    const uint32_t *buckets = (const uint32_t *)(address + head), *chains = buckets + bucket_count;
    uint32_t last = 0;
    for (uint32_t i = 0; i < bucket_count; i++) {
        if (buckets[i] > last) last = buckets[i];
    }
    if (last < first) return first;
    while (gs_image_holds(image, (uintptr_t)(chains + (last - first)), 4)) {
        if (chains[last++ - first] & 1) return last;
    }
    return 0;
}

static gs_load_error_t read_symbols(const loader_t *loader, const dynamic_t *dynamic) {
    gs_image_t *image = loader->image;
    uint32_t count = symbol_count(image, dynamic);
    uintptr_t table = image->base + dynamic->symbols, strings = image->base + dynamic->strings;
    if (count == 0) return GS_LOAD_OK;
    if (!holds_table(image, table, (uint64_t)count * sizeof(Elf64_Sym), 8) ||
        !gs_image_holds(image, strings, dynamic->strings_bytes) || dynamic->strings_bytes == 0 ||
        ((const char *)strings)[dynamic->strings_bytes - 1] != '\0') {
        return invalid(loader, "its symbol table lies outside of the segments");
    }
    image->symbols = calloc(count, sizeof *image->symbols);
    if (!image->symbols) return GS_LOAD_NO_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        const Elf64_Sym *symbol = (const Elf64_Sym *)table + i;
        uintptr_t address = image->base + symbol->st_value;
        if (symbol->st_shndx == SHN_UNDEF || symbol->st_name >= dynamic->strings_bytes) continue;
        if (!gs_image_holds(image, address, symbol->st_size)) continue;
        bool is_object = ELF64_ST_TYPE(symbol->st_info) == STT_OBJECT;
        image->symbols[image->symbol_count++] = (gs_symbol_t){(const char *)strings + symbol->st_name, address,
                                                              symbol->st_size, is_object};
    }
    return GS_LOAD_OK;
}

static gs_load_error_t relocate(const loader_t *loader, const dynamic_t *dynamic) {
    const gs_image_t *image = loader->image;
    uintptr_t table = image->base + dynamic->relocations;
    if (!dynamic->relocations) return GS_LOAD_OK;
    if (!holds_table(image, table, dynamic->relocations_bytes, 8)) {
        return invalid(loader, "its relocations lie outside of the segments");
    }
    for (uint64_t i = 0; i < dynamic->relocations_bytes / sizeof(Elf64_Rela); i++) {
        const Elf64_Rela *relocation = (const Elf64_Rela *)table + i;
        uint32_t type = ELF64_R_TYPE(relocation->r_info), index = ELF64_R_SYM(relocation->r_info);
        bool wide = type == RELOCATION_ABS64 || type == RELOCATION_RELATIVE64;
        uintptr_t place = image->base + relocation->r_offset;
        if (!gs_image_holds(image, place, wide ? 8 : 4)) return invalid(loader, "a relocation outside of the segments");
        uint64_t value = image->base + (uint64_t)relocation->r_addend;
        if (type != RELOCATION_RELATIVE64) {
            const Elf64_Sym *symbol = (const Elf64_Sym *)(image->base + dynamic->symbols) + index;
            if (index >= symbol_count(image, dynamic) || !holds_table(image, (uintptr_t)symbol, sizeof *symbol, 8) ||
                symbol->st_shndx == SHN_UNDEF) {
                return invalid(loader, "a relocation against an undefined symbol");
            }
            value += symbol->st_value;
        }
        uint32_t low = (uint32_t)value, high = (uint32_t)(value >> 32);
        switch (type) {
        case RELOCATION_RELATIVE64:
        case RELOCATION_ABS64: memcpy((void *)place, &value, 8); break;
        case RELOCATION_ABS32_LOW:
        case RELOCATION_ABS32: memcpy((void *)place, &low, 4); break;
        case RELOCATION_ABS32_HIGH: memcpy((void *)place, &high, 4); break;
        default: return invalid(loader, "a relocation of an unknown type");
        }
    }
    return GS_LOAD_OK;
}

/* ---- all of it -------------------------------------------------------------------------------------------------- */

static gs_load_error_t load(const loader_t *loader) {
    Elf64_Ehdr header;
    if (loader->bytes < sizeof header) return invalid(loader, "too short");
    memcpy(&header, loader->file, sizeof header);
    gs_load_error_t error = check_header(loader, &header);
    if (error == GS_LOAD_OK) error = load_segments(loader, &header);
    for (int i = 0; i < header.e_phnum && error == GS_LOAD_OK; i++) {
        Elf64_Phdr program = program_header(loader, &header, i);
        if (program.p_type == PT_NOTE) find_metadata(loader, &program);
        if (program.p_type == PT_GNU_RELRO) protect(loader, &program);
        if (program.p_type != PT_DYNAMIC) continue;
        dynamic_t dynamic = read_dynamic(loader, &program);
        error = read_symbols(loader, &dynamic);
        if (error == GS_LOAD_OK) error = relocate(loader, &dynamic);
    }
    if (error == GS_LOAD_OK && !loader->image->metadata) error = invalid(loader, "no AMDGPU metadata note");
    return error;
}

gs_load_error_t gs_image_load(const void *file, size_t bytes, gs_image_t *image, char *message, size_t size) {
    memset(image, 0, sizeof *image);
    loader_t loader = {file, bytes, image, message, size};
    gs_load_error_t error = load(&loader);
    if (error != GS_LOAD_OK) gs_image_unload(image);
    return error;
}

void gs_image_unload(gs_image_t *image) {
    gs_mapping_destroy(&image->mapping);
    free(image->symbols);
    image->symbols = NULL;
    image->symbol_count = image->segment_count = 0;
}
