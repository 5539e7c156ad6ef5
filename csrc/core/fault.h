/* Bugs of other packages, planted on purpose in the `faults` build and in no other, so that a test can see the suite
 * catch them. Elsewhere AC_FAULT is the constant 0 and the compiler removes what it guards. */
#ifndef AC_CORE_FAULT_H
#define AC_CORE_FAULT_H

#ifdef AC_FAULTS
#include <string.h>
extern const char *ac_active_fault; /* set once, at import, from AITER_C_FAULT; NULL: none */
#define AC_FAULT(name) (ac_active_fault && strcmp(ac_active_fault, name) == 0)
#else
#define AC_FAULT(name) 0
#endif

#endif
