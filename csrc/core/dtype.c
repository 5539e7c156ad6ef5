#include "dtype.h"

#include <stdio.h>
#include <string.h>

typedef struct {
    const char *name;
    int bytes, code, bits;
} dtype_row_t;

static const dtype_row_t rows[AC_DTYPE_COUNT] = {
#define AC_DTYPE_ROW(id, name, bytes, code, bits) [id] = {name, bytes, code, bits},
    AC_DTYPES(AC_DTYPE_ROW)
#undef AC_DTYPE_ROW
};

const char *ac_dtype_name(ac_dtype_t dtype) { return dtype < AC_DTYPE_COUNT ? rows[dtype].name : "?"; }

int ac_dtype_bytes(ac_dtype_t dtype) { return dtype < AC_DTYPE_COUNT ? rows[dtype].bytes : 0; }

ac_dtype_t ac_dtype_from_name(const char *name) {
    for (int i = 0; i < AC_DTYPE_COUNT; i++)
        if (strcmp(rows[i].name, name) == 0) return (ac_dtype_t)i;
    return AC_DTYPE_NONE;
}

#define MOST_CODE 15
#define MOST_BITS 128

/* By DLPack's code and the logarithm of the bits: 1 + the dtype; 0: none. */
static const unsigned char by_code[MOST_CODE + 1][8] = {
#define AC_DTYPE_BY_CODE(id, name, bytes, code, bits) [code][__builtin_ctz(bits)] = id + 1,
    AC_DTYPES(AC_DTYPE_BY_CODE)
#undef AC_DTYPE_BY_CODE
};

ac_dtype_t ac_dtype_from_dlpack(int code, int bits, int lanes) {
    if (lanes != 1 || code < 0 || code > MOST_CODE || bits <= 0 || bits > MOST_BITS || (bits & (bits - 1)))
        return AC_DTYPE_NONE;
    const int found = by_code[code][__builtin_ctz((unsigned)bits)];
    return found ? (ac_dtype_t)(found - 1) : AC_DTYPE_NONE;
}

void ac_dtype_to_dlpack(ac_dtype_t dtype, int *out_code, int *out_bits) {
    *out_code = rows[dtype].code;
    *out_bits = rows[dtype].bits;
}

const char *ac_dtype_set_text(ac_dtype_set_t set, char *text, int size) {
    int used = 0;
    text[0] = 0;
    for (int i = 0; i < AC_DTYPE_COUNT && used < size; i++) {
        if (!ac_dtype_in((ac_dtype_t)i, set)) continue;
        bool last = set >> i == 1;
        const char *join = used == 0 ? "" : last ? " or " : ", ";
        used += snprintf(text + used, (size_t)(size - used), "%s%s", join, rows[i].name);
    }
    return text;
}
