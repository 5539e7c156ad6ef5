/* AMX: eight tiles of 16 rows of 64 bytes, and C += A B on them in bf16. Tile numbers must be literals.
 * In an emulated build the same names, in plain C. */
#ifndef AC_CPU_AMX_H
#define AC_CPU_AMX_H

#include <stdint.h>
#include <string.h>

#define AC_TILE_ROWS 16
#define AC_TILE_WORDS 16 /* of 32 bits, per row */

typedef struct ac_tile_config_t {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} ac_tile_config_t;

#ifdef AC_EMULATE_AVX512
static _Thread_local uint32_t emulated_tiles[8][AC_TILE_ROWS][AC_TILE_WORDS];

static inline void emulated_tile_load(int tile, const void *from, size_t stride) {
    for (int r = 0; r < AC_TILE_ROWS; r++) memcpy(emulated_tiles[tile][r], (const char *)from + r * stride, 64);
}

static inline void emulated_tile_store(int tile, void *to, size_t stride) {
    for (int r = 0; r < AC_TILE_ROWS; r++) memcpy((char *)to + r * stride, emulated_tiles[tile][r], 64);
}

static inline float emulated_bf16(uint32_t bits) {
    float x;
    if ((bits & 0x7f800000) == 0) bits &= 0x80000000; /* subnormals count as zero */
    memcpy(&x, &bits, sizeof x);
    return x;
}

static inline void emulated_tile_dot(int c, int a, int b) {
    for (int r = 0; r < AC_TILE_ROWS; r++)
        for (int k = 0; k < AC_TILE_WORDS; k++)
            for (int n = 0; n < AC_TILE_WORDS; n++) {
                uint32_t x = emulated_tiles[a][r][k], y = emulated_tiles[b][k][n];
                float sum;
                memcpy(&sum, &emulated_tiles[c][r][n], sizeof sum);
                sum += emulated_bf16(x << 16) * emulated_bf16(y << 16);
                sum += emulated_bf16(x & 0xffff0000) * emulated_bf16(y & 0xffff0000);
                memcpy(&emulated_tiles[c][r][n], &sum, sizeof sum);
            }
}

#define AC_TILE_LOAD(tile, from, stride) emulated_tile_load(tile, from, stride)
#define AC_TILE_STORE(tile, to, stride) emulated_tile_store(tile, to, stride)
#define AC_TILE_ZERO(tile) memset(emulated_tiles[tile], 0, sizeof emulated_tiles[tile])
#define AC_TILE_DOT(c, a, b) emulated_tile_dot(c, a, b)
#define AC_TILE_CONFIGURE(config) (void)(config)
#define AC_TILE_RELEASE() (void)0
#else
#include <immintrin.h>
#define AC_TILE_LOAD(tile, from, stride) _tile_loadd(tile, from, stride)
#define AC_TILE_STORE(tile, to, stride) _tile_stored(tile, to, stride)
#define AC_TILE_ZERO(tile) _tile_zero(tile)
#define AC_TILE_DOT(c, a, b) _tile_dpbf16ps(c, a, b)
#define AC_TILE_CONFIGURE(config) _tile_loadconfig(config)
#define AC_TILE_RELEASE() _tile_release()
#endif

/* All eight tiles at their full size; of the calling thread, until AC_TILE_RELEASE. */
static inline void ac_cpu_configure_tiles(void) {
    ac_tile_config_t config = {.palette = 1};
    for (int i = 0; i < 8; i++) config.rows[i] = AC_TILE_ROWS, config.row_bytes[i] = 4 * AC_TILE_WORDS;
    AC_TILE_CONFIGURE(&config);
}

#endif
