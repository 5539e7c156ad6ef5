/* What other packages have loaded: types by their names, attributes of modules in sys.modules. Imports nothing. */
#include "loaded.h"

PyObject *ac_attribute(PyObject *object, const char *name) {
    PyObject *value = PyObject_GetAttrString(object, name);
    if (!value && PyErr_ExceptionMatches(PyExc_AttributeError)) PyErr_Clear();
    return value;
}

PyObject *ac_loaded(const char *module, const char *attribute) {
    PyObject *name = PyUnicode_FromString(module);
    PyObject *found = name ? PyImport_GetModule(name) : NULL;
    PyObject *value = found ? PyObject_GetAttrString(found, attribute) : NULL;
    /* A module may answer by code of its own: what goes wrong there is no more than a missing attribute. */
    if (!value && PyErr_ExceptionMatches(PyExc_Exception) && !PyErr_ExceptionMatches(PyExc_MemoryError)) PyErr_Clear();
    Py_XDECREF(name);
    Py_XDECREF(found);
    return value;
}

/* 1, 0, or -1 with an exception. */
static int has_names(PyObject *type, const char *module, const char *name) {
    if (!PyType_Check(type)) return 0;
    PyObject *own_name = PyType_GetName((PyTypeObject *)type);
    if (!own_name) return -1;
    bool same = PyUnicode_CompareWithASCIIString(own_name, name) == 0;
    Py_DECREF(own_name);
    if (!same) return 0;
    PyObject *own_module = ac_attribute(type, "__module__");
    if (!own_module) return PyErr_Occurred() ? -1 : 0;
    same = PyUnicode_Check(own_module) && PyUnicode_CompareWithASCIIString(own_module, module) == 0;
    Py_DECREF(own_module);
    return same;
}

PyObject *ac_base_named(PyTypeObject *type, const char *module, const char *name) {
    PyObject *bases = PyObject_GetAttrString((PyObject *)type, "__mro__"), *found = NULL;
    Py_ssize_t count = bases && PyTuple_Check(bases) ? PyTuple_Size(bases) : 0; /* a metaclass may say anything */
    for (Py_ssize_t i = 0; i < count && !found; i++) {
        PyObject *base = PyTuple_GetItem(bases, i);
        int same = base ? has_names(base, module, name) : -1;
        if (same < 0) break;
        if (same) found = Py_NewRef(base);
    }
    Py_XDECREF(bases);
    return found;
}
