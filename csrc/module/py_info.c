#include "py_info.h"

#include <string.h>

#include "../bench/cpu_ceiling.h"
#include "../core/op.h"
#include "../cpu/cpu.h"
#include "../device/code_object.h"
#include "../device/device.h"
#include "argparse.h"
#include "array.h"
#include "environment.h"
#include "errors.h"
#include "exchange.h"
#include "tensor.h"

#ifndef AC_VERSION
#define AC_VERSION "unknown"
#endif
#ifndef AC_SOURCE_HASH
#define AC_SOURCE_HASH "unknown"
#endif
#ifndef AC_BUILD_VARIANT
#define AC_BUILD_VARIANT "release"
#endif

#if defined(__clang__)
#define COMPILER "clang " __clang_version__
#elif defined(__GNUC__)
#define COMPILER "gcc " __VERSION__
#else
#define COMPILER "unknown"
#endif

#if defined(__x86_64__)
#define TARGET "x86_64"
#elif defined(__aarch64__)
#define TARGET "aarch64"
#else
#define TARGET "unknown"
#endif

PyObject *py_set_num_threads(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    ac_state_t *state = ac_state(module);
    PyObject *values[1];
    ac_error_t error = {0};
    int32_t count = 0;
    if (ac_bind(ac_function_signature(state, AC_FN_set_num_threads), args, nargs, kwnames, values) < 0) return NULL;
    if (ac_to_int32("set_num_threads", "n", values[0], &count) < 0) return NULL;
    if (ac_cpu_set_num_threads(count, &error) < 0) return ac_raise(state, &error);
    Py_RETURN_NONE;
}

PyObject *py_get_num_threads(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return PyLong_FromLong(ac_cpu_num_threads(true));
}

PyObject *py_cpu_arch(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    return PyUnicode_FromString(ac_arch_name(ac_cpu_arch()));
}

/* {"<arch>/<object>": hash} of the code objects that this extension accepts. */
static PyObject *object_hashes(void) {
    PyObject *out = PyDict_New();
    const ac_object_hash_t *row;
    for (int i = 0; out && (row = ac_object_hash(i)); i++) {
        PyObject *hash = PyUnicode_FromString(row->hash);
        if (!hash || PyDict_SetItemString(out, row->object, hash) < 0) Py_CLEAR(out);
        Py_XDECREF(hash);
    }
    return out;
}

PyObject *py_build_info(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    PyObject *limited = Py_None, *result;
#ifdef Py_LIMITED_API
    limited = PyUnicode_FromFormat("%d.%d", (Py_LIMITED_API + 0) >> 24, (Py_LIMITED_API + 0) >> 16 & 0xff);
    if (!limited) return NULL;
#else
    Py_INCREF(limited);
#endif
    result = Py_BuildValue("{s:s,s:s,s:N,s:s,s:s,s:s,s:N,s:s,s:s}", "version", AC_VERSION, "source_hash",
                           AC_SOURCE_HASH, "code_objects", object_hashes(), "variant", AC_BUILD_VARIANT, "compiler",
                           COMPILER, "target", TARGET, "limited_api", limited, "python_headers", PY_VERSION, "dlpack",
                           Py_STRINGIFY(DLPACK_MAJOR_VERSION) "." Py_STRINGIFY(DLPACK_MINOR_VERSION));
    return result;
}

/* None for an empty text. The texts come from drivers and file names: whatever is not UTF-8 in them is replaced. */
static PyObject *text_or_none(const char *text) {
    if (!text[0]) return Py_NewRef(Py_None);
    return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace");
}

/* "gfx942, 304 units", or why the kernel table has nothing for the device. */
static PyObject *device_names(const ac_runtime_info_t *info) {
    PyObject *list = PyList_New(0);
    for (int i = 0; list && i < info->device_count; i++) {
        ac_device_facts_t facts;
        ac_error_t error = {0};
        PyObject *name = info->runtime->facts(info->runtime, i, &facts, &error) < 0
                             ? text_or_none(error.text)
                             : PyUnicode_FromFormat("%s, %d units", ac_arch_name(facts.arch), facts.compute_units);
        if (!name || PyList_Append(list, name) < 0) Py_CLEAR(list);
        Py_XDECREF(name);
    }
    return list;
}

/* Py_BuildValue's N takes NULL as failure. */
static PyObject *runtime_row(int device_type) {
    ac_runtime_info_t info;
    Py_BEGIN_ALLOW_THREADS
    ac_runtime_describe(device_type, &info);
    Py_END_ALLOW_THREADS
    return Py_BuildValue("{s:N,s:i,s:N,s:N,s:N,s:N,s:N}", "available", PyBool_FromLong(info.runtime != NULL), "devices",
                         info.device_count, "device_names", device_names(&info), "library", text_or_none(info.library),
                         "version", text_or_none(info.version), "attempts", text_or_none(info.attempts), "reason",
                         text_or_none(info.note));
}

PyObject *py_runtime_info(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    static const struct {
        const char *name;
        int type;
    } devices[] = {{"cpu", AC_DEVICE_CPU}, {"hip", AC_DEVICE_HIP}, {"cuda", AC_DEVICE_CUDA}};
    PyObject *rows = PyDict_New();
    for (size_t i = 0; rows && i < sizeof devices / sizeof devices[0]; i++) {
        PyObject *row = runtime_row(devices[i].type);
        if (!row || PyDict_SetItemString(rows, devices[i].name, row) < 0) Py_CLEAR(rows);
        Py_XDECREF(row);
    }
    if (!rows) return NULL;
    return Py_BuildValue("{s:s,s:s,s:i,s:N}", "cpu_arch", ac_arch_name(ac_cpu_arch()), "cpu_reason", ac_cpu_reason(),
                         "num_threads", ac_cpu_num_threads(true), "runtimes", rows);
}

/* The value of a column: the names of a set as a tuple, the name of a number, or the number. */
static PyObject *column_value(const ac_column_t *column, int64_t value) {
    if (column->match != AC_ONE_OF)
        return column->text ? PyUnicode_FromString(column->text(value)) : PyLong_FromLongLong(value);
    PyObject *list = PyList_New(0), *tuple;
    for (int i = 0; list && i < 64; i++) {
        if (!(value >> i & 1)) continue;
        PyObject *name = column->text ? PyUnicode_FromString(column->text(i)) : PyLong_FromLong(i);
        if (!name || PyList_Append(list, name) < 0) Py_CLEAR(list);
        Py_XDECREF(name);
    }
    tuple = list ? PyList_AsTuple(list) : NULL;
    Py_XDECREF(list);
    return tuple;
}

/* Takes `value` over. */
static int set_item(PyObject *dict, const char *name, PyObject *value) {
    int status = value ? PyDict_SetItemString(dict, name, value) : -1;
    Py_XDECREF(value);
    return status;
}

static PyObject *kernel_row(const ac_kernel_t *kernel) {
    const ac_kernel_family_t *family = kernel->family;
    bool available = ac_arch_is_cpu(kernel->arch) ? kernel->run && kernel->arch <= ac_cpu_arch()
                                                  : ac_code_object_exists(kernel);
    PyObject *row = Py_BuildValue("{s:s,s:s,s:s,s:i,s:i,s:i,s:z,s:N}", "name", kernel->name, "op", family->name, "arch",
                                  ac_arch_name(kernel->arch), "tile_rows", kernel->tile_rows, "local_bytes",
                                  kernel->local_bytes, "threads", kernel->threads, "object", kernel->object,
                                  "available", PyBool_FromLong(available));
    for (int i = 0; row && i < family->column_count; i++)
        if (set_item(row, family->columns[i].name, column_value(&family->columns[i], kernel->keys[i])) < 0)
            Py_CLEAR(row);
    for (unsigned feature = 1; row && feature < AC_FEATURE_END; feature <<= 1)
        if (set_item(row, ac_feature_name(feature), PyBool_FromLong((kernel->features & feature) != 0)) < 0)
            Py_CLEAR(row);
    return row;
}

PyObject *py_kernel_table(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    PyObject *table = PyList_New(0);
    const ac_kernel_t *kernel;
    for (int i = 0; table && (kernel = ac_kernel(i)) != NULL; i++) {
        PyObject *row = kernel_row(kernel);
        if (!row || PyList_Append(table, row) < 0) Py_CLEAR(table);
        Py_XDECREF(row);
    }
    return table;
}

static const char *const kind_names[] = {
    [AC_KIND_TENSOR] = "tensor",   [AC_KIND_INT] = "int",       [AC_KIND_FLOAT] = "float",
    [AC_KIND_BOOL] = "bool",       [AC_KIND_DTYPE] = "dtype",   [AC_KIND_CHOICE] = "choice",
    [AC_KIND_DEVICE] = "device",   [AC_KIND_SCALE] = "scale",   [AC_KIND_PLAN] = "plan",
    [AC_KIND_TENSORS] = "tensors", [AC_KIND_STREAM] = "stream", [AC_KIND_IGNORED] = "ignored",
    [AC_KIND_GROUP] = "group"};

/* [(name, default or None, kind, may be None, is written, choices, is a workspace)]; "*" is the keyword-only mark. */
static PyObject *op_params(const ac_op_t *op) {
    PyObject *list = PyList_New(0);
    for (int i = 0; list && i < op->param_count; i++) {
        const ac_param_t *param = &op->params[i];
        PyObject *choices = PyList_New(0);
        for (int n = 0; choices && param->choices && param->choices[n]; n++) {
            PyObject *name = PyUnicode_FromString(param->choices[n]);
            if (!name || PyList_Append(choices, name) < 0) Py_CLEAR(choices);
            Py_XDECREF(name);
        }
        PyObject *row = Py_BuildValue("(szsNNNN)", param->name, param->default_text[0] ? param->default_text + 1 : NULL,
                                      param->name[0] == '*' ? "*" : kind_names[param->kind],
                                      PyBool_FromLong((param->flags & AC_OPTIONAL) != 0),
                                      PyBool_FromLong((param->flags & AC_OUTPUT) != 0), choices,
                                      PyBool_FromLong((param->flags & AC_WORKSPACE) != 0));
        if (!row || PyList_Append(list, row) < 0) Py_CLEAR(list);
        Py_XDECREF(row);
    }
    return list;
}

static const char *const field_types[] = {
    [AC_FIELD_INT32] = "int", [AC_FIELD_INT64] = "int",  [AC_FIELD_BOOL] = "bool",    [AC_FIELD_DTYPE] = "str",
    [AC_FIELD_TEXT] = "str",  [AC_FIELD_DEVICE] = "str", [AC_FIELD_KERNEL] = "kernel"};

PyObject *py_plan_table(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    PyObject *table = PyList_New(0);
    for (int i = 0; table && i < ac_plan_kind_count; i++) {
        const ac_plan_kind_t *kind = ac_plan_kinds[i];
        PyObject *fields = PyList_New(0);
        for (int n = 0; fields && n < kind->field_count; n++) {
            if (kind->fields[n].flags & AC_PLAN_HIDDEN) continue;
            PyObject *field = Py_BuildValue("(ss)", kind->fields[n].name, field_types[kind->fields[n].kind]);
            if (!field || PyList_Append(fields, field) < 0) Py_CLEAR(fields);
            Py_XDECREF(field);
        }
        PyObject *row = Py_BuildValue("{s:s,s:N}", "name", kind->name, "fields", fields);
        if (!row || PyList_Append(table, row) < 0) Py_CLEAR(table);
        Py_XDECREF(row);
    }
    return table;
}

PyObject *py_op_table(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    static const char *const returns[] = {[AC_RETURNS_NONE] = "none",
                                          [AC_RETURNS_PLAN] = "plan",
                                          [AC_RETURNS_STAGE] = "stage",
                                          [AC_RETURNS_WORKSPACES] = "workspaces",
                                          [AC_RETURNS_INT] = "int"};
    PyObject *table = PyList_New(0);
    for (int i = 0; table && i < ac_op_count; i++) {
        const ac_op_t *op = ac_ops[i];
        PyObject *row = Py_BuildValue("{s:s,s:s,s:s,s:z,s:N}", "name", op->name, "user_name", op->user_name, "returns",
                                      returns[op->returns], "plan", op->plan_kind ? op->plan_kind->name : NULL,
                                      "params", op_params(op));
        if (!row || PyList_Append(table, row) < 0) Py_CLEAR(table);
        Py_XDECREF(row);
    }
    return table;
}

/* None when the code object of a GPU kernel is there and built from the sources of this extension, else why not. */
static PyObject *code_object_state(const ac_kernel_t *kernel) {
    ac_code_object_t object;
    ac_error_t error = {0};
    if (ac_code_object_open(kernel, &object, &error) == 0) ac_code_object_close(&object);
    return text_or_none(error.text);
}

/* Adds "<arch>/<object>" of the kernel, unless another kernel of the object has. */
static int add_code_object(PyObject *states, const ac_kernel_t *kernel) {
    PyObject *key = PyUnicode_FromFormat("%s/%s", ac_arch_name(kernel->arch), kernel->object);
    int known = key ? PyDict_Contains(states, key) : -1;
    PyObject *state = known == 0 ? code_object_state(kernel) : NULL;
    int status = known > 0 ? 0 : state ? PyDict_SetItem(states, key, state) : -1;
    Py_XDECREF(key);
    Py_XDECREF(state);
    return status;
}

PyObject *py_code_objects(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    PyObject *states = PyDict_New();
    const ac_kernel_t *kernel;
    for (int i = 0; states && (kernel = ac_kernel(i)) != NULL; i++)
        if (kernel->object && add_code_object(states, kernel) < 0) Py_CLEAR(states);
    return states;
}

PyObject *py_dlpack_path(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    ac_state_t *state = ac_state(module);
    PyObject *values[1];
    ac_type_entry_t entry;
    if (ac_bind(ac_function_signature(state, AC_FN_dlpack_path), args, nargs, kwnames, values) < 0) return NULL;
    PyTypeObject *type = PyType_Check(values[0]) ? (PyTypeObject *)values[0] : Py_TYPE(values[0]);
    if (ac_type_lookup(state, "dlpack_path", "type_or_obj", type, &entry) < 0) return NULL;
    return PyUnicode_FromString(ac_path_name(entry.path));
}

PyObject *py_tensor_shape(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames) {
    ac_state_t *state = ac_state(module);
    PyObject *values[3], *shape;
    ac_tensor_t tensor;
    if (ac_bind(ac_function_signature(state, AC_FN_tensor_shape), args, nargs, kwnames, values) < 0) return NULL;
    for (int i = 0; i < 2; i++)
        if (!PyUnicode_Check(values[i])) {
            ac_expected("tensor_shape", i ? "name" : "op", "str", values[i]);
            return NULL;
        }
    const char *op = PyUnicode_AsUTF8AndSize(values[0], NULL);
    const char *name = op ? PyUnicode_AsUTF8AndSize(values[1], NULL) : NULL;
    if (!name || ac_tensor_import(state, op, name, values[2], AC_TENSOR_INPUT, &tensor) < 0) return NULL;
    shape = ac_sizes(tensor.view.shape, tensor.view.ndim);
    ac_tensor_release(&tensor, 1);
    return shape;
}

PyObject *py_cpu_ceilings(PyObject *module, PyObject *Py_UNUSED(ignored)) {
    ac_cpu_ceilings_t ceilings;
    ac_error_t error = {0};
    int status;
    Py_BEGIN_ALLOW_THREADS
    status = ac_cpu_measure_ceilings(&ceilings, &error);
    Py_END_ALLOW_THREADS
    if (status < 0) return ac_raise(ac_state(module), &error);
    return Py_BuildValue("{s:d,s:d,s:d,s:d}", "read_bytes_per_s", ceilings.read_bytes_per_s, "f32_flop_per_s",
                         ceilings.f32_flop_per_s, "bf16_flop_per_s", ceilings.bf16_flop_per_s, "amx_flop_per_s",
                         ceilings.amx_flop_per_s);
}
