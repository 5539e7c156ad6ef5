#include "plan.h"

#include "argparse.h"
#include "docs.h"

typedef struct {
    PyObject_HEAD
    ac_mla_plan_t plan;
    ac_device_t device;
} plan_t;

/* Everything readable, in the order of the repr: name, kind, place, docstring. Equality, hash and repr go by this. */
#define FIELDS(X)                                                                                                \
    X(batch, INT32, plan.request.batch, "Requests.")                                                             \
    X(num_heads, INT32, plan.request.num_heads, "Query heads.")                                                  \
    X(max_seqlen_q, INT32, plan.request.max_seqlen_q, "Query rows per request at most.")                         \
    X(page_size, INT32, plan.request.page_size, "KV rows per page.")                                             \
    X(q_dtype, DTYPE, plan.request.q_dtype, "Element type of q, by name.")                                       \
    X(kv_dtype, DTYPE, plan.request.kv_dtype, "Element type of the cache, by name.")                             \
    X(kv_format, KV_FORMAT, plan.request.kv_format, "'plain', 'fp8_ds_mla' or '3buffer'.")                       \
    X(kv_lora_rank, INT32, plan.request.kv_lora_rank, "Latent elements of a KV row.")                            \
    X(qk_rope_head_dim, INT32, plan.request.rope_dim, "Rope elements of a KV row.")                              \
    X(num_kv_splits, INT32, plan.num_kv_splits, "Partials per query row: the second dimension of logits.")       \
    X(requested_kv_splits, INT32, plan.request.num_kv_splits, "As asked for; -1 is automatic. May have been lowered.") \
    X(return_lse, BOOL, plan.request.return_lse, "The LSE is written too.")                                      \
    X(deterministic, BOOL, plan.request.deterministic, "A row's bits do not depend on the batch around it.")     \
    X(device, DEVICE, device, "The device the plan was made for.")                                               \
    X(arch, ARCH, plan.target.arch, "The architecture that the kernels were chosen for.")                        \
    X(compute_units, INT32, plan.target.compute_units, "CUs, SMs or CPU threads that the splits were chosen by.") \
    X(writes_output, BOOL, plan.writes_output, "Stage 1 writes the final rows and the LSE; stage 2 never runs.") \
    X(stage1, KERNEL, plan.stage1, "The kernel of stage 1.")                                                     \
    X(stage2, KERNEL, plan.stage2, "The kernel of stage 2, or None.")                                            \
    X(grid, INT64, plan.grid, "Work items of stage 1.")                                                          \
    X(row_tiles, INT32, plan.row_tiles, "Tiles of (query row, head) pairs per request.")                         \
    X(tile_rows, TILE_ROWS, plan.stage1, "(query row, head) pairs that share one pass over the KV.")             \
    X(scratch_bytes, INT64, plan.scratch_bytes, "Bytes the device keeps for the kernels, whatever the shape.")

typedef enum { INT32, INT64, BOOL, DTYPE, KV_FORMAT, ARCH, DEVICE, KERNEL, TILE_ROWS } field_kind_t;

typedef struct {
    const char *name;
    field_kind_t kind;
    size_t offset;
} field_t;

static const field_t fields[] = {
#define FIELD(name, kind, place, doc) {#name, kind, offsetof(plan_t, place)},
    FIELDS(FIELD)
#undef FIELD
};
#define FIELD_COUNT ((int)(sizeof fields / sizeof fields[0]))

enum {
#define FIELD(name, kind, place, doc) AT_##name,
    FIELDS(FIELD)
#undef FIELD
};

static PyObject *get_field(PyObject *self, void *closure) {
    const field_t *field = closure;
    const void *place = (const char *)self + field->offset;
    const ac_kernel_t *kernel;
    char text[48];
    switch (field->kind) {
    case INT32: return PyLong_FromLong(*(const int32_t *)place);
    case INT64: return PyLong_FromLongLong(*(const int64_t *)place);
    case BOOL: return PyBool_FromLong(*(const int *)place);
    case DTYPE: return PyUnicode_FromString(ac_dtype_name(*(const ac_dtype_t *)place));
    case KV_FORMAT: return PyUnicode_FromString(ac_kv_format_name(*(const ac_kv_format_t *)place));
    case ARCH: return PyUnicode_FromString(ac_arch_name(*(const ac_arch_t *)place));
    case DEVICE: return PyUnicode_FromString(ac_device_text(*(const ac_device_t *)place, text, sizeof text));
    case KERNEL:
        kernel = *(const ac_kernel_t *const *)place;
        return kernel ? PyUnicode_FromString(kernel->name) : Py_NewRef(Py_None);
    case TILE_ROWS: return PyLong_FromLong((*(const ac_kernel_t *const *)place)->tile_rows);
    }
    return NULL;
}

static PyObject *all_fields(PyObject *self) {
    PyObject *tuple = PyTuple_New(FIELD_COUNT);
    for (int i = 0; tuple && i < FIELD_COUNT; i++) {
        PyObject *value = get_field(self, (void *)&fields[i]);
        if (!value || PyTuple_SetItem(tuple, i, value) < 0) Py_CLEAR(tuple);
    }
    return tuple;
}

static PyObject *plan_richcompare(PyObject *self, PyObject *other, int operation) {
    if (Py_TYPE(self) != Py_TYPE(other) || (operation != Py_EQ && operation != Py_NE))
        return Py_NewRef(Py_NotImplemented);
    PyObject *a = all_fields(self);
    PyObject *b = a ? all_fields(other) : NULL;
    PyObject *result = b ? PyObject_RichCompare(a, b, operation) : NULL;
    Py_XDECREF(a);
    Py_XDECREF(b);
    return result;
}

static Py_hash_t plan_hash(PyObject *self) {
    PyObject *tuple = all_fields(self);
    Py_hash_t hash = tuple ? PyObject_Hash(tuple) : -1;
    Py_XDECREF(tuple);
    return hash;
}

static PyObject *plan_repr(PyObject *self) {
    PyObject *text = PyUnicode_FromString("aiter_c.MlaPlan");
    for (int i = 0; text && i < FIELD_COUNT; i++) {
        const char *join = i == 0 ? "(" : ", ", *end = i == FIELD_COUNT - 1 ? ")" : "";
        PyObject *value = get_field(self, (void *)&fields[i]);
        PyObject *longer = value ? PyUnicode_FromFormat("%U%s%s=%R%s", text, join, fields[i].name, value, end) : NULL;
        Py_XDECREF(value);
        Py_DECREF(text);
        text = longer;
    }
    return text;
}

static PyObject *plan_workspace_bytes(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    const ac_mla_plan_t *plan = &((plan_t *)self)->plan;
    PyObject *values[1];
    int64_t rows = (int64_t)plan->request.batch * plan->request.max_seqlen_q;
    if (ac_bind(ac_state_of(self), AC_FN_workspace_bytes, args, nargs, kwnames, values) < 0) return NULL;
    if (!ac_is_none(values[0])) {
        if (ac_to_int64("MlaPlan.workspace_bytes", "num_rows", values[0], &rows) < 0) return NULL;
        if (rows < 0) {
            PyErr_Format(PyExc_ValueError, "MlaPlan.workspace_bytes: num_rows: expected at least 0, got %lld",
                         (long long)rows);
            return NULL;
        }
    }
    int64_t bytes = ac_mla_workspace_bytes(plan, rows);
    if (bytes >= 0) return PyLong_FromLongLong(bytes);
    PyErr_Format(PyExc_ValueError,
                 "MlaPlan.workspace_bytes: num_rows: expected less than 2**63 bytes in all, got %lld rows",
                 (long long)rows);
    return NULL;
}

static int plan_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(Py_TYPE(self));
    return 0;
}

static void plan_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    PyObject_GC_Del(self);
    Py_DECREF((PyObject *)type);
}

PyObject *ac_plan_new(const ac_state_t *state, const ac_mla_plan_t *plan, ac_device_t device) {
    plan_t *self = PyObject_GC_New(plan_t, state->plan_type);
    if (!self) return NULL;
    self->plan = *plan;
    self->device = device;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

const ac_mla_plan_t *ac_to_plan(const ac_state_t *state, const char *op, PyObject *object) {
    if (Py_TYPE(object) == state->plan_type) return &((plan_t *)object)->plan;
    ac_expected(op, "plan", "aiter_c.MlaPlan", object);
    return NULL;
}

static PyGetSetDef plan_getset[] = {
#define FIELD(name, kind, place, doc) {#name, get_field, NULL, doc, (void *)&fields[AT_##name]},
    FIELDS(FIELD)
#undef FIELD
    {0},
};

static PyMethodDef plan_methods[] = {
    {"workspace_bytes", (PyCFunction)(void (*)(void))plan_workspace_bytes, METH_FASTCALL | METH_KEYWORDS,
     AC_DOC_workspace_bytes},
    {0},
};

static PyType_Slot plan_slots[] = {
    {Py_tp_doc, (void *)AC_DOC_MlaPlan}, {Py_tp_dealloc, plan_dealloc},   {Py_tp_traverse, plan_traverse},
    {Py_tp_repr, plan_repr},             {Py_tp_hash, plan_hash},         {Py_tp_richcompare, plan_richcompare},
    {Py_tp_getset, plan_getset},         {Py_tp_methods, plan_methods},   {0, NULL},
};

PyType_Spec ac_plan_spec = {
    .name = "aiter_c.MlaPlan",
    .basicsize = sizeof(plan_t),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = plan_slots,
};
