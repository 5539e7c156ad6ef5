/* Lets Ctrl-C end a long CPU op: the pool asks from time to time, with the GIL released, whether to give up. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* syscall */
#endif

#include "state.h"

#include "interrupt.h"

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#else
#include <pthread.h>
#endif

#include "../cpu/cpu.h"

/* Only Python's main thread runs signal handlers: the process's, unless a program embeds Python in another. A forked
 * child's main thread is the one that forked, for both. */
static bool is_main_thread(void) {
#ifdef __linux__
    return syscall(SYS_gettid) == getpid();
#else
    return pthread_main_np() != 0;
#endif
}

/* No other thread waits for the GIL here, and no daemon thread, which Python ends on the spot if the interpreter is
 * finalising: in the middle of an op. */
static bool run_signal_handlers(void) {
    if (!is_main_thread()) return false;
    PyGILState_STATE gil = PyGILState_Ensure();
    bool has_raised = PyErr_CheckSignals() < 0;
    PyGILState_Release(gil);
    return has_raised;
}

void ac_interrupt_init(void) { ac_cpu_set_interrupt_check(run_signal_handlers); }
