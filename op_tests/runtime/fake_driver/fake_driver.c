/* A GPU driver that computes nothing, for tests of csrc/device: libamdhip64, or with -DFAKE_CUDA libcuda.so.1.
 * It keeps the books (allocations, modules, contexts, the thread's device, capture modes), refuses what a real driver
 * would, records every launch, and fails any call on request. FAKE_ARCHS lists its devices ("gfx942,gfx950" or
 * "9.0,8.0"; empty: none). Device memory is host memory. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NO_DEVICE = 100, INVALID_DEVICE = 101, INVALID_IMAGE = 200 };
enum { INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500, CAPTURE_UNSUPPORTED = 900 };
enum { MAX_ALLOCATIONS = 4096, MAX_MODULES = 64, MAX_LOG = 1 << 17 };

typedef struct {
    char *address;
    size_t bytes;
    int device;
} allocation_t;

typedef struct {
    bool live;
    int device;
} module_t;

/* One launch, as the tests read it. */
typedef struct {
    char kernel[64];
    int device;
    unsigned grid[3], block[3], local_bytes;
    void *stream;
    size_t params_bytes;
    char params[1024];
} launch_t;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static allocation_t allocations[MAX_ALLOCATIONS];
static module_t modules[MAX_MODULES];
static struct {
    char name[64];
    module_t *module;
    int max_local_bytes;
} functions[MAX_MODULES];
static int function_count;
static const char *call_log[MAX_LOG];
static int call_count, fail_at, fail_code;
static const char *fail_name;
static launch_t last_launch;
static int launch_count;
static atomic_int free_is_held, free_was_held_too_long;
static bool capturing; /* some thread captures a stream in the global mode */
static _Thread_local int capture_mode, last_error;

/* ---- control ---------------------------------------------------------------------------------------------------- */

/* The n-th call from now fails with the code, once; of one function, or of all where name is NULL. */
EXPORT void fake_fail(const char *name, int n, int code) {
    fail_name = name;
    fail_at = n;
    fail_code = code;
}
EXPORT int fake_call_count(void) { return call_count; }
EXPORT const char *fake_call(int i) { return call_log[i % MAX_LOG]; }
EXPORT int fake_capture_mode(void) { return capture_mode; }
EXPORT void fake_set_capturing(int on) { capturing = on; }
/* While it is on, freeing waits, for 5 seconds at most. */
EXPORT void fake_hold_free(int on) { free_is_held = on; }
EXPORT int fake_frees_held_too_long(void) { return free_was_held_too_long; }
EXPORT int fake_last_error(void) { return last_error; }
EXPORT const launch_t *fake_last_launch(void) { return &last_launch; }
EXPORT int fake_launch_count(void) { return launch_count; }
EXPORT int fake_allocations(void) {
    int count = 0;
    for (int i = 0; i < MAX_ALLOCATIONS; i++) count += allocations[i].address != NULL;
    return count;
}
EXPORT int fake_modules(void) {
    int count = 0;
    for (int i = 0; i < MAX_MODULES; i++) count += modules[i].live;
    return count;
}

/* ---- what both drivers do --------------------------------------------------------------------------------------- */

static int enter(const char *name) {
    int code = SUCCESS;
    pthread_mutex_lock(&lock);
    call_log[call_count++ % MAX_LOG] = name;
    if (fail_at > 0 && (!fail_name || strcmp(fail_name, name) == 0) && --fail_at == 0) code = fail_code;
    pthread_mutex_unlock(&lock);
    return code;
}
/* Every entry point begins with it. Reading the last error or an error's name cannot fail. */
#define ENTER                                          \
    do {                                               \
        int code_ = enter(__func__);                   \
        if (code_ != SUCCESS) return last_error = code_; \
    } while (0)

static int arch_of(int device, char *out_name, size_t size) {
    const char *text = getenv("FAKE_ARCHS");
    int count = 0;
    if (!text || !*text) return 0;
    for (;; text++) {
        size_t length = strcspn(text, ",");
        if (count++ == device && length < size) snprintf(out_name, size, "%.*s", (int)length, text);
        text += length;
        if (!*text) return count;
    }
}

static int device_count(void) {
    char name[64];
    return arch_of(-1, name, sizeof name);
}

static bool forbidden_by_capture(void) { return capturing && capture_mode != 2; }

static int allocate(void **out_address, size_t bytes, int device) {
    int code = OUT_OF_MEMORY;
    if (forbidden_by_capture()) return CAPTURE_UNSUPPORTED;
    if (bytes > (size_t)1 << 40) return OUT_OF_MEMORY;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < MAX_ALLOCATIONS && code; i++) {
        if (allocations[i].address) continue;
        allocations[i] = (allocation_t){aligned_alloc(256, (bytes + 255) / 256 * 256), bytes, device};
        memset(allocations[i].address, 0xa5, bytes);
        *out_address = allocations[i].address;
        code = SUCCESS;
    }
    pthread_mutex_unlock(&lock);
    return code;
}

static int release(void *address) {
    int code = INVALID_VALUE;
    if (forbidden_by_capture()) return CAPTURE_UNSUPPORTED;
    for (int ms = 0; free_is_held && ms < 5000; ms++) usleep(1000);
    free_was_held_too_long += free_is_held;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < MAX_ALLOCATIONS && code; i++) {
        if (!address || allocations[i].address != address) continue;
        free(address);
        allocations[i].address = NULL;
        code = SUCCESS;
    }
    pthread_mutex_unlock(&lock);
    return code;
}

/* The device whose allocation holds all the bytes; -1: none, so it is host memory. */
static int owner_of(const void *address, size_t bytes) {
    const char *begin = address;
    int device = -1;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < MAX_ALLOCATIONS; i++) {
        const allocation_t *a = &allocations[i];
        if (a->address && begin >= a->address && begin + bytes <= a->address + a->bytes) device = a->device;
    }
    pthread_mutex_unlock(&lock);
    return device;
}

static int copy(void *to, const void *from, size_t bytes, int device) {
    int target = owner_of(to, bytes), source = owner_of(from, bytes);
    if ((target != -1 && target != device) || (source != -1 && source != device)) return INVALID_VALUE;
    if (target == -1 && source == -1) return INVALID_VALUE;
    memcpy(to, from, bytes);
    return SUCCESS;
}

static int fill(void *to, unsigned word, size_t count, int device) {
    if (owner_of(to, count * 4) != device || (uintptr_t)to % 4) return INVALID_VALUE;
    for (size_t i = 0; i < count; i++) memcpy((char *)to + i * 4, &word, 4);
    return SUCCESS;
}

static int load(void **out_module, const void *image, int device) {
    if (forbidden_by_capture()) return CAPTURE_UNSUPPORTED;
    if (memcmp(image, "fake code object", 16) != 0) return INVALID_IMAGE;
    for (int i = 0; i < MAX_MODULES; i++) {
        if (modules[i].live) continue;
        modules[i] = (module_t){true, device};
        *out_module = &modules[i];
        return SUCCESS;
    }
    return OUT_OF_MEMORY;
}

static int unload(module_t *module) {
    if (!module->live) return INVALID_HANDLE;
    module->live = false;
    return SUCCESS;
}

static int find(void **out_function, module_t *module, const char *name, int device) {
    usleep(3000); /* long enough for other threads to want the same */
    if (!module->live || module->device != device) return INVALID_HANDLE;
    static const char *const families[] = {"mla_", "mqa_", "merge_", "top_k_", "index_"};
    bool known = false;
    for (unsigned i = 0; i < sizeof families / sizeof families[0]; i++)
        known |= !strncmp(name, families[i], strlen(families[i]));
    if (!known || function_count == MAX_MODULES) return NOT_FOUND;
    snprintf(functions[function_count].name, sizeof functions[0].name, "%s", name);
    functions[function_count].module = module;
    functions[function_count].max_local_bytes = 48 * 1024;
    *out_function = &functions[function_count++];
    return SUCCESS;
}

static int launch(void *function, const unsigned *grid, const unsigned *block, unsigned local_bytes, void *stream,
                  void **params, void **extra, void *end, int device) {
    int i = (int)(((char *)function - (char *)functions) / (long)sizeof functions[0]);
    if (i < 0 || i >= function_count || functions[i].module->device != device) return INVALID_HANDLE;
    if (params || extra[0] != (void *)1 || extra[2] != (void *)2 || extra[4] != end) return INVALID_VALUE;
    if (!grid[0] || !block[0]) return INVALID_VALUE;
#ifdef FAKE_CUDA
    if ((int)local_bytes > functions[i].max_local_bytes) return INVALID_VALUE;
#endif
    pthread_mutex_lock(&lock);
    last_launch = (launch_t){.device = device, .local_bytes = local_bytes, .stream = stream};
    snprintf(last_launch.kernel, sizeof last_launch.kernel, "%s", functions[i].name);
    memcpy(last_launch.grid, grid, sizeof last_launch.grid);
    memcpy(last_launch.block, block, sizeof last_launch.block);
    last_launch.params_bytes = *(size_t *)extra[3];
    memcpy(last_launch.params, extra[1],
           last_launch.params_bytes < sizeof last_launch.params ? last_launch.params_bytes : sizeof last_launch.params);
    launch_count++;
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}

/* As long as the longest of the real ones. 999 is a code that the driver does not know. */
static const char *name_of(int code) {
    static _Thread_local char name[64];
    snprintf(name, sizeof name, "ErrorWithANameAsLongAsTheLongestOfTheDriver%04d", code);
    return code == 999 ? NULL : name;
}

#define RETURN(code)                                    \
    do {                                                \
        int result_ = (code);                           \
        if (result_ != SUCCESS) last_error = result_;   \
        return result_;                                 \
    } while (0)
#define KERNEL_ARGUMENTS                                                                                   \
    void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,              \
        unsigned local_bytes, void *stream, void **params, void **extra
#define GRID ((unsigned[]){gx, gy, gz})
#define BLOCK ((unsigned[]){bx, by, bz})

#ifdef FAKE_CUDA
#include "fake_cuda.inc"
#else
#include "fake_hip.inc"
#endif
