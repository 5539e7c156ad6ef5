/* Errors as Python exceptions: by kind, and as a refusal with the exception of a producer as its cause. */
#include "errors.h"

#include <string.h>

PyDoc_STRVAR(unsupported_doc, "A well-formed request that no kernel of this build serves on this device.");
PyDoc_STRVAR(device_doc, "A call into a device runtime failed.\n\n"
                         "code: the runtime's number; name: its name of that number; call: what was called.");

int ac_errors_init(ac_state_t *state, PyObject *module) {
    int result = -1;
    PyObject *fields = Py_BuildValue("{s:O,s:O,s:O}", "code", Py_None, "name", Py_None, "call", Py_None);
    if (!fields) goto done;
    state->unsupported_error = PyErr_NewExceptionWithDoc("aiter_c.UnsupportedError", unsupported_doc,
                                                         PyExc_NotImplementedError, NULL);
    if (!state->unsupported_error) goto done;
    state->device_error = PyErr_NewExceptionWithDoc("aiter_c.DeviceError", device_doc, PyExc_RuntimeError, fields);
    if (!state->device_error) goto done;
    if (PyModule_AddObjectRef(module, "UnsupportedError", state->unsupported_error) < 0) goto done;
    result = PyModule_AddObjectRef(module, "DeviceError", state->device_error);
done:
    Py_XDECREF(fields);
    return result;
}

/* Names of files and devices stand in the texts, which may be cut anywhere: what is not UTF-8 is replaced. */
static PyObject *decode(const char *text) { return PyUnicode_DecodeUTF8(text, (Py_ssize_t)strlen(text), "replace"); }

static void raise_text(PyObject *type, const char *text) {
    PyObject *message = decode(text);
    if (message) PyErr_SetObject(type, message);
    Py_XDECREF(message);
}

/* Without a call that failed (a code object is missing, ...) the three attributes stay None. */
static void raise_device_error(const ac_state_t *state, const ac_error_t *error) {
    PyObject *code = PyLong_FromLong(error->code);
    PyObject *name = decode(error->code_name);
    PyObject *call = decode(error->call);
    PyObject *text = decode(error->text);
    PyObject *exception = NULL;
    if (!code || !name || !call || !text) goto done;
    exception = PyObject_CallFunctionObjArgs(state->device_error, text, NULL);
    if (!exception) goto done;
    if (error->call[0] &&
        (PyObject_SetAttrString(exception, "code", code) < 0 || PyObject_SetAttrString(exception, "name", name) < 0 ||
         PyObject_SetAttrString(exception, "call", call) < 0))
        goto done;
    PyErr_SetObject(state->device_error, exception);
done:
    Py_XDECREF(code);
    Py_XDECREF(name);
    Py_XDECREF(call);
    Py_XDECREF(text);
    Py_XDECREF(exception);
}

PyObject *ac_raise(const ac_state_t *state, const ac_error_t *error) {
    switch (error->kind) {
    case AC_ERROR_TYPE: raise_text(PyExc_TypeError, error->text); break;
    case AC_ERROR_VALUE: raise_text(PyExc_ValueError, error->text); break;
    case AC_ERROR_UNSUPPORTED: raise_text(state->unsupported_error, error->text); break;
    case AC_ERROR_DEVICE: raise_device_error(state, error); break;
    case AC_ERROR_MEMORY: raise_text(PyExc_MemoryError, error->text); break;
    case AC_ERROR_INTERRUPTED: /* live already, but in a child that the handler forked */
        if (!PyErr_Occurred()) raise_text(PyExc_RuntimeError, error->text);
        break;
    case AC_ERROR_NONE: PyErr_SetString(PyExc_SystemError, "aiter_c: a failed call left no error"); break;
    }
    return NULL;
}

/* "op: name: text", and ": <first line of the exception>" with a reason: torch appends a C++ stack, which stays in the
 * cause. */
static void set_text(PyObject *type, const char *op, const char *name, const char *text) {
    PyErr_Format(type, "%s: %s: %s", op, name, text);
}

static void set_text_with_reason(PyObject *type, const char *op, const char *name, const char *text, PyObject *cause) {
    PyObject *reason = PyObject_Str(cause), *first = NULL;
    const char *utf8 = reason ? PyUnicode_AsUTF8AndSize(reason, NULL) : NULL;
    if (utf8) first = PyUnicode_DecodeUTF8(utf8, (Py_ssize_t)strcspn(utf8, "\n"), "replace");
    if (first) PyErr_Format(type, "%s: %s: %s: %U", op, name, text, first);
    Py_XDECREF(reason);
    Py_XDECREF(first);
}

static int replace_live(PyObject *type, const char *op, const char *name, const char *text, bool with_reason) {
    PyObject *old_type, *cause, *traceback, *new_type, *exception, *new_traceback;
    if (!PyErr_Occurred()) { /* a producer that fails without saying why */
        set_text(type, op, name, text);
        return -1;
    }
    if (!PyErr_ExceptionMatches(PyExc_Exception) || PyErr_ExceptionMatches(PyExc_MemoryError)) return -1;
    PyErr_Fetch(&old_type, &cause, &traceback);
    PyErr_NormalizeException(&old_type, &cause, &traceback);
    if (traceback) PyException_SetTraceback(cause, traceback);
    if (with_reason) set_text_with_reason(type, op, name, text, cause);
    else set_text(type, op, name, text);
    PyErr_Fetch(&new_type, &exception, &new_traceback);
    PyErr_NormalizeException(&new_type, &exception, &new_traceback);
    PyException_SetCause(exception, Py_NewRef(cause)); /* steals */
    PyException_SetContext(exception, cause);          /* steals */
    PyErr_Restore(new_type, exception, new_traceback);
    Py_XDECREF(old_type);
    Py_XDECREF(traceback);
    return -1;
}

int ac_raise_from_live(PyObject *type, const char *op, const char *name, const char *text) {
    return replace_live(type, op, name, text, true);
}

int ac_raise_instead(PyObject *type, const char *op, const char *name, const char *text) {
    return replace_live(type, op, name, text, false);
}
