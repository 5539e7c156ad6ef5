/* What an op expects of its tensors, as rows: dtypes, shape, layout, device. A shape is a text of dimensions:
 *     "T H 576"   symbols and numbers; a symbol takes its size where it is seen first, and is that size from then on
 *     "B+1"       a symbol and a constant
 *     "B+1.."     that much or more; what follows it is not read
 *     "T H|T 1 H" either; a refusal shows the one of the tensor's rank, or else the first
 * Memory shared by an output with anything else follows from AC_WRITTEN; nobody lists it. */
#ifndef AC_CORE_RULES_H
#define AC_CORE_RULES_H

#include "check.h"
#include "op.h"

typedef enum ac_rule_flags_t {
    AC_MAY_BE_NONE = 1 << 0,
    AC_DENSE_ROWS = 1 << 1, /* stride 1 in the last dimension */
    AC_CONTIGUOUS = 1 << 2,
    AC_WRITTEN = 1 << 3,     /* its elements apart, its memory its own */
    AC_LEADS = 1 << 4,       /* its device is that of the call */
    AC_HOST_TOO = 1 << 5,    /* on the call's device or on the CPU */
    AC_ONE_ELEMENT = 1 << 6, /* of any rank */
    AC_EACH = 1 << 7,        /* `offset` is of an ac_tensors_arg_t; the row is about each of its tensors */
    AC_IN_PLACE = 1 << 8,    /* with AC_WRITTEN: its memory may be that of an input, element by element; of a row with
                                AC_EACH that is one tensor, of a part along its first dimension */
} ac_rule_flags_t;

typedef struct ac_tensor_rule_t {
    const char *name;
    size_t offset;         /* of the ac_view_t * in the args struct; see AC_EACH */
    ac_dtype_set_t dtypes; /* 0: the op looks at dtype and shape itself */
    const char *shape;     /* NULL: likewise */
    unsigned flags;
} ac_tensor_rule_t;
#define AC_RULE(args_t, field, dtypes, shape, flags) {#field, offsetof(args_t, field), dtypes, shape, flags}

#define AC_MAX_SIZES 20

/* The sizes of a call, each with the argument that it came from. */
typedef struct ac_sizes_t {
    const char *op;
    struct {
        uint64_t symbol; /* see ac_symbol */
        int64_t size;
        const char *origin; /* an argument's name */
    } sizes[AC_MAX_SIZES];
    int count;
    const char *leader; /* the argument whose device is the call's */
    ac_device_t device;
} ac_sizes_t;

void ac_sizes_init(ac_sizes_t *sizes, const char *op);
void ac_size_bind(ac_sizes_t *sizes, const char *symbol, int64_t size, const char *origin);

/* A symbol as the number that its characters, at most 8, make; of a literal the compiler makes it. */
static inline uint64_t ac_symbol(const char *text) {
    uint64_t symbol = 0;
    for (int i = 0; i < 8 && text[i]; i++) symbol = symbol << 8 | (unsigned char)text[i];
    return symbol;
}

/* The place of a symbol, or the number of symbols. */
static inline int ac_size_place(const ac_sizes_t *sizes, uint64_t symbol) {
    int i = 0;
    while (i < sizes->count && sizes->sizes[i].symbol != symbol) i++;
    return i;
}

/* Of a symbol that is bound. */
static inline int64_t ac_size(const ac_sizes_t *sizes, const char *symbol) {
    const int i = ac_size_place(sizes, ac_symbol(symbol));
    return i < sizes->count ? sizes->sizes[i].size : -1;
}

/* One row after the other, in their order. */
int ac_check_tensors(const void *args, const ac_tensor_rule_t *rules, int count, ac_sizes_t *sizes, ac_error_t *error);
/* No output of the rows shares memory with another row's tensor. */
int ac_check_own_memory(const char *op, const void *args, const ac_tensor_rule_t *rules, int count, ac_error_t *error);

#define AC_COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

#endif
