/* The tiles of work lists as the host knows them: what an op checks buffers by, and what sizes follow from. */
#ifndef AC_OPS_MLA_METADATA_PLAN_H
#define AC_OPS_MLA_METADATA_PLAN_H

#include "../../core/arch.h"
#include "pieces.h"

#define AC_LIST_TILE_PAIRS 128 /* (query row, head) pairs of a tile, as a rule */

/* Query rows of a tile on this device, at least one. */
int32_t ac_list_tile_rows(ac_arch_t arch, bool q_is_fp8, bool kv_is_fp8, int64_t heads, int64_t max_seqlen_q);

#endif
