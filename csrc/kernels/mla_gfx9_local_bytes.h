/* The local memory that the kernel table gives each kernel: a kernel that uses more, or less, does not compile. */
#ifndef AC_KERNELS_MLA_GFX9_LOCAL_BYTES_H
#define AC_KERNELS_MLA_GFX9_LOCAL_BYTES_H

typedef struct local_bytes_t {
    const char *kernel;
    int bytes;
} local_bytes_t;

#if defined(__gfx950__)
#define LOCAL_BYTES_AC_GFX942(name, bytes)
#define LOCAL_BYTES_AC_GFX950(name, bytes) {name, bytes},
#else
#define LOCAL_BYTES_AC_GFX942(name, bytes) {name, bytes},
#define LOCAL_BYTES_AC_GFX950(name, bytes)
#endif
#define KERNEL(id, name, op, arch, q, kv, o, formats, heads, min_heads, pages, rows, output, partials, lse, p, bytes, \
               threads, object)                                                                                       \
    LOCAL_BYTES_##arch(name, bytes)
static constexpr local_bytes_t LOCAL_BYTES[] = {
#include "../core/kernel_table_gfx9.inc"
};
#undef KERNEL

constexpr bool is_same_text(const char *a, const char *b) {
    for (; *a && *a == *b; a++, b++) {
    }
    return *a == *b;
}

/* 0: the table has no such kernel. */
constexpr int local_bytes_of(const char *kernel) {
    for (const local_bytes_t &row : LOCAL_BYTES)
        if (is_same_text(row.kernel, kernel)) return row.bytes;
    return 0;
}

#define CHECK_LOCAL_BYTES(kernel, used) \
    static_assert((used) == local_bytes_of(kernel), "the kernel table has another number of local bytes")

#endif
