#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* dl_iterate_phdr, dladdr */
#endif
#include "library.h"

#include <dlfcn.h>
#include <link.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "text.h"

typedef struct {
    const char *prefix;
    char path[512];
} mapped_t;

/* The first mapped object whose file name begins with the prefix. */
static int find_mapped(struct dl_phdr_info *info, size_t size, void *data) {
    mapped_t *mapped = data;
    const char *path = info->dlpi_name ? info->dlpi_name : "", *slash = strrchr(path, '/');
    (void)size;
    if (strncmp(slash ? slash + 1 : path, mapped->prefix, strlen(mapped->prefix)) != 0) return 0;
    if (strlen(path) >= sizeof mapped->path) return 0;
    memcpy(mapped->path, path, strlen(path) + 1);
    return 1;
}

static void note_failure(const char *name, char *attempts, size_t size) {
    static const char missing[] = "cannot open shared object file: No such file or directory";
    const char *reason = dlerror();
    size_t length = strlen(name);
    if (!reason) reason = "unknown error";
    if (strncmp(reason, name, length) == 0 && strncmp(reason + length, ": ", 2) == 0) {
        reason += length + 2;
        if (strcmp(reason, missing) == 0) reason = "not found"; /* of itself; a library it needs is named */
    }
    ac_append(attempts, size, "%s%s: %s", attempts[0] ? "; " : "", name, reason);
}

static void *try_open(const char *name, char *attempts, size_t size) {
    void *library = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (!library) note_failure(name, attempts, size);
    return library;
}

void *ac_library_open(const char *only, const char *const *names, const char *folder, char *attempts, size_t size) {
    void *library = NULL;
    int count = 0;
    attempts[0] = '\0';
    if (only) return try_open(only, attempts, size);
    while (names[count]) count++;
    mapped_t mapped = {.prefix = names[count - 1]};
    if (dl_iterate_phdr(find_mapped, &mapped)) library = dlopen(mapped.path, RTLD_NOW | RTLD_NOLOAD);
    for (int i = 0; !library && i < count; i++) library = try_open(names[i], attempts, size);
    for (int i = 0; folder && !library && i < count; i++) {
        char path[1024];
        int length = snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        if (length > 0 && (size_t)length < sizeof path) library = try_open(path, attempts, size);
    }
    return library;
}

void ac_library_path(const void *symbol, char *out_path, size_t size) {
    Dl_info info;
    bool found = dladdr(symbol, &info) && info.dli_fname;
    snprintf(out_path, size, "%s", found ? info.dli_fname : "?");
}
