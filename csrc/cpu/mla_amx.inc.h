/* The AMX engine: the bf16 engine's scratch and rounding, products on the tiles. */

#include "amx.h"

typedef local_t_bf16 local_t_amx;
#define load_query_amx load_query_bf16
#define load_block_amx load_block_bf16
#define store_p_amx store_p_bf16
#define order_columns_amx order_columns_bf16

#define ENGINE(name) name##_amx
#define AC_PAIR 2
#define AC_BLOCK AC_LOCAL_DOT_TOKENS
#define AC_TILES "mla_amx_tiles.inc.h"
#include "mla_decode.inc.h"
#undef ENGINE
#undef AC_PAIR
#undef AC_BLOCK
#undef AC_TILES
