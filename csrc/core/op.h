/* An op as the Python boundary sees it: its parameters as rows, and the steps of a call. Each op fills one ac_op_t in
 * its folder; module/call.c turns arguments into the op's own struct by the rows, and runs the steps. */
#ifndef AC_CORE_OP_H
#define AC_CORE_OP_H

#include <stddef.h>

#include "error.h"
#include "kernel.h"
#include "plan_kind.h"
#include "view.h"

/* What a parameter takes in Python, and what its field in the args struct is. */
typedef enum ac_param_kind_t {
    AC_KIND_TENSOR,  /* ac_view_t *; NULL: None */
    AC_KIND_TENSORS, /* ac_tensors_arg_t: a tensor, or a list or tuple of tensors */
    AC_KIND_INT,     /* int64_t; AC_NO_INT: None */
    AC_KIND_FLOAT,   /* double; NAN: None */
    AC_KIND_BOOL,    /* int */
    AC_KIND_DTYPE,   /* ac_dtype_t: a name or a dtype object; AC_DTYPE_NONE: None. With `choices` an int that may also
                        be AC_DTYPE_CHOICE + the place of a name in them */
    AC_KIND_CHOICE,  /* int: the place of a name in `choices`; -1: None */
    AC_KIND_DEVICE,  /* ac_device_t */
    AC_KIND_SCALE,   /* ac_scale_arg_t: None, a number, or a one-element tensor */
    AC_KIND_GROUP,   /* an ac_view_t * for each name in `choices`, from the field on: a tuple of tensors or None, or
                        None for all of them */
    /* Without a field. */
    AC_KIND_PLAN,    /* a plan of the op's kind, or None. From here on: no field */
    AC_KIND_STREAM,  /* the handle of a stream, or None: the current one of the first tensor's framework */
    AC_KIND_IGNORED, /* accepted, without effect */
} ac_param_kind_t;

#define AC_NO_INT INT64_MIN
#define AC_DTYPE_CHOICE (AC_DTYPE_COUNT + 1)

typedef enum ac_param_flags_t {
    AC_OPTIONAL = 1 << 0,  /* may be None */
    AC_OUTPUT = 1 << 1,    /* a tensor that the op writes: a read-only one is refused */
    AC_WORKSPACE = 1 << 2, /* with AC_OUTPUT | AC_OPTIONAL: taken from the caller's framework when the plan needs it and
                              None was passed; part of what the call returns */
    AC_FINITE = 1 << 3,    /* a float, or the number of a scale, that has to be a finite float32 */
    AC_SCRATCH = 1 << 4,   /* with AC_WORKSPACE: no user sees it. It may come as an Array over the framework's memory,
                              which takes less than the framework's own object */
} ac_param_flags_t;

typedef struct ac_param_t {
    const char *name;         /* of the parameter, and of the field; "*": what follows is keyword-only */
    const char *default_text; /* "=1"; "": required */
    ac_param_kind_t kind;
    unsigned flags;
    size_t offset;              /* of the field */
    const char *const *choices; /* names, ended by NULL */
} ac_param_t;

typedef struct ac_scale_arg_t {
    ac_view_t *view; /* or NULL */
    double value;    /* 1 when nothing was passed */
} ac_scale_arg_t;

#define AC_MAX_SEQUENCE 16
typedef struct ac_tensors_arg_t {
    int count;        /* 0: None */
    bool is_sequence; /* else views[0] was passed as itself */
    ac_view_t *views[AC_MAX_SEQUENCE];
} ac_tensors_arg_t;

/* A tensor that the op needs for this plan. */
typedef struct ac_workspace_t {
    bool needed;
    ac_dtype_t dtype;
    int ndim;
    int64_t shape[AC_MAX_NDIM];
} ac_workspace_t;
#define AC_MAX_WORKSPACES 4

typedef enum ac_returns_t {
    AC_RETURNS_NONE,
    AC_RETURNS_PLAN,       /* the plan */
    AC_RETURNS_STAGE,      /* (plan or None, stream, workspaces in their order) */
    AC_RETURNS_WORKSPACES, /* (workspaces in their order) */
    AC_RETURNS_INT,        /* the int64_t that the args struct begins with */
} ac_returns_t;

typedef struct ac_op_t {
    const char *name;      /* of the function in aiter_c._C */
    const char *user_name; /* by which users know the op: it heads every error text */
    const char *doc;       /* begins with the text signature */
    const ac_param_t *params;
    int param_count;
    size_t args_bytes;
    ac_returns_t returns;
    const ac_plan_kind_t *plan_kind; /* or NULL */
    /* The steps, in this order; each may be NULL. `plan`: what the caller passed, or NULL. Nothing is written before
     * `run`, which may run without the interpreter's lock. */
    int (*check)(void *args, const void *plan, ac_error_t *error);
    int (*make_plan)(const void *args, void *out_plan, ac_error_t *error);
    int (*workspaces)(const void *args, const void *plan, ac_workspace_t *out_workspaces, ac_error_t *error);
    int (*run)(void *args, const void *plan, intptr_t stream, ac_error_t *error);
} ac_op_t;

/* Every op: the lines OP(...) of ops/ops.inc. */
extern const ac_op_t *const ac_ops[];
extern const int ac_op_count;

#define AC_MAX_PARAMS 48  /* of an op */
#define AC_MAX_NAME 48    /* characters of an argument's name, such as "values[12]" */
#define AC_MAX_TENSORS 40 /* of a call */
#define AC_MAX_ARGS_BYTES 1280

#endif
