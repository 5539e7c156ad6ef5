#include "environment.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../core/fault.h"
#include "../cpu/cpu.h"
#include "../device/device.h"
#include "errors.h"

enum {
    CPU,
    NUM_THREADS,
    DLPACK_EXCHANGE,
    HIP_LIBRARY,
    HSA,
#ifdef AC_FAULTS
    FAULT,
#endif
    SWITCH_COUNT
};

enum { WORD = 64, PATH = 1024 };

/* The process reads its environment once: a copy, since a later setenv may free what getenv returned. */
static struct {
    const char *const name, *const meaning;
    const size_t size; /* of the longest value, and its terminating zero */
    char value[PATH];
    bool set;
} switches[SWITCH_COUNT] = {
    [CPU] = {"AITER_C_CPU", "CPU path: amx, avx512bf16, avx512, avx2 or portable; unset: the best this processor has",
             WORD, "", false},
    [NUM_THREADS] = {"AITER_C_NUM_THREADS", "CPU threads; unset: as many as the process may run on", WORD, "", false},
    [DLPACK_EXCHANGE] = {"AITER_C_DLPACK_EXCHANGE", "0: tensors come in without DLPack's C exchange API", WORD, "",
                         false},
    [HIP_LIBRARY] = {"AITER_C_HIP_LIBRARY",
                     "the library that serves as libamdhip64; unset: the one of this process, of the system or of pip",
                     PATH, "", false},
    [HSA] = {"AITER_C_HSA", "the folder of the code objects; unset: hsa/ of the package", PATH, "", false},
#ifdef AC_FAULTS
    [FAULT] = {"AITER_C_FAULT", "the planted bug that is active (faults build only)", WORD, "", false},
#endif
};
static const char *cpu_reason;
static char hip_package_folder[PATH];

const char *ac_cpu_reason(void) { return cpu_reason ? cpu_reason : ""; }

static int read_switches(void) {
    for (int i = 0; i < SWITCH_COUNT; i++) {
        const char *value = getenv(switches[i].name);
        switches[i].set = value && *value;
        if (!switches[i].set) continue;
        if (strlen(value) >= switches[i].size) {
            PyErr_Format(PyExc_ValueError, "%s: expected less than %zu characters, got %.80s...", switches[i].name,
                         switches[i].size, value);
            return -1;
        }
        strcpy(switches[i].value, value);
    }
    return 0;
}

static int apply_num_threads(ac_state_t *state) {
    ac_error_t error = {0};
    const char *text = switches[NUM_THREADS].value;
    char *end;
    if (!switches[NUM_THREADS].set) return 0;
    long count = strtol(text, &end, 10);
    if (*end || count < 1 || count > AC_CPU_MAX_THREADS) {
        PyErr_Format(PyExc_ValueError, "%s: expected 1 .. %d, got '%s'", switches[NUM_THREADS].name, AC_CPU_MAX_THREADS,
                     text);
        return -1;
    }
    if (ac_cpu_set_num_threads((int)count, &error) == 0) return 0;
    ac_raise(state, &error);
    return -1;
}

/* pip's HIP libraries, the package rocm-sdk-core, in the first folder of sys.path that has them. */
static int find_hip_package(void) {
    PyObject *path = PySys_GetObject("path"); /* borrowed */
    Py_ssize_t count = path && PyList_Check(path) ? PyList_Size(path) : 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *entry = PyList_GetItem(path, i), *bytes = NULL; /* borrowed, new */
        if (!entry || !PyUnicode_Check(entry)) continue;
        if (!PyUnicode_FSConverter(entry, &bytes)) return -1;
        int length = snprintf(hip_package_folder, sizeof hip_package_folder, "%s/_rocm_sdk_core/lib",
                              PyBytes_AsString(bytes));
        Py_DECREF(bytes);
        if ((size_t)length < sizeof hip_package_folder && access(hip_package_folder, X_OK) == 0) return 0;
    }
    hip_package_folder[0] = '\0';
    return 0;
}

static int apply_device_switches(void) {
    if (find_hip_package() < 0) return -1;
    ac_device_configure(&(ac_device_config_t){
        .hip_library = switches[HIP_LIBRARY].set ? switches[HIP_LIBRARY].value : NULL,
        .hip_package_folder = hip_package_folder[0] ? hip_package_folder : NULL,
        .code_object_folder = switches[HSA].set ? switches[HSA].value : NULL,
    });
    return 0;
}

int ac_environment_init(ac_state_t *state) {
    ac_error_t error = {0};
    const char *reason = NULL;
    if (!cpu_reason) {
        if (read_switches() < 0) return -1;
        if (ac_cpu_choose_arch(switches[CPU].set ? switches[CPU].value : NULL, &reason, &error) < 0) {
            PyErr_SetString(PyExc_ValueError, error.text);
            return -1;
        }
        if (apply_num_threads(state) < 0) return -1;
        if (apply_device_switches() < 0) return -1;
#ifdef AC_FAULTS
        ac_active_fault = switches[FAULT].set ? switches[FAULT].value : NULL;
#endif
        cpu_reason = reason ? reason : "";
    }
    const char *exchange = switches[DLPACK_EXCHANGE].value;
    if (switches[DLPACK_EXCHANGE].set && strcmp(exchange, "0") != 0 && strcmp(exchange, "1") != 0) {
        PyErr_Format(PyExc_ValueError, "%s: expected 0 or 1, got '%s'", switches[DLPACK_EXCHANGE].name, exchange);
        return -1;
    }
    state->use_exchange = strcmp(exchange, "0") != 0;
    return 0;
}

PyObject *py_environment(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    PyObject *result = PyDict_New();
    for (int i = 0; result && i < SWITCH_COUNT; i++) {
        PyObject *row = Py_BuildValue("(zs)", switches[i].set ? switches[i].value : NULL, switches[i].meaning);
        if (!row || PyDict_SetItemString(result, switches[i].name, row) < 0) Py_CLEAR(result);
        Py_XDECREF(row);
    }
    return result;
}
