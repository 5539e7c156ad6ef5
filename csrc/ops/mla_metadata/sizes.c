/* What the sizes of work lists follow from: tiles of a request and workers of a device, as numbers. */
#include "../../core/op.h"
#include "../../core/rules.h"
#include "../../device/device.h"
#include "plan.h"

extern const ac_kernel_family_t ac_kernels_mla_decode;

typedef struct {
    int64_t result; /* first: what the ops return */
    int64_t num_heads, max_seqlen_q;
    ac_device_t device;
} args_t;

/* AITER has kernels of 64 pairs for some shapes on gfx950, and its lists follow them: so do ours, to drive them. */
static int64_t tile_pairs(ac_arch_t arch, bool q_is_fp8, bool kv_is_fp8, int64_t heads, int64_t max_seqlen_q) {
    const int64_t pairs = heads * max_seqlen_q;
    if (arch != AC_GFX950 || q_is_fp8 != kv_is_fp8) return AC_LIST_TILE_PAIRS;
    if (q_is_fp8) return heads == 32 && max_seqlen_q == 3 ? 64 : AC_LIST_TILE_PAIRS;
    return pairs >= 64 && heads <= 64 && (pairs < 128 || heads == 48) ? 64 : AC_LIST_TILE_PAIRS;
}

int32_t ac_list_tile_rows(ac_arch_t arch, bool q_is_fp8, bool kv_is_fp8, int64_t heads, int64_t max_seqlen_q) {
    return (int32_t)ac_max64(tile_pairs(arch, q_is_fp8, kv_is_fp8, heads, max_seqlen_q) / heads, 1);
}

/* Of any dtype, of no more heads and of no more rows: callers fill lists for other numbers than they sized them for. On
 * gfx950 tiles of 64 pairs are one row each from 33 heads on, with 48 for any number of rows, else for at most 3; with
 * fewer heads there are at most 3 of them. */
static int64_t most_tiles(ac_arch_t arch, int64_t heads, int64_t rows) {
    int64_t tiles = (rows + ac_max64(AC_LIST_TILE_PAIRS / heads, 1) - 1) / ac_max64(AC_LIST_TILE_PAIRS / heads, 1);
    if (arch == AC_GFX950 && heads * rows >= 64) tiles = ac_max64(tiles, heads >= 48 ? rows : ac_min64(rows, 3));
    return tiles;
}

static int check(const char *op, const args_t *args, ac_device_facts_t *out_facts, ac_error_t *error) {
    ac_target_t target;
    if (ac_check_int(op, "num_head_qo", args->num_heads, 1, INT32_MAX, error) < 0) return -1;
    if (ac_check_int(op, "max_seqlen_qo", args->max_seqlen_q, 1, INT32_MAX, error) < 0) return -1;
    if (ac_find_target(op, "device", args->device, &target, error) < 0) return -1;
    *out_facts = target.facts;
    return 0;
}

static int count_tiles(void *arguments, const void *plan, intptr_t stream, ac_error_t *error) {
    args_t *args = arguments;
    ac_device_facts_t facts;
    (void)plan, (void)stream;
    if (check("get_mla_metadata_info_v1", args, &facts, error) < 0) return -1;
    args->result = most_tiles(facts.arch, args->num_heads, args->max_seqlen_q);
    return 0;
}

/* A workgroup of a decode kernel serves tile_rows pairs at most: a tile of more pairs takes several, each a unit. */
static int count_workers(void *arguments, const void *plan, intptr_t stream, ac_error_t *error) {
    args_t *args = arguments;
    ac_device_facts_t facts;
    int64_t rows = 1;
    (void)plan, (void)stream;
    if (check("get_mla_decode_fwd_max_splits", args, &facts, error) < 0) return -1;
    args->result = facts.compute_units;
    if (ac_arch_is_cpu(facts.arch)) return 0;
    for (int i = 0; i < ac_kernels_mla_decode.kernel_count; i++) {
        const ac_kernel_t *kernel = &ac_kernels_mla_decode.kernels[i];
        if (kernel->arch == facts.arch) rows = ac_max64(rows, kernel->tile_rows);
    }
    const int64_t pairs = ac_min64(args->num_heads * args->max_seqlen_q, ac_max64(AC_LIST_TILE_PAIRS, args->num_heads));
    args->result = ac_max64(facts.compute_units / ((pairs + rows - 1) / rows), 1);
    return 0;
}

#define AC_OP mla_metadata_tiles
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "mla_metadata/params_tiles.inc"
#define AC_OP_SUMMARY "Tiles that the query rows of a request are cut into at most, in a plan for this device."
#define AC_OP_NOTES "Raises TypeError, ValueError, UnsupportedError, DeviceError."
#include "../define_op.inc"

#define AC_OP mla_metadata_workers
#define AC_OP_ARGS args_t
#define AC_OP_PARAMS "mla_metadata/params_workers.inc"
#define AC_OP_SUMMARY "Workers that fill a device: its compute units, by those that one item takes; on the CPU threads."
#define AC_OP_NOTES "Raises TypeError, ValueError, UnsupportedError, DeviceError."
#include "../define_op.inc"

#define OP(op, user, function)                                                                                         \
    const ac_op_t ac_op_##op = {                                                                                       \
        .name = #op,                                                                                                   \
        .user_name = user,                                                                                             \
        .doc = doc_##op,                                                                                               \
        .params = params_##op,                                                                                         \
        .param_count = AC_COUNT(params_##op),                                                                          \
        .args_bytes = sizeof(args_t),                                                                                  \
        .returns = AC_RETURNS_INT,                                                                                     \
        .run = function,                                                                                               \
    }
OP(mla_metadata_tiles, "get_mla_metadata_info_v1", count_tiles);
OP(mla_metadata_workers, "get_mla_decode_fwd_max_splits", count_workers);
