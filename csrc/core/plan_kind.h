/* Kinds of plans: what an op decides before it runs, as plain numbers that Python can read, compare, copy, pickle. */
#ifndef AC_CORE_PLAN_KIND_H
#define AC_CORE_PLAN_KIND_H

#include <stddef.h>
#include <stdint.h>

#include "error.h"

#define AC_MAX_PLAN_BYTES 256

/* One readable field of a plan. Those flagged AC_PLAN_INPUT are what a plan is made from: copies and pickles carry
 * them, the rest is computed again. */
typedef enum ac_field_kind_t {
    AC_FIELD_INT32,
    AC_FIELD_INT64,
    AC_FIELD_BOOL, /* int */
    AC_FIELD_DTYPE,
    AC_FIELD_TEXT, /* an int that `text` names */
    AC_FIELD_DEVICE,
    AC_FIELD_KERNEL, /* const ac_kernel_t *, or NULL */
} ac_field_kind_t;

typedef enum ac_field_flags_t {
    AC_PLAN_INPUT = 1 << 0,
    AC_PLAN_SHOWN = 1 << 1,  /* in the repr, unless it has the default value */
    AC_PLAN_HIDDEN = 1 << 2, /* no attribute, and plans that differ in it alone are equal */
} ac_field_flags_t;

#define AC_NO_DEFAULT INT64_MIN /* of a field: shown whatever it is */

typedef struct ac_plan_field_t {
    const char *name;
    ac_field_kind_t kind;
    unsigned flags;
    size_t offset;
    int64_t default_value;
    const char *(*text)(int64_t number); /* AC_FIELD_TEXT, both ways */
    int64_t (*number)(const char *text);
    const char *doc;
} ac_plan_field_t;

/* A kind of plan, and a Python type. A plan is plain numbers without addresses of the caller's memory. */
typedef struct ac_plan_kind_t {
    const char *name; /* "<Kind>Plan" */
    const char *doc;
    size_t bytes;
    const ac_plan_field_t *fields;
    int field_count;
    /* Completes a plan whose AC_PLAN_INPUT fields are set. `op` heads the text of a refusal. */
    int (*complete)(const char *op, void *plan, ac_error_t *error);
    /* Bytes of the workspaces together for `rows` query rows, or -1 for 2**63 and more; and the rows at most. */
    int64_t (*workspace_bytes)(const void *plan, int64_t rows);
    int64_t (*most_rows)(const void *plan);
} ac_plan_kind_t;

/* Every kind: the lines PLAN(...) of ops/ops.inc. */
extern const ac_plan_kind_t *const ac_plan_kinds[];
extern const int ac_plan_kind_count;

#endif
