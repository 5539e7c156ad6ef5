/* The docstrings of Array, and of the functions that make one; see docs.h. */
#ifndef AC_MODULE_ARRAY_DOCS_H
#define AC_MODULE_ARRAY_DOCS_H

#include "docs.h"

#define AC_DOC_empty                                                                                                   \
    AC_DOC(empty, "A new Array of the given shape (an int or a sequence) and dtype on a device; the contents are "     \
                  "undefined.\n\n"                                                                                     \
                  "dtype: a name or a NumPy, ml_dtypes or torch dtype; device: 'cpu', 'cuda:0', 'hip:0' or a "         \
                  "torch.device\n\n"                                                                                   \
                  "Raises TypeError (unknown dtype), ValueError (shape, device), UnsupportedError (no runtime), "      \
                  "MemoryError.")

#define AC_DOC_from_host                                                                                               \
    AC_DOC(from_host, "A contiguous copy of a NumPy array or of any tensor on the CPU, as an Array on a device; "      \
                      "complete on return.")

#define AC_DOC_Array                                                                                                   \
    "Contiguous memory on a device with a dtype and a shape; made by empty and from_host, exported by DLPack.\n\n"     \
    "On the CPU numpy.asarray and the buffer protocol see the same memory (the latter knows no bfloat16 or fp8);\n"    \
    "bool, int and float give the value of a single element. On another device they raise TypeError, the buffer\n"     \
    "protocol BufferError. There is no indexing and no iteration, and == and != raise TypeError: use numpy().\n"       \
    "copy, deepcopy and pickle copy the memory; what was pickled is loaded to the device that it was on."

#define AC_DOC_numpy                                                                                                   \
    AC_METHOD_DOC(numpy, "The array as a NumPy array: over the same memory on the CPU; from another device a copy, "   \
                         "made when all work of\n"                                                                     \
                         "the device is done. bfloat16 and fp8 need ml_dtypes.")

#define AC_DOC___array__                                                                                               \
    AC_METHOD_DOC(__array__, "For numpy.asarray: a NumPy array over the same memory, or a copy where dtype or copy "   \
                             "ask for one.\n\n"                                                                        \
                             "Raises TypeError for an array that is not on the CPU (numpy() copies it), and "          \
                             "ValueError for copy=False with a\n"                                                      \
                             "dtype that needs a copy.")

#define AC_DOC___dlpack__                                                                                              \
    AC_METHOD_DOC(__dlpack__, "Export as a DLPack capsule: versioned for max_version >= (1, 0), else the older "       \
                              "kind.\n\n"                                                                              \
                              "stream: the consumer's. An Array does not know on which streams it was written, so "    \
                              "this waits for all work of\n"                                                           \
                              "its device; -1 does not wait (under graph capture, or when the consumer's stream is "   \
                              "the one that wrote it).")

#define AC_DOC___dlpack_device__ AC_METHOD_DOC(__dlpack_device__, "(device type, device id) in DLPack's numbers.")

#endif
