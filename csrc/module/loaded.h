/* Every look at another package's modules and types: only at what something in this process has imported.
 * sys.modules may hold more than finished modules: one that another thread is in the middle of importing, an empty
 * folder of that name, a stub. So a type is known by the names that it goes by, and of a module only the attribute
 * counts that is asked for. */
#ifndef AC_MODULE_LOADED_H
#define AC_MODULE_LOADED_H

#include "state.h"

/* The type that `type` is or inherits from, as a new reference: named `name`, of the module `module`. NULL without an
 * exception where there is none. */
PyObject *ac_base_named(PyTypeObject *type, const char *module, const char *name);

/* An attribute of a module in sys.modules, as a new reference. NULL without an exception where the module or the
 * attribute is missing, and where reading it fails. */
PyObject *ac_loaded(const char *module, const char *attribute);

/* An attribute of any object as a new reference; NULL without an exception when there is none. */
PyObject *ac_attribute(PyObject *object, const char *name);

#endif
