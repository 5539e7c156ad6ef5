/* The bf16 dot engine, for VDPBF16PS: multiplies pairs of bf16 and sums them into fp32 lanes. */

typedef local_t_bf16 local_t_dot;
#define load_query_dot load_query_bf16
#define load_block_dot load_block_bf16
#define values_dot values_bf16
#define store_p_dot store_p_bf16
#define order_columns_dot order_columns_bf16

#define ENGINE(name) name##_dot
#define AC_PAIR 2
#define AC_BLOCK AC_LOCAL_DOT_TOKENS
#define AC_TILES "mla_register_tiles.inc.h"
#define QK_VECS 1
#define QK_TOKENS 16
#define QK_CHUNKS 4
#define v_mac(a, b, c) _mm512_dpbf16_ps(c, (__m512bh)(a), (__m512bh)(b))
#include "mla_decode.inc.h"
#undef ENGINE
#undef AC_PAIR
#undef AC_BLOCK
#undef AC_TILES
#undef QK_VECS
#undef QK_TOKENS
#undef QK_CHUNKS
#undef v_mac
