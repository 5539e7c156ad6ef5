/* Binding arguments to names, and converting numbers. */
#include "argparse.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "errors.h"

/* The lines of signatures.h as data: {name, default text}; "*" is the keyword-only mark. */
typedef struct {
    const char *name, *value;
} parameter_t;

#define ARG(name, value) {#name, #value},
#define STAR {"*", ""},
#define PARAMETERS(function)                                                                                           \
    static const parameter_t parameters_##function[] = {AC_ARGS_##function(ARG, STAR){NULL, NULL}};
AC_FUNCTIONS(PARAMETERS)
#undef PARAMETERS
#undef STAR
#undef ARG

static const struct {
    const char *function;
    const parameter_t *parameters;
} functions[AC_FUNCTION_COUNT] = {
#define FUNCTION(name) [AC_FN_##name] = {#name, parameters_##name},
    AC_FUNCTIONS(FUNCTION)
#undef FUNCTION
};

static int add_parameter(ac_signature_t *signature, const char *name, bool required, bool keyword_only) {
    int n = signature->count;
    signature->names[n] = PyUnicode_InternFromString(name);
    if (!signature->names[n]) return -1;
    signature->required[n] = required;
    signature->count++;
    if (keyword_only) return 0;
    signature->positional++;
    signature->required_positional += required;
    return 0;
}

int ac_signatures_init(ac_state_t *state) {
    for (int i = 0; i < AC_FUNCTION_COUNT; i++) {
        ac_signature_t *signature = &state->signatures[i];
        bool keyword_only = false;
        signature->function = functions[i].function;
        for (const parameter_t *parameter = functions[i].parameters; parameter->name; parameter++) {
            if (parameter->name[0] == '*') keyword_only = true;
            else if (add_parameter(signature, parameter->name, parameter->value[0] == 0, keyword_only) < 0) return -1;
        }
    }
    return 0;
}

/* The place of a name that stands in quotes, or -1. */
static int default_choice(const char *const *choices, const char *quoted) {
    for (int i = 0; choices[i]; i++) {
        const size_t length = strlen(choices[i]);
        if (strlen(quoted) == length + 2 && strncmp(quoted + 1, choices[i], length) == 0) return i;
    }
    return -1;
}

/* The field of a parameter that was not passed: its default, and where it may be None and has no other, None. */
static void set_default(const ac_param_t *param, void *field) {
    const char *text = param->default_text[0] == '=' ? param->default_text + 1 : "None";
    const bool none = strcmp(text, "None") == 0;
    switch (param->kind) {
    case AC_KIND_INT: *(int64_t *)field = none ? AC_NO_INT : strtoll(text, NULL, 10); break;
    case AC_KIND_FLOAT: *(double *)field = none ? NAN : strtod(text, NULL); break;
    case AC_KIND_BOOL: *(int *)field = strcmp(text, "True") == 0; break;
    case AC_KIND_DTYPE: *(ac_dtype_t *)field = AC_DTYPE_NONE; break;
    case AC_KIND_CHOICE: *(int *)field = default_choice(param->choices, text); break;
    case AC_KIND_DEVICE: *(ac_device_t *)field = (ac_device_t){AC_DEVICE_CPU, 0}; break;
    case AC_KIND_SCALE: *(ac_scale_arg_t *)field = (ac_scale_arg_t){NULL, 1}; break;
    default: break; /* a tensor: NULL */
    }
}

/* *out_object: see ac_signature_t; of those objects that are the same everywhere: None, a bool, a small int. */
static int find_unset(const ac_op_t *op, const ac_param_t *param, const void *field, PyObject **out_object) {
    const bool needed = param->kind == AC_KIND_PLAN && !op->make_plan;
    if ((param->flags & AC_OPTIONAL) && !needed) *out_object = Py_NewRef(Py_None);
    else if (param->kind == AC_KIND_BOOL) *out_object = PyBool_FromLong(*(const int *)field);
    else if (param->kind == AC_KIND_INT) *out_object = PyLong_FromLongLong(*(const int64_t *)field);
    else return 0;
    return *out_object ? 0 : -1;
}

int ac_signature_from_params(ac_signature_t *signature, const ac_op_t *op) {
    bool keyword_only = false;
    signature->function = op->name;
    signature->defaults = PyMem_Calloc(1, op->args_bytes);
    if (!signature->defaults) {
        PyErr_NoMemory();
        return -1;
    }
    for (int i = 0; i < op->param_count; i++) {
        const ac_param_t *param = &op->params[i];
        if (param->name[0] == '*') {
            keyword_only = true;
            continue;
        }
        if (param->flags & AC_WORKSPACE) {
            if (signature->workspace_count == AC_MAX_WORKSPACES) {
                PyErr_Format(PyExc_SystemError, "%s: more than %d workspaces", op->name, AC_MAX_WORKSPACES);
                return -1;
            }
            signature->workspaces[signature->workspace_count++] = signature->count;
        }
        void *field = (char *)signature->defaults + param->offset;
        if (param->kind < AC_KIND_PLAN) set_default(param, field);
        if (find_unset(op, param, field, &signature->unset[signature->count]) < 0) return -1;
        signature->params[signature->count] = param;
        if (add_parameter(signature, param->name, param->default_text[0] == '\0', keyword_only) < 0) return -1;
    }
    return 0;
}

static void clear_signature(ac_signature_t *signature) {
    for (int n = 0; n < AC_MAX_PARAMS; n++) {
        Py_CLEAR(signature->names[n]);
        Py_CLEAR(signature->unset[n]);
    }
    PyMem_Free(signature->defaults);
    signature->defaults = NULL;
}

void ac_signatures_clear(ac_state_t *state) {
    for (int i = 0; i < AC_FUNCTION_COUNT; i++) clear_signature(&state->signatures[i]);
    for (int i = 0; i < AC_MAX_OPS; i++) clear_signature(&state->op_signatures[i]);
}

/* The place of a keyword, or -1. Names at a call site are interned, so one pass over pointers nearly always finds it;
 * keywords are mostly passed in order, so the search starts after the previous one. -2: an exception is set. */
static int find_keyword(const ac_signature_t *signature, PyObject *keyword, int start) {
    for (int i = 0; i < signature->count; i++) {
        int at = start + i < signature->count ? start + i : start + i - signature->count;
        if (signature->names[at] == keyword) return at;
    }
    if (!PyUnicode_Check(keyword)) {
        PyErr_SetString(PyExc_TypeError, "keywords must be strings");
        return -2;
    }
    for (int i = 0; i < signature->count; i++) {
        int order = PyUnicode_Compare(signature->names[i], keyword);
        if (order == -1 && PyErr_Occurred()) return -2;
        if (order == 0) return i;
    }
    return -1;
}

/* Too many arguments, in the words of CPython's getargs.c. */
static int fail_count(const ac_signature_t *signature, Py_ssize_t nargs, Py_ssize_t nkeywords) {
    int count = signature->count, positional = signature->positional;
    if (nargs + nkeywords > count)
        PyErr_Format(PyExc_TypeError, "%.200s() takes at most %d %sargument%s (%zd given)", signature->function, count,
                     nargs == 0 ? "keyword " : "", count == 1 ? "" : "s", nargs + nkeywords);
    else if (positional == 0)
        PyErr_Format(PyExc_TypeError, "%.200s() takes no positional arguments", signature->function);
    else
        PyErr_Format(PyExc_TypeError, "%.200s() takes %s %d positional argument%s (%zd given)", signature->function,
                     signature->required_positional < positional ? "at most" : "exactly", positional,
                     positional == 1 ? "" : "s", nargs);
    return -1;
}

int ac_bind(const ac_signature_t *signature, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
            PyObject **out_values) {
    Py_ssize_t nkeywords = kwnames ? PyTuple_Size(kwnames) : 0;
    PyObject *unexpected = NULL, *twice = NULL;
    int twice_at = 0, next = (int)nargs;

    if (nargs + nkeywords > signature->count || nargs > signature->positional)
        return fail_count(signature, nargs, nkeywords);
    memcpy(out_values, args, (size_t)nargs * sizeof *out_values);
    memset(out_values + nargs, 0, (size_t)(signature->count - nargs) * sizeof *out_values);

    for (Py_ssize_t i = 0; i < nkeywords; i++) {
        PyObject *keyword = PyTuple_GetItem(kwnames, i);
        int at = find_keyword(signature, keyword, next);
        if (at == -2) return -1;
        if (at == -1) {
            unexpected = keyword;
        } else if (out_values[at]) {
            twice = keyword;
            twice_at = at;
        } else {
            out_values[at] = args[nargs + i];
            next = at + 1;
        }
    }
    /* CPython names a missing argument before a wrong keyword. */
    for (int i = (int)nargs; i < signature->count; i++) {
        if (out_values[i] || !signature->required[i]) continue;
        PyErr_Format(PyExc_TypeError, "%.200s() missing required argument '%U' (pos %d)", signature->function,
                     signature->names[i], i + 1);
        return -1;
    }
    if (twice && twice_at < nargs)
        PyErr_Format(PyExc_TypeError, "argument for %.200s() given by name ('%U') and position (%d)",
                     signature->function, twice, twice_at + 1);
    else if (twice)
        PyErr_Format(PyExc_TypeError, "%.200s() got multiple values for argument '%U'", signature->function, twice);
    else if (unexpected)
        PyErr_Format(PyExc_TypeError, "%.200s() got an unexpected keyword argument '%U'", signature->function,
                     unexpected);
    return twice || unexpected ? -1 : 0;
}

int ac_expected(const char *op, const char *name, const char *expected, PyObject *object) {
    PyObject *type_name = object == Py_None ? PyUnicode_FromString("None") : PyType_GetName(Py_TYPE(object));
    if (!type_name) return -1;
    PyErr_Format(PyExc_TypeError, "%s: %s: expected %s, got %U", op, name, expected, type_name);
    Py_DECREF(type_name);
    return -1;
}

int ac_to_int64(const char *op, const char *name, PyObject *object, int64_t *out_value) {
    PyObject *index = NULL;
    int overflow = 0, result = -1;
    if (!object) return 0;
    if (!PyLong_CheckExact(object) && !PyLong_Check(object)) {
        if (!PyIndex_Check(object)) return ac_expected(op, name, "int", object);
        index = PyNumber_Index(object);
        if (!index) return -1;
        object = index;
    }
    long long value = PyLong_AsLongLongAndOverflow(object, &overflow);
    if (overflow) {
        PyErr_Format(PyExc_ValueError, "%s: %s: expected a 64-bit integer, got %S", op, name, object);
    } else if (value != -1 || !PyErr_Occurred()) {
        *out_value = value;
        result = 0;
    }
    Py_XDECREF(index);
    return result;
}

int ac_to_int32(const char *op, const char *name, PyObject *object, int32_t *out_value) {
    int64_t value = *out_value;
    if (ac_to_int64(op, name, object, &value) < 0) return -1;
    if (value < INT32_MIN || value > INT32_MAX) {
        PyErr_Format(PyExc_ValueError, "%s: %s: expected %d .. %d, got %lld", op, name, INT32_MIN, INT32_MAX,
                     (long long)value);
        return -1;
    }
    *out_value = (int32_t)value;
    return 0;
}

int ac_to_double(const char *op, const char *name, PyObject *object, double *out_value) {
    if (!object) return 0;
    /* Whatever has __float__ or __index__ is a number here (NumPy scalars); text is not, float("1") or no. */
    if (!PyFloat_CheckExact(object) && !PyFloat_Check(object) && (!PyNumber_Check(object) || PyComplex_Check(object)))
        return ac_expected(op, name, "float", object);
    double value = PyFloat_AsDouble(object);
    if (value == -1.0 && PyErr_Occurred()) return -1;
    *out_value = value;
    return 0;
}

int ac_check_finite(const char *op, const char *name, double value) {
    /* The nearest float32 is finite. A cast would go by the rounding mode of the caller. */
    if (fabs(value) < 0x1.ffffffp127) return 0;
    PyObject *number = PyFloat_FromDouble(value);
    if (number) PyErr_Format(PyExc_ValueError, "%s: %s: expected a finite float32, got %R", op, name, number);
    Py_XDECREF(number);
    return -1;
}

int ac_to_bool(const char *op, const char *name, PyObject *object, int *out_value) {
    if (!object) return 0;
    if (object == Py_True || object == Py_False) {
        *out_value = object == Py_True;
        return 0;
    }
    if (!PyIndex_Check(object)) {
        /* numpy.bool has no __index__; anything else (None, text, lists) has a truth, but not as an argument. */
        PyObject *type_name = PyType_GetName(Py_TYPE(object));
        if (!type_name) return -1;
        bool is_bool = PyUnicode_CompareWithASCIIString(type_name, "bool") == 0 ||
                       PyUnicode_CompareWithASCIIString(type_name, "bool_") == 0;
        Py_DECREF(type_name);
        if (!is_bool) return ac_expected(op, name, "bool", object);
    }
    int truth = PyObject_IsTrue(object);
    if (truth < 0) return -1;
    *out_value = truth;
    return 0;
}
