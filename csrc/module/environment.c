/* The AITER_C_* switches: read once, checked, applied. A value that is no good is ignored with a warning: it must not
 * keep a program from importing the package, and `python -m aiter_c env` shows it. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* O_PATH */
#endif
#include "environment.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../core/fault.h"
#include "../core/log.h"
#include "../cpu/cpu.h"
#include "../device/device.h"
#include "errors.h"

enum {
    CPU,
    NUM_THREADS,
    DLPACK_EXCHANGE,
    HIP_LIBRARY,
    HSA,
    LOG,
    DUMP,
    DUMP_CALLS,
    DUMP_MB,
#ifdef AC_FAULTS
    FAULT,
#endif
    SWITCH_COUNT
};

enum { WORD = 64, PATH = 1024, PROBLEM = 192 };

/* The process reads its environment once: a copy, since a later setenv may free what getenv returned. */
static struct {
    const char *const name, *const meaning;
    const size_t size;     /* of the longest value, and its terminating zero */
    char value[PATH];      /* as it was given, cut at `size` */
    bool set;              /* to a value that counts */
    char problem[PROBLEM]; /* why the value that was given does not; empty: it does, or there is none */
} switches[SWITCH_COUNT] = {
    [CPU] = {"AITER_C_CPU", "CPU path: amx, avx512bf16, avx512, avx2 or portable; unset: the best this processor has",
             WORD, "", false, ""},
    [NUM_THREADS] = {"AITER_C_NUM_THREADS", "CPU threads; 0 or unset: as many as the process may run on", WORD, "",
                     false, ""},
    [DLPACK_EXCHANGE] = {"AITER_C_DLPACK_EXCHANGE", "0: tensors come in without DLPack's C exchange API", WORD, "",
                         false, ""},
    [HIP_LIBRARY] = {"AITER_C_HIP_LIBRARY",
                     "the library that serves as libamdhip64; unset: the one of this process, of the system or of pip",
                     PATH, "", false, ""},
    [HSA] = {"AITER_C_HSA", "the folder of the code objects; unset: hsa/ of the package", PATH, "", false, ""},
    [LOG] = {"AITER_C_LOG",
             "what calls write to standard error: 1 tensors, 2 plans and launches, 3 times on the device", WORD, "",
             false, ""},
    [DUMP] = {"AITER_C_DUMP", "the folder that calls are written to, for `python -m aiter_c replay`; unset: none are",
              PATH, "", false, ""},
    [DUMP_CALLS] = {"AITER_C_DUMP_CALLS",
                    "which calls: OP, OP:failed, OP:3, OP:3-5, several with commas, * for every op; unset: *:failed",
                    PATH, "", false, ""},
    [DUMP_MB] = {"AITER_C_DUMP_MB", "calls with more megabytes of tensors are not written; unset: 4096", WORD, "",
                 false, ""},
#ifdef AC_FAULTS
    [FAULT] = {"AITER_C_FAULT", "the planted bug that is active (faults build only)", WORD, "", false, ""},
#endif
};
static const char *cpu_reason;
static char hip_package_folder[PATH];

const char *ac_cpu_reason(void) { return cpu_reason ? cpu_reason : ""; }

/* Ignores the value and says so. Fails only where the program made warnings errors. */
__attribute__((format(printf, 2, 3))) static int ignore(int i, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(switches[i].problem, sizeof switches[i].problem, format, arguments);
    va_end(arguments);
    switches[i].set = false;
    return PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "%s: %s; it is ignored", switches[i].name, switches[i].problem);
}

static int read_switches(void) {
    for (int i = 0; i < SWITCH_COUNT; i++) {
        const char *value = getenv(switches[i].name);
        switches[i].set = value && *value;
        switches[i].problem[0] = '\0';
        if (!switches[i].set) continue;
        snprintf(switches[i].value, switches[i].size, "%s", value);
        if (strlen(value) < switches[i].size) continue;
        if (ignore(i, "expected less than %zu characters, got %.80s...", switches[i].size, value) < 0) return -1;
    }
    return 0;
}

static int apply_cpu(const char **out_reason) {
    ac_error_t error = {0};
    if (ac_cpu_choose_arch(switches[CPU].set ? switches[CPU].value : NULL, out_reason, &error) == 0) return 0;
    const char *text = strstr(error.text, "expected"); /* the warning names the switch itself */
    if (ignore(CPU, "%s", text ? text : error.text) < 0) return -1;
    return ac_cpu_choose_arch(NULL, out_reason, &error);
}

static int apply_num_threads(void) {
    ac_error_t error = {0};
    const char *text = switches[NUM_THREADS].value;
    char *end;
    if (!switches[NUM_THREADS].set) return 0;
    long count = strtol(text, &end, 10);
    if (*end == '\0' && count >= 0 && count <= AC_CPU_MAX_THREADS && ac_cpu_set_num_threads((int)count, &error) == 0)
        return 0;
    return ignore(NUM_THREADS, "expected 0 (automatic) .. %d, got '%s'", AC_CPU_MAX_THREADS, text);
}

static int check_exchange(void) {
    const char *text = switches[DLPACK_EXCHANGE].value;
    if (!switches[DLPACK_EXCHANGE].set || strcmp(text, "0") == 0 || strcmp(text, "1") == 0) return 0;
    return ignore(DLPACK_EXCHANGE, "expected 0 or 1, got '%s'", text);
}

/* A library may be named for the loader to find: whether that works is seen, and said, when it is loaded. */
static int check_folder(void) {
    const char *path = switches[HSA].value;
    if (!switches[HSA].set) return 0;
    int folder = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (folder >= 0) return close(folder);
    return ignore(HSA, "expected a folder, got '%.128s'", path);
}

static int apply_log(void) {
    const char *text = switches[LOG].value;
    if (!switches[LOG].set) return 0;
    if (text[0] < '0' || text[0] > '3' || text[1]) return ignore(LOG, "expected 0 to 3, got '%s'", text);
    ac_log_level = text[0] - '0';
    return 0;
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

/* What belongs to the process, by the first import. */
static int init_process(void) {
    const char *reason = NULL;
    if (read_switches() < 0 || apply_cpu(&reason) < 0 || apply_num_threads() < 0) return -1;
    if (check_exchange() < 0 || check_folder() < 0 || apply_log() < 0 || apply_device_switches() < 0) return -1;
#ifdef AC_FAULTS
    ac_active_fault = switches[FAULT].set ? switches[FAULT].value : NULL;
#endif
    cpu_reason = reason ? reason : "";
    return 0;
}

int ac_environment_init(ac_state_t *state) {
    if (!cpu_reason && init_process() < 0) return -1;
    state->use_exchange = !switches[DLPACK_EXCHANGE].set || switches[DLPACK_EXCHANGE].value[0] != '0';
    return 0;
}

/* Text from outside may be no UTF-8; Python's form of it can be printed and given back. */
static PyObject *text_or_none(const char *text, bool there) {
    return there ? PyUnicode_DecodeFSDefault(text) : Py_NewRef(Py_None);
}

PyObject *py_environment(PyObject *Py_UNUSED(module), PyObject *Py_UNUSED(ignored)) {
    PyObject *result = PyDict_New();
    for (int i = 0; result && i < SWITCH_COUNT; i++) {
        const bool ignored = switches[i].problem[0] != '\0';
        PyObject *row = Py_BuildValue("(NsN)", text_or_none(switches[i].value, switches[i].set), switches[i].meaning,
                                      text_or_none(switches[i].problem, ignored));
        if (!row || PyDict_SetItemString(result, switches[i].name, row) < 0) Py_CLEAR(result);
        Py_XDECREF(row);
    }
    return result;
}
