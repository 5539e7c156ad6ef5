/* What calls write to standard error when AITER_C_LOG asks for it. 0: nothing; 1: every call with its tensors; 2: and
 * plans and launches; 3: and the time until the device is done, for which the call waits. */
#ifndef AC_CORE_LOG_H
#define AC_CORE_LOG_H

extern int ac_log_level; /* set once, at import */

/* One line, as one write: lines of threads do not mix. Longer ones are cut. */
__attribute__((format(printf, 1, 2))) void ac_log(const char *format, ...);

#endif
