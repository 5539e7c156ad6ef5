/* What DLPack does not carry of torch's tensors: lazy values, gradients, version counters, and kinds of tensors that
 * have no memory with their values in it. */
#ifndef AC_MODULE_TORCH_TENSOR_H
#define AC_MODULE_TORCH_TENSOR_H

#include "../core/dtype.h"
#include "state.h"

/* torch.Tensor, or a type that inherits from it; a type that overrides __torch_dispatch__ (FakeTensor, DTensor, jagged
 * nested tensors) decides by itself what an operation means, and its memory, if any, is not its values. */
int ac_torch_kind(PyTypeObject *type, ac_torch_kind_t *out_kind);

/* Refuses a tensor of a type that overrides __torch_dispatch__. Returns -1. */
int ac_torch_refuse_type(const char *op, const char *name, PyObject *tensor);

/* torch has complex numbers of these floats alone, and what is lazily negative is the imaginary part of a lazy
 * conjugate: no other dtype needs the question. */
#define AC_TORCH_MAY_BE_CONJUGATE (AC_SET(AC_COMPLEX64) | AC_SET(AC_COMPLEX128))
#define AC_TORCH_MAY_BE_NEGATIVE                                                                                       \
    (AC_SET(AC_FLOAT16) | AC_SET(AC_FLOAT32) | AC_SET(AC_FLOAT64) | AC_TORCH_MAY_BE_CONJUGATE)

/* Refuses a tensor whose memory holds the negatives or conjugates of its values, and an output that requires grad
 * (an input is read as data): nothing to do for an input whose dtype is none of the above. */
int ac_torch_check(const ac_state_t *state, const char *op, const char *name, PyObject *tensor, ac_dtype_t dtype,
                   bool is_output);

/* After a failed import: where the reason is the kind of tensor (of vmap, functional, sparse, meta, ...), the live
 * exception becomes the cause of one that says so. */
void ac_torch_explain(const char *op, const char *name, PyObject *tensor);

/* A DLPack capsule over the memory of the tensor, or NULL, without an exception where torch is too strange to give one.
 * Not Tensor.__dlpack__, which refuses tensors that require grad or are not on the current device, and asks the driver
 * about every tensor on the CPU. */
PyObject *ac_torch_capsule(PyObject *tensor);

/* Tells torch that the tensors of the tuple were written to: autograd then refuses to use what it saved of them. */
int ac_torch_written(ac_state_t *state, PyObject *tensors);

#endif
