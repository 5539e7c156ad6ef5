/* Errors as values. core/, ops/, device/ and cpu/ know no Python: a function that can fail returns 0 or -1
 * and fills an ac_error_t, which module/errors.c turns into the exception class of its kind. */
#ifndef AC_CORE_ERROR_H
#define AC_CORE_ERROR_H

typedef enum ac_error_kind_t {
    AC_ERROR_NONE = 0,
    AC_ERROR_TYPE,        /* TypeError: not a tensor, wrong dtype kind */
    AC_ERROR_VALUE,       /* ValueError: rank, shape, stride, range, device mix, aliasing */
    AC_ERROR_UNSUPPORTED, /* aiter_c.UnsupportedError: well formed, but no kernel serves it */
    AC_ERROR_DEVICE,      /* aiter_c.DeviceError: a runtime call failed */
    AC_ERROR_MEMORY,      /* MemoryError */
    AC_ERROR_INTERRUPTED, /* the exception that a signal handler raised, such as KeyboardInterrupt */
} ac_error_kind_t;

typedef struct ac_error_t {
    ac_error_kind_t kind;
    int code;           /* AC_ERROR_DEVICE: the driver's number */
    char code_name[48]; /* AC_ERROR_DEVICE: the driver's name of it */
    char call[64];      /* AC_ERROR_DEVICE: the driver's call that failed; "": none did */
    char text[640];     /* "op: argument: expected ..., got ..." */
} ac_error_t;

#if defined(__GNUC__)
#define AC_PRINTF(format_index, first) __attribute__((format(printf, format_index, first)))
#else
#define AC_PRINTF(format_index, first)
#endif

/* Fills *error and returns -1, so that a caller can write `return ac_fail(...)`. */
int ac_fail(ac_error_t *error, ac_error_kind_t kind, const char *format, ...) AC_PRINTF(3, 4);

#endif
