/* The DLPack ABI, as much of it as a consumer and exporter on one page needs: layouts of DLPack 1.0 to 1.3 and the C
 * exchange API of 1.3, under the names that dmlc/dlpack gives them. Written against the specification and pinned by
 * the assertions at the end: a layout that drifts is a build error, not a fault in a user's process. */
#ifndef AC_MODULE_DLPACK_ABI_H
#define AC_MODULE_DLPACK_ABI_H

#include <stddef.h>
#include <stdint.h>

#define DLPACK_MAJOR_VERSION 1 /* another major version has another layout: call the deleter, look at nothing else */
#define DLPACK_MINOR_VERSION 3

#define DLPACK_FLAG_BITMASK_READ_ONLY (UINT64_C(1) << 0)
#define DLPACK_FLAG_BITMASK_IS_COPIED (UINT64_C(1) << 1)

typedef struct DLPackVersion {
    uint32_t major, minor;
} DLPackVersion;

typedef struct DLDevice {
    int32_t device_type; /* ac_device_type_t holds DLPack's numbers */
    int32_t device_id;
} DLDevice;

typedef struct DLDataType {
    uint8_t code; /* the code column of AC_DTYPES */
    uint8_t bits;
    uint16_t lanes;
} DLDataType;

typedef struct DLTensor {
    void *data;
    DLDevice device;
    int32_t ndim;
    DLDataType dtype;
    int64_t *shape;   /* [ndim] */
    int64_t *strides; /* [ndim], in elements; before DLPack 1.2 NULL meant compact */
    uint64_t byte_offset;
} DLTensor;

/* What a "dltensor" capsule holds: no version, no flags. */
typedef struct DLManagedTensor {
    DLTensor dl_tensor;
    void *manager_ctx;
    void (*deleter)(struct DLManagedTensor *self); /* may be NULL */
} DLManagedTensor;

/* What a "dltensor_versioned" capsule holds. Up to `flags` the layout is the same in every major version. */
typedef struct DLManagedTensorVersioned {
    DLPackVersion version;
    void *manager_ctx;
    void (*deleter)(struct DLManagedTensorVersioned *self); /* may be NULL */
    uint64_t flags;
    DLTensor dl_tensor;
} DLManagedTensorVersioned;

typedef struct DLPackExchangeAPIHeader {
    DLPackVersion version;
    struct DLPackExchangeAPIHeader *prev_api; /* an older table of the same framework, or NULL */
} DLPackExchangeAPIHeader;

/* The capsule "dlpack_exchange_api" of a tensor type points to one of these; it lives as long as the process.
 * Functions return 0, or -1 with a Python exception set, and need the GIL. None of them synchronises a stream. */
typedef struct DLPackExchangeAPI {
    DLPackExchangeAPIHeader header;
    int (*managed_tensor_allocator)(DLTensor *prototype, DLManagedTensorVersioned **out, void *error_ctx,
                                    void (*set_error)(void *error_ctx, const char *kind, const char *message));
    int (*managed_tensor_from_py_object_no_sync)(void *object, DLManagedTensorVersioned **out);
    int (*managed_tensor_to_py_object_no_sync)(DLManagedTensorVersioned *tensor, void **out_object);
    /* May be NULL. The tensor borrows from `object`; it has no flags, so a read-only tensor cannot be told. */
    int (*dltensor_from_py_object_no_sync)(void *object, DLTensor *out);
    int (*current_work_stream)(int32_t device_type, int32_t device_id, void **out_stream);
} DLPackExchangeAPI;

#if UINTPTR_MAX == UINT64_MAX
_Static_assert(sizeof(DLDataType) == 4, "DLDataType");
_Static_assert(sizeof(DLTensor) == 48, "DLTensor");
_Static_assert(offsetof(DLTensor, device) == 8 && offsetof(DLTensor, ndim) == 16, "DLTensor");
_Static_assert(offsetof(DLTensor, dtype) == 20 && offsetof(DLTensor, shape) == 24, "DLTensor");
_Static_assert(offsetof(DLTensor, strides) == 32 && offsetof(DLTensor, byte_offset) == 40, "DLTensor");
_Static_assert(sizeof(DLManagedTensor) == 64 && offsetof(DLManagedTensor, deleter) == 56, "DLManagedTensor");
_Static_assert(offsetof(DLManagedTensorVersioned, deleter) == 16, "DLManagedTensorVersioned");
_Static_assert(offsetof(DLManagedTensorVersioned, flags) == 24, "DLManagedTensorVersioned");
_Static_assert(offsetof(DLManagedTensorVersioned, dl_tensor) == 32, "DLManagedTensorVersioned");
_Static_assert(sizeof(DLPackExchangeAPI) == 56, "DLPackExchangeAPI");
_Static_assert(offsetof(DLPackExchangeAPI, dltensor_from_py_object_no_sync) == 40, "DLPackExchangeAPI");
#endif

#endif
