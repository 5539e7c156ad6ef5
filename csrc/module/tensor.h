/* A Python object as an ac_view_t, with what keeps the memory in place until the call returns. */
#ifndef AC_MODULE_TENSOR_H
#define AC_MODULE_TENSOR_H

#include "../core/view.h"
#include "state.h"

typedef enum ac_tensor_flags_t {
    AC_TENSOR_INPUT = 0,
    AC_TENSOR_OUTPUT = 1 << 0, /* is written: a read-only tensor is refused */
    AC_TENSOR_FRESH = 1 << 1,  /* allocated for this call: writable, and nobody's who wants to hear of writes */
} ac_tensor_flags_t;

/* At most one owner is set. Without one the view borrows from the object, which the caller's arguments keep alive.
 * The view of an imported tensor has sizes and an extent that fit 64 bits and, where there are elements, an address
 * that is a multiple of the element size; that of an output is writable. */
typedef struct ac_tensor_t {
    ac_view_t view;
    const DLPackExchangeAPI *api; /* of the object's type, or NULL: tells the stream in use */
    DLManagedTensorVersioned *versioned;
    DLManagedTensor *legacy;
    PyObject *torch_output; /* borrowed: an output of torch, which has a version counter; else NULL */
} ac_tensor_t;

/* Fills *out_tensor; errors read "op: name: ...". After a failure there is nothing to release. */
int ac_tensor_import(ac_state_t *state, const char *op, const char *name, PyObject *object, unsigned flags,
                     ac_tensor_t *out_tensor);
/* The same of a DLTensor whose memory somebody else keeps in place. */
int ac_tensor_borrow(const char *op, const char *name, const DLTensor *borrowed, ac_tensor_t *out_tensor);
/* The same of fresh memory in row-major order, without a check: sizes whose bytes fit 63 bits. */
void ac_tensor_fill(char *data, ac_dtype_t dtype, ac_device_t device, int ndim, const int64_t *shape,
                    ac_tensor_t *out_tensor);
/* After an op wrote to the outputs among the tensors, if only in part: tells the frameworks that want to know. A live
 * exception survives it. */
int ac_tensors_written(ac_state_t *state, const ac_tensor_t *tensors, int count);
/* Calls the deleter of every owner; a live exception survives it. */
void ac_tensor_release(ac_tensor_t *tensors, int count);

/* q_dtype=, kv_dtype=: reads a uint8 tensor as an 8-bit float. `keyword` names the argument in the text. */
int ac_tensor_retype(const char *op, const char *name, const char *keyword, ac_dtype_t dtype, ac_view_t *view);

#endif
