/* See log.h. */
#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

int ac_log_level;

void ac_log(const char *format, ...) {
    char text[2048] = "aiter_c: ";
    const size_t begin = strlen(text), room = sizeof text - begin - 1;
    va_list arguments;
    va_start(arguments, format);
    const int length = vsnprintf(text + begin, room, format, arguments);
    va_end(arguments);
    if (length < 0) return;
    const size_t end = begin + ((size_t)length < room ? (size_t)length : room - 1);
    text[end] = '\n';
    if (write(STDERR_FILENO, text, end + 1) < 0) return; /* nobody reads it */
}
