/* Which way the tensors of a type come in, looked up once per type, and the C exchange API of types that have one. */
#ifndef AC_MODULE_EXCHANGE_H
#define AC_MODULE_EXCHANGE_H

#include "../core/view.h"
#include "state.h"

/* What the cache of the state holds of a type, looked up at the first call; a copy, since any Python that runs may
 * change the cache. `path` is AC_PATH_NONE for a type that is no tensor. */
int ac_type_find(ac_state_t *state, const char *op, const char *name, PyTypeObject *type, ac_type_entry_t *out_entry);

static inline int ac_type_lookup(ac_state_t *state, const char *op, const char *name, PyTypeObject *type,
                                 ac_type_entry_t *out_entry) {
    for (int i = 0; i < state->type_count; i++) {
        if (state->types[i].type != type) continue;
        *out_entry = state->types[i];
        return 0;
    }
    return ac_type_find(state, op, name, type, out_entry);
}

/* The first tensor of a type is compared with its `.shape`: exporters were seen that returned garbage. The shape is
 * read before the export, so that no Python runs between the export and the copy of what it borrowed. */
typedef struct ac_expected_shape_t {
    bool known; /* false: the object has no shape, nothing to compare with */
    Py_ssize_t ndim;
    int64_t sizes[AC_MAX_NDIM];
} ac_expected_shape_t;

int ac_expected_shape(const ac_state_t *state, const char *op, const char *name, PyObject *object,
                      ac_expected_shape_t *out_expected);
bool ac_shape_is_expected(const ac_expected_shape_t *expected, const DLTensor *tensor);
/* Remembers the outcome. A type that is not trusted takes *out_path from here on. */
void ac_exchange_trust(ac_state_t *state, const PyTypeObject *type);
int ac_exchange_distrust(ac_state_t *state, PyTypeObject *type, ac_path_t *out_path);

int ac_exchange_traverse(ac_state_t *state, visitproc visit, void *arg);
void ac_exchange_clear(ac_state_t *state);

const char *ac_path_name(ac_path_t path);

#endif
