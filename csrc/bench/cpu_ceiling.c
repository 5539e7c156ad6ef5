/* Reads of a large buffer and multiply-adds in registers, at the best of each instruction set, on the pool's threads.
 * No op needs them. */
#define _POSIX_C_SOURCE 200809L
#include "cpu_ceiling.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "../cpu/cpu.h"

#define BUFFER_BYTES ((int64_t)768 << 20)
#define CHUNK_BYTES ((int64_t)4 << 20)
#define LOOPS 400000 /* of a register loop, per item */
#define CHAINS 12    /* independent accumulators: latency times throughput of the multiply-add units */
#define REPEATS 5    /* the best counts: a ceiling is what the machine can do undisturbed */

typedef struct {
    const char *buffer;
    uint64_t *sums; /* one per item, so that nothing is optimised away */
} work_t;

#define DEFINE_READ(suffix, bytes, attributes)                                                                         \
    typedef uint64_t words_##suffix __attribute__((vector_size(bytes), aligned(8)));                                   \
    attributes static void read_##suffix(const void *params, int64_t item, void *local) {                              \
        const work_t *work = params;                                                                                   \
        const words_##suffix *from = (const void *)(work->buffer + item * CHUNK_BYTES);                                \
        words_##suffix a = {0}, b = {0}, c = {0}, d = {0};                                                             \
        for (int64_t i = 0; i < CHUNK_BYTES / bytes; i += 4)                                                           \
            a += from[i], b += from[i + 1], c += from[i + 2], d += from[i + 3];                                        \
        a += b + c + d;                                                                                                \
        work->sums[item] = a[0] + a[1];                                                                                \
        (void)local;                                                                                                   \
    }

/* CHAINS separate variables: an array would live in memory. */
#define EACH_CHAIN(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
#define DECLARE_CHAIN(j) vector_t sum##j = plus + j;
#define STEP_CHAIN(j) sum##j = MULTIPLY_ADD(sum##j);
#define ADD_CHAIN(j) plus += sum##j;

#define DEFINE_FMA(suffix, lanes, attributes)                                                                          \
    attributes static void fma_##suffix(const void *params, int64_t item, void *local) {                               \
        typedef float vector_t __attribute__((vector_size(4 * lanes)));                                                \
        const work_t *work = params;                                                                                   \
        vector_t by = {0}, plus = {0};                                                                                 \
        by += 0.5f, plus += 1 + (float)item;                                                                           \
        EACH_CHAIN(DECLARE_CHAIN)                                                                                      \
        for (int i = 0; i < LOOPS; i++) {                                                                              \
            EACH_CHAIN(STEP_CHAIN)                                                                                     \
        }                                                                                                              \
        EACH_CHAIN(ADD_CHAIN)                                                                                          \
        memcpy(&work->sums[item], &plus, sizeof(uint64_t));                                                            \
        (void)local;                                                                                                   \
    }

DEFINE_READ(portable, 16, )
#define MULTIPLY_ADD(sum) ((sum) * by + plus)
DEFINE_FMA(portable, 4, )
#undef MULTIPLY_ADD

#if defined(__x86_64__)
#include <immintrin.h>
#define AVX2 __attribute__((target("avx2,fma")))
DEFINE_READ(avx2, 32, AVX2)
#define MULTIPLY_ADD(sum) (vector_t)_mm256_fmadd_ps((__m256)sum, (__m256)by, (__m256)plus)
DEFINE_FMA(avx2, 8, AVX2)
#undef MULTIPLY_ADD
#ifndef AC_EMULATE_AVX512
#define AVX512 __attribute__((target("avx512f")))
#define AVX512BF16 __attribute__((target("avx512f,avx512bf16")))
DEFINE_READ(avx512, 64, AVX512)
#define MULTIPLY_ADD(sum) (vector_t)_mm512_fmadd_ps((__m512)sum, (__m512)by, (__m512)plus)
DEFINE_FMA(avx512, 16, AVX512)
#undef MULTIPLY_ADD
#define MULTIPLY_ADD(sum) (vector_t)_mm512_dpbf16_ps((__m512)sum, (__m512bh)(__m512i)by, (__m512bh)(__m512i)plus)
DEFINE_FMA(bf16, 16, AVX512BF16)
#undef MULTIPLY_ADD

#include "../cpu/amx.h"
#define TILE_LOOPS 40000
#define TILE_FLOP (2.0 * 16 * 16 * 32)

/* Four independent sums, as in the kernels. */
__attribute__((target("amx-tile,amx-bf16"))) static void tiles_amx(const void *params, int64_t item, void *local) {
    const work_t *work = params;
    uint32_t words[AC_TILE_ROWS * AC_TILE_WORDS];
    for (int i = 0; i < AC_TILE_ROWS * AC_TILE_WORDS; i++) words[i] = 0x3f003f00; /* 0.5, twice */
    ac_tile_config_t config = {.palette = 1};
    for (int i = 0; i < 8; i++) config.rows[i] = AC_TILE_ROWS, config.row_bytes[i] = 4 * AC_TILE_WORDS;
    AC_TILE_CONFIGURE(&config);
    AC_TILE_ZERO(0);
    AC_TILE_ZERO(1);
    AC_TILE_ZERO(2);
    AC_TILE_ZERO(3);
    AC_TILE_LOAD(4, words, 64);
    AC_TILE_LOAD(5, words, 64);
    for (int i = 0; i < TILE_LOOPS; i++) {
        AC_TILE_DOT(0, 4, 5);
        AC_TILE_DOT(1, 4, 5);
        AC_TILE_DOT(2, 4, 5);
        AC_TILE_DOT(3, 4, 5);
    }
    AC_TILE_STORE(3, words, 64);
    AC_TILE_RELEASE();
    work->sums[item] = words[0];
    (void)local;
}
#endif
#endif

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int best_seconds(ac_cpu_kernel_t kernel, const work_t *work, int64_t items, double *out_seconds,
                        ac_error_t *error) {
    *out_seconds = 1e30;
    for (int i = 0; i < REPEATS; i++) {
        double start = now();
        if (ac_cpu_run(kernel, 0, work, items, error) < 0) return -1;
        double seconds = now() - start;
        if (seconds < *out_seconds) *out_seconds = seconds;
    }
    return 0;
}

int ac_cpu_measure_ceilings(ac_cpu_ceilings_t *out_ceilings, ac_error_t *error) {
    ac_cpu_kernel_t read = read_portable, fma = fma_portable, dot = NULL;
    int lanes = 4, failed = -1;
    const int64_t chunks = BUFFER_BYTES / CHUNK_BYTES, items = (int64_t)ac_cpu_num_threads(true) * 16;
    double seconds;
#if defined(__x86_64__)
    if (ac_cpu_arch() == AC_CPU_AVX2) read = read_avx2, fma = fma_avx2, lanes = 8;
#ifndef AC_EMULATE_AVX512
    if (ac_cpu_arch() >= AC_CPU_AVX512) read = read_avx512, fma = fma_avx512, lanes = 16;
    if (ac_cpu_arch() >= AC_CPU_AVX512 && ac_cpu_has_arch(AC_CPU_AVX512BF16)) dot = fma_bf16;
#endif
#endif
    char *buffer = malloc((size_t)BUFFER_BYTES);
    uint64_t *sums = malloc((size_t)(chunks > items ? chunks : items) * sizeof *sums);
    work_t work = {buffer, sums};
    if (!buffer || !sums) {
        ac_fail(error, AC_ERROR_MEMORY, "cpu_ceilings: no memory for a buffer of %d MiB", (int)(BUFFER_BYTES >> 20));
        goto done;
    }
    memset(buffer, 1, (size_t)BUFFER_BYTES);
    *out_ceilings = (ac_cpu_ceilings_t){0};
    if (best_seconds(read, &work, chunks, &seconds, error) < 0) goto done;
    out_ceilings->read_bytes_per_s = (double)BUFFER_BYTES / seconds;
    if (best_seconds(fma, &work, items, &seconds, error) < 0) goto done;
    out_ceilings->f32_flop_per_s = (double)items * LOOPS * CHAINS * 2 * lanes / seconds;
    if (dot) {
        if (best_seconds(dot, &work, items, &seconds, error) < 0) goto done;
        out_ceilings->bf16_flop_per_s = (double)items * LOOPS * CHAINS * 4 * lanes / seconds;
    }
#if defined(__x86_64__) && !defined(AC_EMULATE_AVX512)
    if (ac_cpu_arch() == AC_CPU_AMX) {
        if (best_seconds(tiles_amx, &work, items, &seconds, error) < 0) goto done;
        out_ceilings->amx_flop_per_s = (double)items * TILE_LOOPS * 4 * TILE_FLOP / seconds;
    }
#endif
    failed = 0;
done:
    free(buffer);
    free(sums);
    return failed;
}
