/* aiter_c.MlaPlan: an immutable ac_mla_plan_t with readable fields. */
#ifndef AC_MODULE_PLAN_H
#define AC_MODULE_PLAN_H

#include "../core/mla_plan.h"
#include "../core/view.h"
#include "state.h"

extern PyType_Spec ac_plan_spec;

PyObject *ac_plan_new(const ac_state_t *state, const ac_mla_plan_t *plan, ac_device_t device);

/* The plan in an argument, borrowed; a TypeError and NULL for anything but an MlaPlan. */
const ac_mla_plan_t *ac_to_plan(const ac_state_t *state, const char *op, PyObject *object);

#endif
