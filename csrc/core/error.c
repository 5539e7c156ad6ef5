#include "error.h"

#include <stdarg.h>
#include <stdio.h>

#include "fault.h"

#ifdef AC_FAULTS
const char *ac_active_fault;
#endif

int ac_fail(ac_error_t *error, ac_error_kind_t kind, const char *format, ...) {
    va_list args;
    error->kind = kind;
    va_start(args, format);
    vsnprintf(error->text, sizeof error->text, format, args);
    va_end(args);
    error->code = 0;
    error->code_name[0] = error->call[0] = '\0';
    return -1;
}
