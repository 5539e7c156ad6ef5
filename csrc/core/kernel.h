/* Kernels as rows. An op describes its kernels by columns of its own (dtypes, formats, limits); this file knows how to
 * choose among rows, and what launchers and listings need of any of them. The rows stand in
 * ops/<op>/kernels.inc. */
#ifndef AC_CORE_KERNEL_H
#define AC_CORE_KERNEL_H

#include <stdint.h>

#include "arch.h"
#include "error.h"

#define AC_MAX_KEYS 8
#define AC_MAX_KERNELS 1024 /* of all ops together */
#define AC_ANY_KEY (-1)     /* of a request: this column does not matter */

/* How a number of a request meets the number in a row. */
typedef enum ac_match_t {
    AC_ONE_OF,      /* the row holds a set: bit n stands for the number n */
    AC_AT_MOST,     /* the row holds a limit */
    AC_MULTIPLE_OF, /* the row holds a divisor */
    AC_FACT,        /* no limit: what the kernel does, for whoever lists it */
} ac_match_t;

typedef struct ac_column_t {
    const char *name; /* "q_dtype" */
    ac_match_t match;
    const char *(*text)(int64_t number); /* the name of a number; NULL: it is a number */
} ac_column_t;

/* What a kernel can do beyond its columns. A request names what it needs; a launch names what it is to write. */
typedef enum ac_feature_t {
    AC_WRITES_FINAL = 1 << 0,    /* final rows */
    AC_WRITES_PARTIALS = 1 << 1, /* rows of a split, to be merged */
    AC_WRITES_LSE = 1 << 2,
    AC_WORK_LIST = 1 << 3,    /* takes its work items from a list */
    AC_SECOND_CACHE = 1 << 4, /* one softmax over two caches */
    AC_SINK = 1 << 5,         /* a sink in the denominator */
    AC_ONE_ITEM = 1 << 6,     /* of a list; each workgroup, which otherwise does all items of a worker */
    AC_TAKES_TURNS = 1 << 7,  /* any number of workgroups does all work items */
    AC_STARTS_EARLY =
        1 << 8, /* may start while the kernel before it in the stream runs, and waits for its end itself */
    AC_FEATURE_END = 1 << 9
} ac_feature_t;
const char *ac_feature_name(unsigned feature);

typedef struct ac_kernel_t ac_kernel_t;

/* The kernels of one code object: what they are told apart by, and one row each. */
typedef struct ac_kernel_family_t {
    const char *name;
    const ac_column_t *columns;
    const ac_kernel_t *kernels;
    int column_count, kernel_count;
} ac_kernel_family_t;

/* One work item on the CPU; `local` is kernel->local_bytes of scratch of the running thread, 64-byte aligned, contents
 * undefined. */
typedef void (*ac_cpu_kernel_t)(const void *params, int64_t item, void *local);

struct ac_kernel_t {
    const char *name; /* unique within an arch; the symbol in the code object */
    const ac_kernel_family_t *family;
    ac_arch_t arch;
    int tile_rows;             /* rows that one work item serves */
    int threads;               /* of a workgroup; 1 on the CPU */
    int local_bytes;           /* scratch of one running work item: LDS on a GPU, an arena per thread on the CPU */
    const char *object;        /* the code object hsa/<arch>/<object> that holds the symbol; NULL on the CPU */
    ac_cpu_kernel_t run;       /* NULL on a GPU, and where this build lacks the instruction set */
    unsigned features;         /* of ac_feature_t */
    int64_t keys[AC_MAX_KEYS]; /* the family's columns */
};

/* Every family: the lines KERNELS(...) of ops/ops.inc. */
extern const ac_kernel_family_t *const ac_kernel_families[];
extern const int ac_kernel_family_count;
/* Row number `number` of all families in their order, or NULL past the last; and back. */
const ac_kernel_t *ac_kernel(int number);
int ac_kernel_number(const ac_kernel_t *kernel);

typedef struct ac_kernel_request_t {
    const char *op; /* of the error's text */
    const ac_kernel_family_t *family;
    int64_t keys[AC_MAX_KEYS]; /* a number per column, or AC_ANY_KEY */
    unsigned features;         /* needed */
    int64_t rows;              /* that the work items of one request have to cover */
} ac_kernel_request_t;

/* The kernel that covers the rows with the fewest tiles; of several the one with the smallest tile, then the first row.
 * NULL with an error that names the nearest kernel and the first column in which it differs. */
const ac_kernel_t *ac_choose_kernel(const ac_kernel_request_t *request, ac_arch_t arch, ac_error_t *error);

/* Tiles of the kernel that cover so many rows. */
static inline int64_t ac_kernel_tiles(const ac_kernel_t *kernel, int64_t rows) {
    return (rows + kernel->tile_rows - 1) / kernel->tile_rows;
}

#endif
