/* Finding a driver's shared library. */
#ifndef AC_DEVICE_LIBRARY_H
#define AC_DEVICE_LIBRARY_H

#include <stddef.h>

/* Opens the first library that will do: `only` and nothing else where it is given; else a copy that the process has
 * already mapped under any path (a second copy of a driver would not share its streams and memory); else the names, in
 * order, by the system's search path; else the names in `folder`, unless it is NULL.
 * `names` ends with NULL; its last name is the one without a version, which heads the name of a mapped copy.
 * Returns NULL when nothing was found. `attempts` gets every attempt that failed and why: "a: not found; b: ...". */
void *ac_library_open(const char *only, const char *const *names, const char *folder, char *attempts, size_t size);

/* The file that holds `symbol`, a function or object of an open library. */
void ac_library_path(const void *symbol, char *out_path, size_t size);

#endif
