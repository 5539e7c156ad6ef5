/* Messages that grow piece by piece. */
#ifndef AC_DEVICE_TEXT_H
#define AC_DEVICE_TEXT_H

#include <stddef.h>

#include "../core/error.h"

/* Adds to the end of `text`, an array of `size` bytes; what does not fit is cut off. */
void ac_append(char *text, size_t size, const char *format, ...) AC_PRINTF(3, 4);

#endif
