/* Loading a driver, its devices, their memory. Launching is in gpu_launch.c. */
#include "gpu.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "library.h"
#include "text.h"

static const char *title_of(const ac_gpu_t *gpu, int index, char *text, int size) {
    if (index < 0) return gpu->runtime.name;
    return ac_device_text((ac_device_t){gpu->runtime.device_type, index}, text, size);
}

/* Codes that a call returns because a kernel or copy before it failed; they stay until the process ends. */
static bool is_sticky(int code) {
    return code == 214 || code == 700 || code == 702 || code == 710 || (code >= 714 && code <= 719);
}

int ac_gpu_fail(ac_gpu_t *gpu, int index, ac_driver_call_t call, int code, ac_error_t *error) {
    const char *symbol = gpu->symbols[call].name, *name = gpu->error_name(gpu, code);
    char title[32];
    if (gpu->calls.last_error) gpu->calls.last_error(); /* HIP remembers it, and torch would take it for its own */
    if (!name) name = "unknown error";
    ac_fail(error, AC_ERROR_DEVICE, "%s: %s failed: %s (%d)%s", title_of(gpu, index, title, sizeof title), symbol, name,
            code, is_sticky(code) ? ", perhaps left by earlier work on the device" : "");
    error->code = code;
    snprintf(error->code_name, sizeof error->code_name, "%s", name);
    snprintf(error->call, sizeof error->call, "%s", symbol);
    return -1;
}

static int check(ac_gpu_t *gpu, int index, ac_driver_call_t call, int code, ac_error_t *error) {
    return code == 0 ? 0 : ac_gpu_fail(gpu, index, call, code, error);
}

/* In the child only the forking thread lives: a driver's threads are gone, and our lock may be held by nobody. */
static void after_fork(ac_gpu_t *gpu) {
    atomic_store(&gpu->forked, atomic_load(&gpu->loaded));
    pthread_mutex_init(&gpu->lock, NULL);
}

static void after_fork_in_child(void) {
    after_fork(&ac_hip);
    after_fork(&ac_cuda);
}

static void watch_forks(void) { pthread_atfork(NULL, NULL, after_fork_in_child); }

static int fail_forked(const ac_gpu_t *gpu, int index, ac_error_t *error) {
    char title[32];
    return ac_fail(error, AC_ERROR_DEVICE,
                   "%s: the %s driver was used before fork(), and a forked process cannot use it again; start "
                   "processes with multiprocessing's 'spawn' or 'forkserver' method",
                   title_of(gpu, index, title, sizeof title), gpu->title);
}

/* Fills `calls`; false with the names of what is missing. */
static bool resolve(ac_gpu_t *gpu, void *library, char *missing, size_t size) {
    ac_driver_calls_t calls = {0};
    _Static_assert(sizeof calls == AC_DRIVER_CALL_COUNT * sizeof(void *), "function pointers only");
    missing[0] = '\0';
    for (int i = 0; i < AC_DRIVER_CALL_COUNT; i++) {
        const ac_driver_symbol_t *symbol = &gpu->symbols[i];
        void *address = symbol->name ? dlsym(library, symbol->name) : NULL;
        memcpy((char *)&calls + (size_t)i * sizeof address, &address, sizeof address);
        if (!address && symbol->needed) ac_append(missing, size, "%s%s", missing[0] ? ", " : "", symbol->name);
    }
    if (missing[0]) return false;
    gpu->calls = calls;
    return true;
}

static int load_locked(ac_gpu_t *gpu, char *out_reason, size_t size) {
    const char *only, *folder;
    char missing[320];
    gpu->places(&only, &folder);
    void *library = ac_library_open(only, gpu->libraries, folder, gpu->attempts, sizeof gpu->attempts);
    if (!library) {
        snprintf(out_reason, size, "no %s driver library: %s", gpu->title, gpu->attempts);
        return -1;
    }
    if (!resolve(gpu, library, missing, sizeof missing)) { /* stays open: unloading a driver is not safe */
        snprintf(out_reason, size, "the %s driver library lacks %s", gpu->title, missing);
        return -1;
    }
    atomic_store(&gpu->loaded, true);
    return 0;
}

int ac_gpu_load(ac_gpu_t *gpu, char *out_reason, size_t size) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    int status = 0;
    if (atomic_load(&gpu->loaded)) return 0;
    pthread_once(&once, watch_forks);
    pthread_mutex_lock(&gpu->lock);
    if (!atomic_load(&gpu->loaded)) status = load_locked(gpu, out_reason, size);
    pthread_mutex_unlock(&gpu->lock);
    return status;
}

/* No device is a result, not a failure. */
static int start_locked(ac_gpu_t *gpu, ac_error_t *error) {
    int count = 0;
    ac_driver_call_t call = AC_CALL_init;
    int code = gpu->calls.init ? gpu->calls.init(0) : 0;
    if (code == 0) {
        call = AC_CALL_device_count;
        code = gpu->calls.device_count(&count);
    }
    if (code != 0 && ac_gpu_fail(gpu, -1, call, code, error) < 0 && code != AC_CODE_NO_DEVICE) return -1;
    if (code != 0) {
        snprintf(gpu->no_device, sizeof gpu->no_device, "%s", error->code_name);
        count = 0;
    }
    gpu->count = count < AC_GPU_MAX_DEVICES ? count : AC_GPU_MAX_DEVICES;
    atomic_store(&gpu->started, true);
    return 0;
}

int ac_gpu_device_count(const ac_runtime_t *self, int *out_count, ac_error_t *error) {
    ac_gpu_t *gpu = ac_gpu_of(self);
    int status = 0;
    if (!atomic_load(&gpu->started)) {
        if (atomic_load(&gpu->forked)) return fail_forked(gpu, -1, error);
        pthread_mutex_lock(&gpu->lock);
        if (!atomic_load(&gpu->started)) status = start_locked(gpu, error);
        pthread_mutex_unlock(&gpu->lock);
    }
    *out_count = gpu->count;
    return status;
}

/* The device, with its facts known. */
static int find_device(ac_gpu_t *gpu, int index, ac_gpu_device_t **out_device, ac_error_t *error) {
    int count = 0, status = 0;
    if (ac_gpu_device_count(&gpu->runtime, &count, error) < 0) return -1;
    if (index < 0 || index >= count)
        return ac_fail(error, AC_ERROR_VALUE, "expected one of %d %s devices, got %s:%d%s%s", count, gpu->runtime.name,
                       gpu->runtime.name, index, gpu->no_device[0] ? "; no device: " : "", gpu->no_device);
    if (atomic_load(&gpu->forked)) return fail_forked(gpu, index, error);
    ac_gpu_device_t *device = *out_device = &gpu->devices[index];
    if (atomic_load(&device->inspected)) return 0;
    pthread_mutex_lock(&gpu->lock);
    if (!atomic_load(&device->inspected)) {
        device->facts.max_items = INT32_MAX; /* the first dimension of a grid */
        device->facts.max_threads = gpu->max_threads;
        status = gpu->inspect(gpu, index, device, error);
        atomic_store(&device->inspected, status == 0);
    }
    pthread_mutex_unlock(&gpu->lock);
    return status;
}

int ac_gpu_facts(const ac_runtime_t *self, int index, ac_device_facts_t *out_facts, ac_error_t *error) {
    ac_gpu_t *gpu = ac_gpu_of(self);
    ac_gpu_device_t *device = NULL;
    char title[32], archs[96];
    if (find_device(gpu, index, &device, error) < 0) return -1;
    *out_facts = device->facts;
    if (device->facts.arch != AC_ARCH_COUNT) return 0;
    return ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: expected %s, got %s", title_of(gpu, index, title, sizeof title),
                   ac_arch_list_text((ac_device_type_t)self->device_type, archs, sizeof archs), device->arch_name);
}

int ac_gpu_begin(ac_gpu_t *gpu, int index, ac_gpu_device_t **out_device, int *out_saved, ac_error_t *error) {
    if (find_device(gpu, index, out_device, error) < 0) return -1;
    return gpu->enter(gpu, index, out_saved, error);
}

int ac_gpu_end(ac_gpu_t *gpu, int index, int saved, int status, ac_error_t *error) {
    ac_error_t second = {0};
    return gpu->leave(gpu, index, saved, status == 0 ? error : &second) < 0 ? -1 : status;
}

int ac_gpu_alloc(const ac_runtime_t *self, int index, size_t bytes, void **out_pointer, ac_error_t *error) {
    ac_gpu_t *gpu = ac_gpu_of(self);
    ac_gpu_device_t *device = NULL;
    char title[32];
    int saved = 0;
    if (ac_gpu_begin(gpu, index, &device, &saved, error) < 0) return -1;
    int code = gpu->calls.alloc(out_pointer, bytes);
    int status = check(gpu, index, AC_CALL_alloc, code, error);
    if (code == AC_CODE_OUT_OF_MEMORY)
        ac_fail(error, AC_ERROR_MEMORY, "%s: cannot allocate %zu bytes (%s: %s)",
                title_of(gpu, index, title, sizeof title), bytes, error->call, error->code_name);
    if (ac_gpu_end(gpu, index, saved, status, error) == 0) return 0;
    if (code == 0) gpu->calls.release(*out_pointer);
    return -1;
}

static bool exchange_mode(ac_gpu_t *gpu, int index, int *mode, ac_error_t *error) {
    if (!gpu->calls.exchange_capture_mode) return false;
    return check(gpu, index, AC_CALL_exchange_capture_mode, gpu->calls.exchange_capture_mode(mode), error) == 0;
}

/* Errors have nobody to go to: the driver may have shut down, or an earlier kernel may have broken the device. While a
 * stream is captured, here or in another thread, freeing is legal in the relaxed mode: an array may be dropped at any
 * time. */
void ac_gpu_free(const ac_runtime_t *self, int index, void *pointer) {
    ac_gpu_t *gpu = ac_gpu_of(self);
    ac_gpu_device_t *device = NULL;
    ac_error_t error;
    int saved = 0;
    if (ac_gpu_begin(gpu, index, &device, &saved, &error) < 0) return;
    int mode = AC_CAPTURE_RELAXED;
    const bool relaxed = exchange_mode(gpu, index, &mode, &error);
    int status = check(gpu, index, AC_CALL_release, gpu->calls.release(pointer), &error);
    if (relaxed) exchange_mode(gpu, index, &mode, &error);
    ac_gpu_end(gpu, index, saved, status, &error);
}

int ac_gpu_copy(const ac_runtime_t *self, int index, void *to, const void *from, size_t bytes, intptr_t stream,
                ac_error_t *error) {
    ac_gpu_t *gpu = ac_gpu_of(self);
    ac_gpu_device_t *device = NULL;
    int saved = 0;
    if (bytes == 0) return 0;
    if (ac_gpu_begin(gpu, index, &device, &saved, error) < 0) return -1;
    int status = gpu->copy(gpu, index, to, from, bytes, (void *)stream, error);
    return ac_gpu_end(gpu, index, saved, status, error);
}

int ac_gpu_synchronize(const ac_runtime_t *self, int index, ac_error_t *error) {
    ac_gpu_t *gpu = ac_gpu_of(self);
    ac_gpu_device_t *device = NULL;
    int saved = 0;
    if (ac_gpu_begin(gpu, index, &device, &saved, error) < 0) return -1;
    int status = check(gpu, index, AC_CALL_synchronize, gpu->calls.synchronize(), error);
    return ac_gpu_end(gpu, index, saved, status, error);
}

int ac_gpu_fill32(const ac_runtime_t *self, int index, void *to, uint32_t word, int64_t count, intptr_t stream,
                  ac_error_t *error) {
    ac_gpu_t *gpu = ac_gpu_of(self);
    ac_gpu_device_t *device = NULL;
    int saved = 0;
    if (count == 0) return 0;
    if (ac_gpu_begin(gpu, index, &device, &saved, error) < 0) return -1;
    int code = gpu->calls.fill32(to, word, (size_t)count, (void *)stream);
    int status = check(gpu, index, AC_CALL_fill32, code, error);
    return ac_gpu_end(gpu, index, saved, status, error);
}

int ac_gpu_is_capturing(const ac_runtime_t *self, int index, intptr_t stream, bool *out_is, ac_error_t *error) {
    ac_gpu_t *gpu = ac_gpu_of(self);
    ac_gpu_device_t *device = NULL;
    int saved = 0, capture = 0; /* 0: none */
    *out_is = false;
    if (!gpu->calls.is_capturing) return 0; /* a driver without graphs */
    if (ac_gpu_begin(gpu, index, &device, &saved, error) < 0) return -1;
    int code = gpu->calls.is_capturing((void *)stream, &capture);
    int status = check(gpu, index, AC_CALL_is_capturing, code, error);
    *out_is = capture != 0;
    return ac_gpu_end(gpu, index, saved, status, error);
}

void ac_gpu_describe(ac_gpu_t *gpu, ac_runtime_info_t *out_info) {
    const void *symbol;
    int version = 0;
    pthread_mutex_lock(&gpu->lock);
    snprintf(out_info->attempts, sizeof out_info->attempts, "%s", gpu->attempts);
    pthread_mutex_unlock(&gpu->lock);
    if (!atomic_load(&gpu->loaded)) return;
    memcpy(&symbol, &gpu->calls.device_count, sizeof symbol);
    ac_library_path(symbol, out_info->library, sizeof out_info->library);
    snprintf(out_info->version, sizeof out_info->version, "%s", gpu->title);
    if (!atomic_load(&gpu->forked) && gpu->calls.version && gpu->calls.version(&version) == 0)
        gpu->version_text(version, out_info->version, sizeof out_info->version);
    if (atomic_load(&gpu->started) && gpu->count == 0)
        snprintf(out_info->note, sizeof out_info->note, "no device%s%s", gpu->no_device[0] ? ": " : "", gpu->no_device);
}
