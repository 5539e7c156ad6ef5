/* The element types, in one table: name, size, DLPack code. The kernels serve a few of them; the others are
 * here so that an error can name what it got. The 8-bit flavour (fn or fnuz) is part of the dtype: it belongs
 * to the tensor, never to the chip. */
#ifndef AC_CORE_DTYPE_H
#define AC_CORE_DTYPE_H

#include <stdbool.h>
#include <stdint.h>

/*         id           name               bytes DLPack code, bits */
#define AC_DTYPES(X)                                                                                                   \
    X(AC_BFLOAT16, "bfloat16", 2, 4, 16)                                                                               \
    X(AC_FLOAT16, "float16", 2, 2, 16)                                                                                 \
    X(AC_FLOAT32, "float32", 4, 2, 32)                                                                                 \
    X(AC_FLOAT8_E4M3FN, "float8_e4m3fn", 1, 10, 8)                                                                     \
    X(AC_FLOAT8_E4M3FNUZ, "float8_e4m3fnuz", 1, 11, 8)                                                                 \
    X(AC_UINT8, "uint8", 1, 1, 8)                                                                                      \
    X(AC_INT32, "int32", 4, 0, 32)                                                                                     \
    X(AC_INT64, "int64", 8, 0, 64)                                                                                     \
    X(AC_FLOAT64, "float64", 8, 2, 64)                                                                                 \
    X(AC_INT8, "int8", 1, 0, 8)                                                                                        \
    X(AC_INT16, "int16", 2, 0, 16)                                                                                     \
    X(AC_UINT16, "uint16", 2, 1, 16)                                                                                   \
    X(AC_UINT32, "uint32", 4, 1, 32)                                                                                   \
    X(AC_UINT64, "uint64", 8, 1, 64)                                                                                   \
    X(AC_BOOL, "bool", 1, 6, 8)                                                                                        \
    X(AC_COMPLEX64, "complex64", 8, 5, 64)                                                                             \
    X(AC_COMPLEX128, "complex128", 16, 5, 128)                                                                         \
    X(AC_FLOAT8_E5M2, "float8_e5m2", 1, 12, 8)                                                                         \
    X(AC_FLOAT8_E5M2FNUZ, "float8_e5m2fnuz", 1, 13, 8)                                                                 \
    X(AC_FLOAT8_E8M0FNU, "float8_e8m0fnu", 1, 14, 8)

typedef enum ac_dtype_t {
#define AC_DTYPE_ID(id, name, bytes, code, bits) id,
    AC_DTYPES(AC_DTYPE_ID)
#undef AC_DTYPE_ID
        AC_DTYPE_COUNT,
    AC_DTYPE_NONE = AC_DTYPE_COUNT /* no dtype, or one outside the table */
} ac_dtype_t;

/* Sets of dtypes: the columns of the kernel table. */
typedef uint32_t ac_dtype_set_t;
#define AC_SET(dtype) ((ac_dtype_set_t)1 << (dtype))
#define AC_FP8 (AC_SET(AC_FLOAT8_E4M3FN) | AC_SET(AC_FLOAT8_E4M3FNUZ))
#define AC_HALF (AC_SET(AC_BFLOAT16) | AC_SET(AC_FLOAT16))

const char *ac_dtype_name(ac_dtype_t dtype); /* "?" for AC_DTYPE_NONE */
int ac_dtype_bytes(ac_dtype_t dtype);        /* 0 for AC_DTYPE_NONE */
ac_dtype_t ac_dtype_from_name(const char *name);
ac_dtype_t ac_dtype_from_dlpack(int code, int bits, int lanes);
void ac_dtype_to_dlpack(ac_dtype_t dtype, int *out_code, int *out_bits);

static inline bool ac_dtype_in(ac_dtype_t dtype, ac_dtype_set_t set) {
    return dtype < AC_DTYPE_COUNT && (set >> dtype & 1);
}

/* "bfloat16, float16 or float32"; returns text. */
const char *ac_dtype_set_text(ac_dtype_set_t set, char *text, int size);

#endif
