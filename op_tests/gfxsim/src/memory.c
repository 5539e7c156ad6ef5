#include "memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    GUARD_BYTES = 64 << 10,
    ALIGNMENT = 256, /* what hipMalloc promises */
    CANARY = 0xc9,
    MAX_GRAVES = 512,    /* freed allocations that keep their addresses */
    FILL_LIMIT = 1 << 28 /* larger allocations start as zero pages: filling would make them resident */
};

/* A registered buffer; allocations also own a mapping. gs_memory_find hands out the address of `buffer`. */
typedef struct entry_t {
    gs_buffer_t buffer;
    gs_mapping_t mapping; /* base NULL: a range of someone else's mapping */
    uintptr_t canary_low, canary_high;
    bool visible; /* atomic: the host may touch the bytes */
} entry_t;

static entry_t **entries; /* sorted by buffer.low */
static int entry_count, entry_capacity;
static entry_t *graves[MAX_GRAVES];
static int next_grave;

static size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

bool gs_mapping_create(gs_mapping_t *mapping, size_t body_bytes) {
    size_t page = 4096;
    if (body_bytes > SIZE_MAX / 4) return false;
    mapping->body_bytes = round_up(body_bytes ? body_bytes : 1, page);
    mapping->bytes = mapping->body_bytes + 2 * GUARD_BYTES;
    void *base = mmap(NULL, mapping->bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return false;
    mapping->base = base;
    mapping->body = mapping->base + GUARD_BYTES;
    if (mprotect(mapping->body, mapping->body_bytes, PROT_READ | PROT_WRITE) != 0) {
        gs_mapping_destroy(mapping);
        return false;
    }
    return true;
}

void gs_mapping_destroy(gs_mapping_t *mapping) {
    if (mapping->base) munmap(mapping->base, mapping->bytes);
    mapping->base = NULL;
}

/* ---- the registry ----------------------------------------------------------------------------------------------- */

/* Index of the last entry whose low is at or below `address`, or -1. */
static int last_at_or_below(uintptr_t address) {
    int first = 0, end = entry_count;
    while (first < end) {
        int middle = first + (end - first) / 2;
        if (entries[middle]->buffer.low <= address) {
            first = middle + 1;
        } else {
            end = middle;
        }
    }
    return first - 1;
}

static bool insert(entry_t *entry) {
    if (entry_count == entry_capacity) {
        int capacity = entry_capacity ? 2 * entry_capacity : 64;
        entry_t **grown = realloc(entries, (size_t)capacity * sizeof *grown);
        if (!grown) return false;
        entries = grown;
        entry_capacity = capacity;
    }
    int index = last_at_or_below(entry->buffer.low) + 1;
    memmove(entries + index + 1, entries + index, (size_t)(entry_count - index) * sizeof *entries);
    entries[index] = entry;
    entry_count++;
    return true;
}

static void take_out(const entry_t *entry) {
    int index = last_at_or_below(entry->buffer.low);
    while (index >= 0 && entries[index] != entry) index--;
    if (index < 0) return;
    entry_count--;
    memmove(entries + index, entries + index + 1, (size_t)(entry_count - index) * sizeof *entries);
}

static entry_t *new_entry(const void *low, size_t bytes, bool writable, int device, const char *name) {
    entry_t *entry = calloc(1, sizeof *entry);
    if (!entry) return NULL;
    entry->buffer = (gs_buffer_t){(uintptr_t)low, (uintptr_t)low + bytes, writable, device, ""};
    snprintf(entry->buffer.name, sizeof entry->buffer.name, "%s", name);
    if (!insert(entry)) {
        free(entry);
        return NULL;
    }
    return entry;
}

gs_buffer_t *gs_memory_add(const void *low, size_t bytes, bool writable, int device, const char *name) {
    entry_t *entry = new_entry(low, bytes, writable, device, name);
    return entry ? &entry->buffer : NULL;
}

void gs_memory_remove(gs_buffer_t *buffer) {
    if (!buffer) return;
    entry_t *entry = (entry_t *)buffer;
    take_out(entry);
    gs_mapping_destroy(&entry->mapping);
    free(entry);
}

const gs_buffer_t *gs_memory_find(uintptr_t address) {
    int below = last_at_or_below(address);
    const gs_buffer_t *before = below >= 0 ? &entries[below]->buffer : NULL;
    if (before && address < before->high) {
        gs_memory_show(before, true);
        return before;
    }
    const gs_buffer_t *after = below + 1 < entry_count ? &entries[below + 1]->buffer : NULL;
    if (!before || !after) return before ? before : after;
    if (before->high == before->low && address < ((const entry_t *)before)->canary_high) return before; /* freed */
    return address - before->high <= after->low - address ? before : after;
}

int gs_memory_count(void) { return entry_count; }

gs_buffer_t *gs_memory_at(int index) { return &entries[index]->buffer; }

/* ---- allocations ------------------------------------------------------------------------------------------------ */

static void bury(entry_t *entry) {
    if (graves[next_grave]) gs_memory_remove(&graves[next_grave]->buffer);
    graves[next_grave] = entry;
    next_grave = (next_grave + 1) % MAX_GRAVES;
}

gs_buffer_t *gs_memory_allocate(size_t bytes, bool writable, int device, const char *name, int fill) {
    gs_mapping_t mapping;
    if (!gs_mapping_create(&mapping, round_up(bytes, ALIGNMENT))) return NULL;
    uint8_t *end = mapping.body + mapping.body_bytes;
    uint8_t *start = end - round_up(bytes, ALIGNMENT);
    entry_t *entry = new_entry(start, bytes, writable, device, name);
    if (!entry) {
        gs_mapping_destroy(&mapping);
        return NULL;
    }
    entry->mapping = mapping;
    entry->visible = true;
    entry->canary_low = (uintptr_t)start + bytes;
    entry->canary_high = (uintptr_t)end;
    if (bytes <= FILL_LIMIT && fill) memset(start, fill, bytes);
    memset(start + bytes, CANARY, (size_t)(end - start) - bytes);
    return &entry->buffer;
}

/* Waves of several threads may come here for the same buffer. */
void gs_memory_show(const gs_buffer_t *buffer, bool visible) {
    entry_t *entry = (entry_t *)buffer;
    if (!entry->mapping.base || buffer->high == buffer->low) return;
    if (__atomic_load_n(&entry->visible, __ATOMIC_ACQUIRE) == visible) return;
    mprotect(entry->mapping.body, entry->mapping.body_bytes, visible ? PROT_READ | PROT_WRITE : PROT_NONE);
    __atomic_store_n(&entry->visible, visible, __ATOMIC_RELEASE);
}

void gs_memory_show_device(int device, bool visible) {
    for (int i = 0; i < entry_count; i++) {
        if (entries[i]->buffer.device == device) gs_memory_show(&entries[i]->buffer, visible);
    }
}

bool gs_memory_canary_intact(const gs_buffer_t *buffer) {
    const entry_t *entry = (const entry_t *)buffer;
    for (uintptr_t byte = entry->canary_low; byte < entry->canary_high; byte++) {
        if (*(const uint8_t *)byte != CANARY) return false;
    }
    return true;
}

bool gs_memory_release(gs_buffer_t *buffer) {
    entry_t *entry = (entry_t *)buffer;
    bool intact = gs_memory_canary_intact(buffer);
    char name[sizeof buffer->name];
    snprintf(name, sizeof name, "freed %.33s", buffer->name);
    memcpy(buffer->name, name, sizeof name);
    buffer->high = buffer->low;
    entry->canary_low = entry->canary_high; /* the end stays known for gs_memory_find */
    void *base = mmap(entry->mapping.base, entry->mapping.bytes, PROT_NONE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
    if (base == MAP_FAILED) {
        gs_memory_remove(buffer);
    } else {
        bury(entry);
    }
    return intact;
}

gs_buffer_t *gs_memory_holding(const void *address, size_t bytes) {
    int below = last_at_or_below((uintptr_t)address);
    if (below < 0) return NULL;
    gs_buffer_t *buffer = &entries[below]->buffer;
    uintptr_t start = (uintptr_t)address;
    if (start >= buffer->high || bytes > buffer->high - start) return NULL;
    return buffer;
}

bool gs_memory_is_allocation_start(const gs_buffer_t *buffer, const void *address) {
    const entry_t *entry = (const entry_t *)buffer;
    return entry->mapping.base && buffer->low == (uintptr_t)address;
}
