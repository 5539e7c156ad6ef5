/* The float environment that every op computes in: round to nearest, subnormals kept, no traps. A caller may have set
 * another one, and threads differ in it; results must not.
 *
 *     ac_float_env_t saved = ac_float_env_enter();
 *     status = op(...);
 *     ac_float_env_leave(&saved);
 *
 * The work must be a call that the compiler cannot inline (another file, a function pointer): it may move arithmetic of
 * the same function across entering and leaving.
 * Leaving restores all that the caller had, the sticky exception flags included. */
#ifndef AC_CORE_FLOAT_ENV_H
#define AC_CORE_FLOAT_ENV_H

#include <stdint.h>

#if defined(__x86_64__)
#include <xmmintrin.h>

/* The x87 unit has its own control word, which is left alone: on x86-64 only long double uses it. */
typedef struct ac_float_env_t {
    uint32_t mxcsr;
} ac_float_env_t;

static inline ac_float_env_t ac_float_env_enter(void) {
    const uint32_t flags = 0x3f, at_start = 0x1f80; /* the sticky flags; MXCSR of a new process: all traps masked */
    ac_float_env_t saved = {_mm_getcsr()};
    if ((saved.mxcsr & ~flags) != at_start) _mm_setcsr(at_start);
    return saved;
}

static inline void ac_float_env_leave(const ac_float_env_t *saved) { _mm_setcsr(saved->mxcsr); }

#elif defined(__aarch64__)

typedef struct ac_float_env_t {
    uint64_t fpcr, fpsr; /* control; sticky flags */
} ac_float_env_t;

static inline ac_float_env_t ac_float_env_enter(void) {
    ac_float_env_t saved;
    __asm__ volatile("mrs %0, fpcr\n\tmrs %1, fpsr" : "=r"(saved.fpcr), "=r"(saved.fpsr) : : "memory");
    if (saved.fpcr != 0) __asm__ volatile("msr fpcr, %0" : : "r"(UINT64_C(0)) : "memory");
    return saved;
}

static inline void ac_float_env_leave(const ac_float_env_t *saved) {
    __asm__ volatile("msr fpcr, %0\n\tmsr fpsr, %1" : : "r"(saved->fpcr), "r"(saved->fpsr) : "memory");
}

#else
#include <fenv.h>

typedef struct ac_float_env_t {
    fenv_t all;
} ac_float_env_t;

static inline ac_float_env_t ac_float_env_enter(void) {
    ac_float_env_t saved;
    fegetenv(&saved.all);
    fesetenv(FE_DFL_ENV);
    return saved;
}

static inline void ac_float_env_leave(const ac_float_env_t *saved) { fesetenv(&saved->all); }

#endif
#endif
