/* Arguments that name a dtype, a cache format or a device, by their texts. */
#include "dtype_arg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "argparse.h"
#include "torch.h"

/* A new reference to the text by which a dtype object goes, or NULL: it has none, or an exception is set. */
static PyObject *dtype_text(PyObject *object) {
    if (PyUnicode_Check(object)) return Py_NewRef(object);
    if (PyType_Check(object)) return PyType_GetName((PyTypeObject *)object); /* numpy.float32, ml_dtypes.bfloat16 */
    PyObject *name = PyObject_GetAttrString(object, "name"); /* a NumPy dtype has one, a torch dtype has not */
    if (name || !PyErr_ExceptionMatches(PyExc_AttributeError)) return name;
    PyErr_Clear();
    return PyObject_Str(object); /* "torch.bfloat16" */
}

/* A NumPy dtype in the other byte order has the same name. */
static int is_native(PyObject *object, bool *out_native) {
    PyObject *native = PyObject_GetAttrString(object, "isnative");
    *out_native = true;
    if (!native) {
        if (!PyErr_ExceptionMatches(PyExc_AttributeError)) return -1;
        PyErr_Clear();
        return 0;
    }
    int truth = PyObject_IsTrue(native);
    Py_DECREF(native);
    *out_native = truth != 0;
    return truth < 0 ? -1 : 0;
}

int ac_to_dtype(const char *op, const char *name, PyObject *object, ac_dtype_t *out_dtype) {
    bool native = true;
    int result = -1;
    PyObject *text = dtype_text(object);
    if (!text) return -1;
    *out_dtype = AC_DTYPE_NONE;
    if (PyUnicode_Check(text)) {
        Py_ssize_t size;
        const char *utf8 = PyUnicode_AsUTF8AndSize(text, &size);
        if (!utf8) goto done;
        native = strlen(utf8) == (size_t)size; /* no zero inside, where C would end */
        if (native && !PyUnicode_Check(object) && !PyType_Check(object)) {
            if (is_native(object, &native) < 0) goto done;
            if (strncmp(utf8, "torch.", 6) == 0) utf8 += 6;
        }
        if (native) *out_dtype = ac_dtype_from_name(utf8);
    }
    if (*out_dtype == AC_DTYPE_NONE)
        PyErr_Format(PyExc_TypeError,
                     "%s: %s: expected a dtype (a name such as 'bfloat16', or one of NumPy, ml_dtypes or torch), "
                     "got %R",
                     op, name, object);
    else result = 0;
done:
    Py_DECREF(text);
    return result;
}

/* The place of a str among the names, -1: not there, or an exception is set. */
static int find_choice(PyObject *object, const char *const *choices) {
    Py_ssize_t size;
    const char *utf8 = PyUnicode_AsUTF8AndSize(object, &size);
    for (int i = 0; utf8 && choices[i]; i++)
        if (strlen(choices[i]) == (size_t)size && memcmp(choices[i], utf8, (size_t)size) == 0) return i;
    return -1;
}

int ac_to_dtype_or_choice(const char *op, const char *name, PyObject *object, const char *const *choices,
                          int *out_value) {
    ac_dtype_t dtype;
    if (choices && PyUnicode_Check(object)) {
        int place = find_choice(object, choices);
        if (place < 0 && PyErr_Occurred()) return -1;
        *out_value = AC_DTYPE_CHOICE + place;
        if (place >= 0) return 0;
    }
    if (ac_to_dtype(op, name, object, &dtype) < 0) return -1;
    *out_value = (int)dtype;
    return 0;
}

int ac_to_choice(const char *op, const char *name, PyObject *object, const char *const *choices, bool or_none,
                 int *out_place) {
    char names[128] = "";
    if (!PyUnicode_Check(object)) return ac_expected(op, name, or_none ? "str or None" : "str", object);
    *out_place = find_choice(object, choices);
    if (*out_place >= 0 || PyErr_Occurred()) return *out_place < 0 ? -1 : 0;
    for (int i = 0, used = 0; choices[i] && used < (int)sizeof names; i++)
        used += snprintf(names + used, sizeof names - (size_t)used, "%s'%s'", i ? ", " : "", choices[i]);
    PyErr_Format(PyExc_ValueError, "%s: %s: expected one of %s, got %R", op, name, names, object);
    return -1;
}

int ac_to_device(const char *op, const char *name, PyObject *object, ac_device_t *out_device) {
    static const struct {
        const char *name;
        int type;
    } devices[] = {{"cpu", AC_DEVICE_CPU}, {"cuda", AC_DEVICE_CUDA}, {"hip", AC_DEVICE_HIP}};
    int result = -1;
    *out_device = (ac_device_t){AC_DEVICE_CPU, 0};
    if (!object) return 0;
    bool is_hip = false;
    if (!PyUnicode_Check(object) && ac_torch_device_is_hip(object, &is_hip) < 0) return -1;
    PyObject *text = PyObject_Str(object);
    const char *utf8 = text ? PyUnicode_AsUTF8AndSize(text, NULL) : NULL;
    if (!utf8) goto done;
    size_t length = strcspn(utf8, ":");
    for (size_t i = 0; i < sizeof devices / sizeof devices[0]; i++) {
        if (strlen(devices[i].name) != length || strncmp(devices[i].name, utf8, length) != 0) continue;
        char *end = NULL;
        const char *digits = utf8 + length + 1;
        bool numbered = utf8[length] == ':' && *digits >= '0' && *digits <= '9';
        long index = numbered ? strtol(digits, &end, 10) : 0;
        if (utf8[length] == ':' && (!numbered || *end || index > INT16_MAX)) break;
        *out_device = (ac_device_t){devices[i].type, devices[i].type == AC_DEVICE_CPU ? 0 : (int)index};
        if (is_hip && out_device->type == AC_DEVICE_CUDA) out_device->type = AC_DEVICE_HIP;
        result = 0;
        goto done;
    }
    PyErr_Format(PyExc_ValueError, "%s: %s: expected a device such as 'cpu', 'cuda:0' or 'hip:1', got %R", op, name,
                 object);
done:
    Py_XDECREF(text);
    return result;
}
