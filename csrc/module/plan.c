/* Plans as Python objects, by the rows of their fields. */
#include "plan.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "argparse.h"
#include "docs.h"
#include "dtype_arg.h"
#include "errors.h"

#ifndef AC_VERSION
#define AC_VERSION "unknown"
#endif

typedef struct {
    PyObject_HEAD
    const ac_plan_kind_t *kind;
    _Alignas(16) unsigned char bytes[]; /* kind->bytes */
} plan_t;

static plan_t *as_plan(PyObject *object) { return (plan_t *)object; }

const void *ac_plan_bytes(PyObject *plan) { return as_plan(plan)->bytes; }

static PyObject *get_field(const plan_t *plan, const ac_plan_field_t *field) {
    const void *at = plan->bytes + field->offset;
    const ac_kernel_t *kernel;
    char text[48];
    switch (field->kind) {
    case AC_FIELD_INT32: return PyLong_FromLong(*(const int32_t *)at);
    case AC_FIELD_INT64: return PyLong_FromLongLong(*(const int64_t *)at);
    case AC_FIELD_BOOL: return PyBool_FromLong(*(const int *)at);
    case AC_FIELD_DTYPE: return PyUnicode_FromString(ac_dtype_name(*(const ac_dtype_t *)at));
    case AC_FIELD_TEXT: return PyUnicode_FromString(field->text(*(const int32_t *)at));
    case AC_FIELD_DEVICE: return PyUnicode_FromString(ac_device_text(*(const ac_device_t *)at, text, sizeof text));
    case AC_FIELD_KERNEL:
        kernel = *(const ac_kernel_t *const *)at;
        return kernel ? PyUnicode_FromString(kernel->name) : Py_NewRef(Py_None);
    }
    return NULL;
}

static PyObject *attribute(PyObject *self, void *field) { return get_field(as_plan(self), field); }

/* The value of a field that its default is compared with. */
static int64_t number_of(const plan_t *plan, const ac_plan_field_t *field) {
    const void *at = plan->bytes + field->offset;
    switch (field->kind) {
    case AC_FIELD_INT64: return *(const int64_t *)at;
    case AC_FIELD_DTYPE: return *(const ac_dtype_t *)at;
    case AC_FIELD_DEVICE: return ((const ac_device_t *)at)->type;
    case AC_FIELD_KERNEL: return 0;
    default: return *(const int32_t *)at;
    }
}

/* The fields with all of `flags` and none of `without`, as a tuple. */
static PyObject *fields_of(const plan_t *plan, unsigned flags, unsigned without) {
    PyObject *list = PyList_New(0), *tuple;
    for (int i = 0; list && i < plan->kind->field_count; i++) {
        const ac_plan_field_t *field = &plan->kind->fields[i];
        if ((field->flags & flags) != flags || (field->flags & without)) continue;
        PyObject *value = get_field(plan, field);
        if (!value || PyList_Append(list, value) < 0) Py_CLEAR(list);
        Py_XDECREF(value);
    }
    tuple = list ? PyList_AsTuple(list) : NULL;
    Py_XDECREF(list);
    return tuple;
}

static PyObject *plan_richcompare(PyObject *self, PyObject *other, int operation) {
    if (Py_TYPE(self) != Py_TYPE(other) || (operation != Py_EQ && operation != Py_NE))
        return Py_NewRef(Py_NotImplemented);
    PyObject *a = fields_of(as_plan(self), 0, AC_PLAN_HIDDEN);
    PyObject *b = a ? fields_of(as_plan(other), 0, AC_PLAN_HIDDEN) : NULL;
    PyObject *result = b ? PyObject_RichCompare(a, b, operation) : NULL;
    Py_XDECREF(a);
    Py_XDECREF(b);
    return result;
}

static Py_hash_t plan_hash(PyObject *self) {
    PyObject *tuple = fields_of(as_plan(self), 0, AC_PLAN_HIDDEN);
    Py_hash_t hash = tuple ? PyObject_Hash(tuple) : -1;
    Py_XDECREF(tuple);
    return hash;
}

/* What differs from the defaults. */
static PyObject *plan_repr(PyObject *self) {
    const plan_t *plan = as_plan(self);
    PyObject *text = PyUnicode_FromFormat("aiter_c.%s(", plan->kind->name);
    const char *join = "";
    for (int i = 0; text && i < plan->kind->field_count; i++) {
        const ac_plan_field_t *field = &plan->kind->fields[i];
        if (!(field->flags & AC_PLAN_SHOWN) || number_of(plan, field) == field->default_value) continue;
        PyObject *value = get_field(plan, field);
        PyObject *longer = value ? PyUnicode_FromFormat("%U%s%s=%R", text, join, field->name, value) : NULL;
        Py_XDECREF(value);
        Py_DECREF(text);
        text = longer;
        join = ", ";
    }
    PyObject *closed = text ? PyUnicode_FromFormat("%U)", text) : NULL;
    Py_XDECREF(text);
    return closed;
}

static PyObject *plan_workspace_bytes(PyObject *self, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    const plan_t *plan = as_plan(self);
    const ac_plan_kind_t *kind = plan->kind;
    PyObject *values[1];
    int64_t rows = kind->most_rows(plan->bytes);
    char name[64];
    snprintf(name, sizeof name, "%s.workspace_bytes", kind->name);
    if (ac_bind(ac_function_signature(ac_state_of(self), AC_FN_workspace_bytes), args, nargs, kwnames, values) < 0)
        return NULL;
    if (!ac_is_none(values[0])) {
        if (ac_to_int64(name, "num_rows", values[0], &rows) < 0) return NULL;
        if (rows < 0) {
            PyErr_Format(PyExc_ValueError, "%s: num_rows: expected at least 0, got %lld", name, (long long)rows);
            return NULL;
        }
    }
    int64_t bytes = kind->workspace_bytes(plan->bytes, rows);
    if (bytes >= 0) return PyLong_FromLongLong(bytes);
    PyErr_Format(PyExc_ValueError, "%s: num_rows: expected less than 2**63 bytes in all, got %lld rows", name,
                 (long long)rows);
    return NULL;
}

/* A plan cannot change, so it is its own copy. */
static PyObject *plan_copy(PyObject *self, PyObject *Py_UNUSED(memo)) { return Py_NewRef(self); }

static PyObject *plan_reduce(PyObject *self, PyObject *Py_UNUSED(ignored)) {
    const plan_t *plan = as_plan(self);
    PyObject *module = PyType_GetModule(Py_TYPE(self));
    PyObject *load = module ? PyObject_GetAttrString(module, "load_plan") : NULL;
    PyObject *inputs = load ? fields_of(plan, AC_PLAN_INPUT, 0) : NULL;
    if (!inputs) {
        Py_XDECREF(load);
        return NULL;
    }
    return Py_BuildValue("(N(ssN))", load, plan->kind->name, AC_VERSION, inputs);
}

static int set_field(void *bytes, const ac_plan_field_t *field, PyObject *value) {
    static const char op[] = "load_plan";
    void *at = (unsigned char *)bytes + field->offset;
    const char *text;
    Py_ssize_t size;
    int64_t number;
    switch (field->kind) {
    case AC_FIELD_INT32: return ac_to_int32(op, field->name, value, at);
    case AC_FIELD_INT64: return ac_to_int64(op, field->name, value, at);
    case AC_FIELD_BOOL: return ac_to_bool(op, field->name, value, at);
    case AC_FIELD_DTYPE: return ac_to_dtype(op, field->name, value, at);
    case AC_FIELD_DEVICE: return ac_to_device(op, field->name, value, at);
    case AC_FIELD_TEXT:
        if (!PyUnicode_Check(value)) return ac_expected(op, field->name, "str", value);
        text = PyUnicode_AsUTF8AndSize(value, &size);
        if (!text) return -1;
        number = strlen(text) == (size_t)size ? field->number(text) : -1;
        if (number < 0) {
            PyErr_Format(PyExc_ValueError, "%s: %s: expected one that this aiter_c knows, got %R", op, field->name,
                         value);
            return -1;
        }
        *(int32_t *)at = (int32_t)number;
        return 0;
    default: return -1;
    }
}

static int set_inputs(void *bytes, const ac_plan_kind_t *kind, PyObject *inputs) {
    Py_ssize_t next = 0, count = 0;
    for (int i = 0; i < kind->field_count; i++) count += (kind->fields[i].flags & AC_PLAN_INPUT) != 0;
    if (!PyTuple_Check(inputs)) return ac_expected("load_plan", "inputs", "tuple", inputs);
    if (PyTuple_Size(inputs) != count) {
        PyErr_Format(PyExc_ValueError, "load_plan: inputs: expected %zd fields, got %zd", count, PyTuple_Size(inputs));
        return -1;
    }
    for (int i = 0; i < kind->field_count; i++)
        if ((kind->fields[i].flags & AC_PLAN_INPUT) &&
            set_field(bytes, &kind->fields[i], PyTuple_GetItem(inputs, next++)) < 0)
            return -1;
    return 0;
}

PyObject *py_load_plan(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    ac_state_t *state = ac_state(module);
    _Alignas(16) unsigned char bytes[AC_MAX_PLAN_BYTES] = {0};
    const ac_plan_kind_t *kind = NULL;
    PyObject *values[3];
    ac_error_t error = {0};
    if (ac_bind(ac_function_signature(state, AC_FN_load_plan), args, nargs, kwnames, values) < 0) return NULL;
    for (int i = 0; i < 2; i++)
        if (!PyUnicode_Check(values[i])) {
            ac_expected("load_plan", i ? "version" : "kind", "str", values[i]);
            return NULL;
        }
    for (int i = 0; i < ac_plan_kind_count; i++)
        if (PyUnicode_CompareWithASCIIString(values[0], ac_plan_kinds[i]->name) == 0) kind = ac_plan_kinds[i];
    if (!kind) {
        PyErr_Format(PyExc_ValueError, "load_plan: kind: expected a kind of plan, got %R", values[0]);
        return NULL;
    }
    if (PyUnicode_CompareWithASCIIString(values[1], AC_VERSION) != 0) {
        PyErr_Format(PyExc_ValueError, "load_plan: version: expected a plan of aiter_c %s, got one of %U", AC_VERSION,
                     values[1]);
        return NULL;
    }
    if (set_inputs(bytes, kind, values[2]) < 0) return NULL;
    if (kind->complete("load_plan", bytes, &error) < 0) return ac_raise(state, &error);
    return ac_plan_new(state, kind, bytes);
}

/* Plans hold no objects but their type, which never refers to one: they need no garbage collector. */
static void plan_dealloc(PyObject *self) {
    PyTypeObject *type = Py_TYPE(self);
    PyObject_Free(self);
    Py_DECREF((PyObject *)type);
}

static PyTypeObject *type_of(const ac_state_t *state, const ac_plan_kind_t *kind) {
    int i = 0;
    while (ac_plan_kinds[i] != kind) i++;
    return state->plan_types[i];
}

PyObject *ac_plan_new(const ac_state_t *state, const ac_plan_kind_t *kind, const void *bytes) {
    plan_t *self = PyObject_New(plan_t, type_of(state, kind));
    if (!self) return NULL;
    self->kind = kind;
    memcpy(self->bytes, bytes, kind->bytes);
    return (PyObject *)self;
}

const void *ac_to_plan(const ac_state_t *state, const ac_plan_kind_t *kind, const char *op, PyObject *object) {
    char expected[64];
    if (Py_TYPE(object) == type_of(state, kind)) return as_plan(object)->bytes;
    snprintf(expected, sizeof expected, "aiter_c.%s", kind->name);
    ac_expected(op, "plan", expected, object);
    return NULL;
}

#define METHOD(function) (PyCFunction)(void (*)(void)) function
static PyMethodDef plan_methods[] = {
    {"workspace_bytes", METHOD(plan_workspace_bytes), METH_FASTCALL | METH_KEYWORDS, AC_DOC_workspace_bytes},
    {"__copy__", plan_copy, METH_NOARGS, NULL},
    {"__deepcopy__", plan_copy, METH_O, NULL},
    {"__reduce__", plan_reduce, METH_NOARGS, NULL},
    {0},
};

/* What a type points to, for as long as the process runs: types may outlive the module. */
#define MAX_FIELDS 40
static PyGetSetDef getsets[AC_MAX_PLAN_KINDS][MAX_FIELDS + 1];
static char type_names[AC_MAX_PLAN_KINDS][48];

static int add_type(ac_state_t *state, PyObject *module, int number) {
    const ac_plan_kind_t *kind = ac_plan_kinds[number];
    int count = 0;
    if (kind->field_count > MAX_FIELDS || number >= AC_MAX_PLAN_KINDS) {
        PyErr_Format(PyExc_SystemError, "%s: too many fields or kinds", kind->name);
        return -1;
    }
    for (int i = 0; i < kind->field_count; i++)
        if (!(kind->fields[i].flags & AC_PLAN_HIDDEN))
            getsets[number][count++] = (PyGetSetDef){kind->fields[i].name, attribute, NULL, kind->fields[i].doc,
                                                     (void *)&kind->fields[i]};
    snprintf(type_names[number], sizeof type_names[number], "aiter_c.%s", kind->name);
    PyType_Slot slots[] = {
        {Py_tp_doc, (void *)kind->doc},
        {Py_tp_dealloc, plan_dealloc},
        {Py_tp_repr, plan_repr},
        {Py_tp_hash, plan_hash},
        {Py_tp_richcompare, plan_richcompare},
        {Py_tp_getset, getsets[number]},
        {Py_tp_methods, plan_methods},
        {0, NULL},
    };
    PyType_Spec spec = {
        .name = type_names[number],
        .basicsize = (int)(sizeof(plan_t) + kind->bytes),
        .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
        .slots = slots,
    };
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    state->plan_types[number] = (PyTypeObject *)type;
    return type ? PyModule_AddObjectRef(module, kind->name, type) : -1;
}

int ac_plans_init(ac_state_t *state, PyObject *module) {
    for (int i = 0; i < ac_plan_kind_count; i++)
        if (add_type(state, module, i) < 0) return -1;
    return 0;
}
