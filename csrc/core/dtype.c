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

ac_dtype_t ac_dtype_from_dlpack(int code, int bits, int lanes) {
    for (int i = 0; lanes == 1 && i < AC_DTYPE_COUNT; i++)
        if (rows[i].code == code && rows[i].bits == bits) return (ac_dtype_t)i;
    return AC_DTYPE_NONE;
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
