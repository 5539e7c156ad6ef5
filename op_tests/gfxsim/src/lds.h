/* Access to LDS with its checks: bounds, alignment, races between waves, bytes that a direct load still writes. */
#ifndef GFXSIM_LDS_H
#define GFXSIM_LDS_H

#include "wave.h"

typedef enum gs_lds_access_t { GS_LDS_READ, GS_LDS_WRITE, GS_LDS_ATOMIC } gs_lds_access_t;

/* Of the addresses of some lanes: the lowest, the highest, and the bits that are set in any. */
typedef struct gs_extent_t {
    uint32_t low, high, bits;
} gs_extent_t;

/* Whether it touches one of the bytes. */
static inline bool gs_lds_use_touches(const gs_lds_use_t *use, uint32_t address, uint32_t size) {
    bool touches = false;
    for (int lane = 0; lane < GS_LANES; lane++) {
        bool apart = use->address[lane] >= address + size || address >= use->address[lane] + use->size;
        touches |= (use->lanes >> lane & 1) && !apart;
    }
    return touches;
}

/* Checks and records an access of `size` bytes at address[lane] by each of `lanes`. False: some byte there is
 * undefined. The bytes of a write count as defined from here on. */
bool gs_lds_access(gs_wave_t *wave, const uint32_t address[GS_LANES], uint64_t lanes, uint32_t size, uint32_t alignment,
                   gs_lds_access_t access);

/* The same for one lane; the bytes. */
uint8_t *gs_lds_lane(gs_wave_t *wave, uint32_t address, uint32_t size, gs_lds_access_t access, int lane);

/* The undefined bits of up to 4 bytes at `address`, and their change. */
uint32_t gs_lds_undefined(const gs_wave_t *wave, uint32_t address, uint32_t size);
void gs_lds_set_undefined(gs_wave_t *wave, uint32_t address, uint32_t size, uint32_t bits);

/* A load from memory to LDS begins, after its gs_lds_access: its bytes are not to be touched by any wave; and ends. */
void gs_lds_announce(gs_wave_t *wave, const gs_direct_load_t *load);
void gs_lds_land(gs_wave_t *wave, const gs_direct_load_t *load);

#endif
