/* Compiled with kernel argument preloading: the arguments arrive in scalar registers. */
#include "device.h"

KERNEL preloaded(int *out, int a, int b, int c) {
    out[thread_x()] = a * 100 + b * 10 + c;
}
