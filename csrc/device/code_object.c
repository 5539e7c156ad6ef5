#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memmem */
#endif
#include "code_object.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "device.h"
#include "library.h"
#include "text.h"

#define HASH_DIGITS 64

/* setup.py writes the rows (scripts/source_hash.py). */
static const ac_object_hash_t hashes[] = {
#define KERNEL_HASH(object, hash) {object, hash},
#include "kernel_hashes.inc"
#undef KERNEL_HASH
    {NULL, NULL}};

/* What a code object carries in its read-only data, followed by the digits. */
static const char marker[] = "aiter_c kernel source ";

const ac_object_hash_t *ac_object_hash(int i) {
    return i >= 0 && (size_t)i < sizeof hashes / sizeof *hashes - 1 ? &hashes[i] : NULL;
}

/* "unknown" for an object that had no source when this extension was built. */
static const char *expected_hash(const ac_kernel_t *kernel) {
    char name[128];
    snprintf(name, sizeof name, "%s/%s", ac_arch_name(kernel->arch), kernel->object);
    for (const ac_object_hash_t *row = hashes; row->object; row++)
        if (strcmp(row->object, name) == 0) return row->hash;
    return "unknown";
}

/* "<folder><middle>/<arch>/<object>.<suffix>" */
static bool join(const char *folder, const char *middle, const ac_kernel_t *kernel, char *out_path, size_t size) {
    int length = snprintf(out_path, size, "%s%s/%s/%s.%s", folder, middle, ac_arch_name(kernel->arch), kernel->object,
                          ac_arch_suffix(kernel->arch));
    return length > 0 && (size_t)length < size;
}

/* Candidate number `i` of the places, in order; false when there is no such number. */
static bool place(int i, const ac_kernel_t *kernel, char *out_path, size_t size) {
    static const char anchor; /* lies in the extension */
    const char *given = ac_device_config()->code_object_folder;
    char folder[512], *slash;
    if (given) return i == 0 && join(given, "", kernel, out_path, size);
    if (i > 1) return false;
    ac_library_path(&anchor, folder, sizeof folder);
    slash = strrchr(folder, '/');
    if (!slash) return false;
    *slash = '\0';
    return join(folder, i == 0 ? "/hsa" : "/../hsa", kernel, out_path, size);
}

bool ac_code_object_exists(const ac_kernel_t *kernel) {
    char path[1024];
    for (int i = 0; kernel->object && place(i, kernel, path, sizeof path); i++)
        if (access(path, R_OK) == 0) return true;
    return false;
}

static int open_file(const ac_kernel_t *kernel, ac_code_object_t *object, ac_error_t *error) {
    char tried[480] = "";
    for (int i = 0; place(i, kernel, object->path, sizeof object->path); i++) {
        int file = open(object->path, O_RDONLY | O_CLOEXEC);
        if (file >= 0) return file;
        ac_append(tried, sizeof tried, "%s%s (%s)", i ? ", " : "", object->path,
                  errno == ENOENT ? "not found" : strerror(errno));
    }
    return ac_fail(error, AC_ERROR_DEVICE, "%s: expected its code object: %s; scripts/build_kernels makes it",
                   kernel->name, tried);
}

static bool is_hex_digit(char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); }

static int check_hash(const ac_kernel_t *kernel, const ac_code_object_t *object, ac_error_t *error) {
    const char *found = memmem(object->image, object->bytes, marker, sizeof marker - 1);
    const char *end = (const char *)object->image + object->bytes, *expected = expected_hash(kernel);
    int digits = 0;
    if (found) found += sizeof marker - 1;
    while (found && digits < HASH_DIGITS && found + digits < end && is_hex_digit(found[digits])) digits++;
    if (digits == HASH_DIGITS && strlen(expected) == HASH_DIGITS && memcmp(found, expected, HASH_DIGITS) == 0) return 0;
    return ac_fail(error, AC_ERROR_DEVICE,
                   "%s: expected a code object built from kernel source %s, got one built from %.*s: %s; build the "
                   "kernels again with scripts/build_kernels, or install again",
                   kernel->name, expected, found ? digits : 7, found ? found : "unknown", object->path);
}

int ac_code_object_open(const ac_kernel_t *kernel, ac_code_object_t *out_object, ac_error_t *error) {
    out_object->image = NULL;
    out_object->bytes = 0;
    int file = open_file(kernel, out_object, error);
    if (file < 0) return -1;
    off_t bytes = lseek(file, 0, SEEK_END);
    if (bytes > 0) {
        void *image = mmap(NULL, (size_t)bytes, PROT_READ, MAP_PRIVATE, file, 0); /* a folder has none */
        if (image != MAP_FAILED) {
            out_object->image = image;
            out_object->bytes = (size_t)bytes;
        }
    }
    close(file);
    if (!out_object->image)
        return ac_fail(error, AC_ERROR_DEVICE, "%s: expected a code object, got a file that cannot be read: %s",
                       kernel->name, out_object->path);
    if (check_hash(kernel, out_object, error) == 0) return 0;
    ac_code_object_close(out_object);
    return -1;
}

void ac_code_object_close(ac_code_object_t *object) {
    if (object->image) munmap((void *)object->image, object->bytes);
    object->image = NULL;
}
