/* Signal handlers of Python during a long CPU op. */
#ifndef AC_MODULE_INTERRUPT_H
#define AC_MODULE_INTERRUPT_H

/* From here on a long CPU op on the process's main thread runs pending signal handlers, some ten times a second. If one
 * raises (KeyboardInterrupt), the op ends with AC_ERROR_INTERRUPTED and the exception is live. */
void ac_interrupt_init(void);

#endif
