/* Device memory: guarded mappings and the registry of buffers behind gs_memory_find. The caller holds the lock of
 * state.h, except for gs_memory_find. */
#ifndef GFXSIM_MEMORY_H
#define GFXSIM_MEMORY_H

#include "machine.h"

/* A mapping of its own with pages that nobody may touch on both sides. */
typedef struct gs_mapping_t {
    uint8_t *base, *body;
    size_t bytes, body_bytes;
} gs_mapping_t;

bool gs_mapping_create(gs_mapping_t *mapping, size_t body_bytes);
void gs_mapping_destroy(gs_mapping_t *mapping);

/* Puts a range of bytes into the registry; NULL when memory is short. */
gs_buffer_t *gs_memory_add(const void *low, size_t bytes, bool writable, int device, const char *name);
void gs_memory_remove(gs_buffer_t *buffer);

/* Allocations: mapped, filled with `fill` and registered. The data starts at a multiple of 256 and ends as close to the
 * guard as that allows; the bytes between hold canaries. NULL when memory is short. */
gs_buffer_t *gs_memory_allocate(size_t bytes, bool writable, int device, const char *name, int fill);

/* Frees and keeps the address range, so that a later use is recognised. False: bytes past the end were changed. */
bool gs_memory_release(gs_buffer_t *buffer);

/* The live allocation that holds [address, address + bytes), or NULL. */
gs_buffer_t *gs_memory_holding(const void *address, size_t bytes);

/* Whether the host may touch the bytes of an allocation, or of all those of a device. gs_memory_find makes what it
 * finds visible. */
void gs_memory_show(const gs_buffer_t *buffer, bool visible);
void gs_memory_show_device(int device, bool visible);

bool gs_memory_is_allocation_start(const gs_buffer_t *buffer, const void *address);
bool gs_memory_canary_intact(const gs_buffer_t *buffer);

/* Over all live buffers, in the order of their addresses. */
int gs_memory_count(void);
gs_buffer_t *gs_memory_at(int index);

#endif
