/* Vector integer instructions and moves. */
#include "valu.h"

/* ---- helpers ---------------------------------------------------------------------------------------------------- */

static inline int32_t signed_24(uint32_t value) { return (int32_t)(value << 8) >> 8; }
static inline uint32_t unsigned_24(uint32_t value) { return value & 0xffffff; }
static inline uint64_t join(uint32_t high, uint32_t low) { return (uint64_t)high << 32 | low; }

static inline uint32_t saturate_i32(int64_t value) {
    return (uint32_t)(value > INT32_MAX ? INT32_MAX : value < INT32_MIN ? INT32_MIN : value);
}

static inline uint32_t field_u32(uint32_t value, uint32_t offset, uint32_t width) {
    return value >> (offset & 31) & ((1u << (width & 31)) - 1);
}

static inline uint32_t field_i32(uint32_t value, uint32_t offset, uint32_t width) {
    uint32_t shifted = (uint32_t)((int32_t)value >> (offset & 31)); /* above the top comes the sign */
    uint32_t field = field_u32(shifted, 0, width), sign = (1u << (width & 31)) >> 1;
    return (field ^ sign) - sign;
}

static inline uint32_t reverse_32(uint32_t x) {
    x = (x >> 1 & 0x55555555) | (x & 0x55555555) << 1;
    x = (x >> 2 & 0x33333333) | (x & 0x33333333) << 2;
    x = (x >> 4 & 0x0f0f0f0f) | (x & 0x0f0f0f0f) << 4;
    return __builtin_bswap32(x);
}

static inline uint32_t first_bit_high(uint32_t value) { return value ? (uint32_t)__builtin_clz(value) : UINT32_MAX; }
static inline uint32_t first_bit_low(uint32_t value) { return value ? (uint32_t)__builtin_ctz(value) : UINT32_MAX; }

static inline uint32_t max_u32(uint32_t a, uint32_t b) { return a > b ? a : b; }
static inline uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }
static inline uint32_t max_i32(uint32_t a, uint32_t b) { return (int32_t)a > (int32_t)b ? a : b; }
static inline uint32_t min_i32(uint32_t a, uint32_t b) { return (int32_t)a < (int32_t)b ? a : b; }

/* Selector bytes of v_perm_b32: 0-7 a byte of {a, b}, 8-11 a sign, 12 zero, from 13 on 0xff. With masks instead of
 * branches, so that it vectorises. */
static inline uint32_t permute_bytes(uint32_t a, uint32_t b, uint32_t selectors) {
    uint32_t result = 0;
    for (int i = 0; i < 4; i++) {
        uint32_t selector = selectors >> 8 * i & 0xff;
        uint32_t byte = (b ^ ((a ^ b) & -(selector >> 2 & 1))) >> 8 * (selector & 3);
        uint32_t sign = -((b ^ ((a ^ b) & -(selector >> 1 & 1))) >> (15 + 16 * (selector & 1)) & 1);
        uint32_t is_byte = -(uint32_t)(selector < 8), is_sign = -(uint32_t)(selector < 12) & ~is_byte;
        uint32_t is_ones = -(uint32_t)(selector > 12);
        result |= (((byte & is_byte) | (sign & is_sign) | is_ones) & 0xff) << 8 * i;
    }
    return result;
}

static inline uint32_t absolute_difference(uint32_t a, uint32_t b) { return a > b ? a - b : b - a; }

static inline uint32_t sad_bytes(uint32_t a, uint32_t b) {
    uint32_t sum = 0;
    for (int i = 0; i < 4; i++) sum += absolute_difference(a >> 8 * i & 0xff, b >> 8 * i & 0xff);
    return sum;
}

static inline uint32_t sad_words(uint32_t a, uint32_t b) {
    return absolute_difference(a & 0xffff, b & 0xffff) + absolute_difference(a >> 16, b >> 16);
}

/* Bit k of `table` is the result where a, b and c spell k, a first. */
static inline uint32_t by_truth_table(uint32_t a, uint32_t b, uint32_t c, uint32_t table) {
    uint32_t result = 0;
    for (uint32_t k = 0; k < 8; k++)
        if (table >> k & 1) result |= (k & 4 ? a : ~a) & (k & 2 ? b : ~b) & (k & 1 ? c : ~c);
    return result;
}

static inline uint32_t below(int lane, int first) /* a mask of the lanes first..first+31 that lie below `lane` */
{
    return lane <= first ? 0 : lane >= first + 32 ? UINT32_MAX : (1u << (lane - first)) - 1;
}

/* ---- 32 bits ---------------------------------------------------------------------------------------------------- */

LANE_OP1(v_mov_b32, a)
LANE_OP1(v_not_b32, ~a)
LANE_OP1(v_bfrev_b32, reverse_32(a))
LANE_OP1(v_ffbh_u32, first_bit_high(a))
LANE_OP1(v_ffbl_b32, first_bit_low(a))
LANE_OP1(v_ffbh_i32, first_bit_high((int32_t)a < 0 ? ~a : a))
LANE_OP2(v_add_u32, insn->clamp && a + b < a ? UINT32_MAX : a + b)
LANE_OP2(v_sub_u32, insn->clamp && a < b ? 0 : a - b)
LANE_OP2(v_subrev_u32, insn->clamp && b < a ? 0 : b - a)
LANE_OP2(v_add_i32, insn->clamp ? saturate_i32((int64_t)(int32_t)a + (int32_t)b) : a + b)
LANE_OP2(v_sub_i32, insn->clamp ? saturate_i32((int64_t)(int32_t)a - (int32_t)b) : a - b)
LANE_OP2(v_and_b32, a & b)
LANE_OP2(v_or_b32, a | b)
LANE_OP2(v_xor_b32, a ^ b)
LANE_OP2(v_xnor_b32, ~(a ^ b))
LANE_OP2(v_lshlrev_b32, b << (a & 31))
LANE_OP2(v_lshrrev_b32, b >> (a & 31))
LANE_OP2(v_ashrrev_i32, (uint32_t)((int32_t)b >> (a & 31)))
LANE_OP2(v_min_u32, min_u32(a, b))
LANE_OP2(v_max_u32, max_u32(a, b))
LANE_OP2(v_min_i32, min_i32(a, b))
LANE_OP2(v_max_i32, max_i32(a, b))
LANE_OP2(v_mul_lo_u32, a * b)
LANE_OP2(v_mul_hi_u32, (uint32_t)((uint64_t)a * b >> 32))
LANE_OP2(v_mul_hi_i32, (uint32_t)((int64_t)(int32_t)a * (int32_t)b >> 32))
LANE_OP2(v_mul_u32_u24, unsigned_24(a) * unsigned_24(b))
LANE_OP2(v_mul_i32_i24, (uint32_t)signed_24(a) * (uint32_t)signed_24(b))
LANE_OP2(v_mul_hi_u32_u24, (uint32_t)((uint64_t)unsigned_24(a) * unsigned_24(b) >> 32))
LANE_OP2(v_mul_hi_i32_i24, (uint32_t)((int64_t)signed_24(a) * signed_24(b) >> 32))
LANE_OP3(v_mad_u32_u24, unsigned_24(a) * unsigned_24(b) + c)
LANE_OP3(v_mad_i32_i24, (uint32_t)signed_24(a) * (uint32_t)signed_24(b) + c)
LANE_OP3(v_add3_u32, a + b + c)
LANE_OP3(v_lshl_add_u32, (a << (b & 31)) + c)
LANE_OP3(v_add_lshl_u32, (a + b) << (c & 31))
LANE_OP3(v_lshl_or_b32, a << (b & 31) | c)
LANE_OP3(v_and_or_b32, (a & b) | c)
LANE_OP3(v_or3_b32, a | b | c)
LANE_OP3(v_xad_u32, (a ^ b) + c)
LANE_OP3(v_bfe_u32, field_u32(a, b, c))
LANE_OP3(v_bfe_i32, field_i32(a, b, c))
LANE_OP3(v_bfi_b32, (a & b) | (~a & c))
LANE_OP2(v_bfm_b32, ((1u << (a & 31)) - 1) << (b & 31))
LANE_OP3(v_alignbit_b32, (uint32_t)(join(a, b) >> (c & 31)))
LANE_OP3(v_alignbyte_b32, (uint32_t)(join(a, b) >> 8 * (c & 3)))
LANE_OP3(v_perm_b32, permute_bytes(a, b, c))
LANE_OP3(v_min3_u32, min_u32(min_u32(a, b), c))
LANE_OP3(v_max3_u32, max_u32(max_u32(a, b), c))
LANE_OP3(v_min3_i32, min_i32(min_i32(a, b), c))
LANE_OP3(v_max3_i32, max_i32(max_i32(a, b), c))
LANE_OP3(v_med3_u32, max_u32(min_u32(a, b), min_u32(max_u32(a, b), c)))
LANE_OP3(v_med3_i32, max_i32(min_i32(a, b), min_i32(max_i32(a, b), c)))
LANE_OP2(v_bcnt_u32_b32, (uint32_t)__builtin_popcount(a) + b)
LANE_OP2(v_mbcnt_lo_u32_b32, (uint32_t)__builtin_popcount(a & below(lane, 0)) + b)
LANE_OP2(v_mbcnt_hi_u32_b32, (uint32_t)__builtin_popcount(a & below(lane, 32)) + b)
LANE_OP3(v_sad_u32, absolute_difference(a, b) + c)
LANE_OP3(v_sad_u16, sad_words(a, b) + c)
LANE_OP3(v_sad_u8, sad_bytes(a, b) + c)
LANE_OP3(v_sad_hi_u8, (sad_bytes(a, b) << 16) + c)
LANE_OP3(v_bitop3_b32, by_truth_table(a, b, c, insn->bitop3))

/* ---- 16 bits ---------------------------------------------------------------------------------------------------- */

#define HALF_OP2(name, expression)                                                                                     \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint32_t buffer_a[GS_LANES], buffer_b[GS_LANES], out[GS_LANES];                                                \
        const uint32_t *pa = gs_read16(wave, insn, 0, buffer_a), *pb = gs_read16(wave, insn, 1, buffer_b);             \
        GS_FOR_LANES {                                                                                                 \
            uint16_t a = (uint16_t)pa[lane], b = (uint16_t)pb[lane];                                                   \
            out[lane] = (uint16_t)(expression);                                                                        \
        }                                                                                                              \
        gs_write16(wave, insn, out);                                                                                   \
    }

#define HALF_OP3(name, expression)                                                                                     \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint32_t buffer_a[GS_LANES], buffer_b[GS_LANES], buffer_c[GS_LANES], out[GS_LANES];                            \
        const uint32_t *pa = gs_read16(wave, insn, 0, buffer_a), *pb = gs_read16(wave, insn, 1, buffer_b);             \
        const uint32_t *pc = gs_read16(wave, insn, 2, buffer_c);                                                       \
        GS_FOR_LANES {                                                                                                 \
            uint16_t a = (uint16_t)pa[lane], b = (uint16_t)pb[lane], c = (uint16_t)pc[lane];                           \
            out[lane] = (uint16_t)(expression);                                                                        \
        }                                                                                                              \
        gs_write16(wave, insn, out);                                                                                   \
    }

static inline int signed_16(uint16_t value) { return (int16_t)value; }

static inline int clamp_u16(const gs_insn_t *insn, int value) {
    return !insn->clamp ? value : value < 0 ? 0 : value > 0xffff ? 0xffff : value;
}

static inline int clamp_i16(const gs_insn_t *insn, int value) {
    return !insn->clamp ? value : value < INT16_MIN ? INT16_MIN : value > INT16_MAX ? INT16_MAX : value;
}

static inline int smaller(int a, int b) { return a < b ? a : b; }
static inline int larger(int a, int b) { return a > b ? a : b; }
static inline int middle(int a, int b, int c) { return larger(smaller(a, b), smaller(larger(a, b), c)); }

HALF_OP2(v_add_u16, clamp_u16(insn, a + b))
HALF_OP2(v_sub_u16, clamp_u16(insn, a - b))
HALF_OP2(v_subrev_u16, clamp_u16(insn, b - a))
HALF_OP2(v_add_i16, clamp_i16(insn, signed_16(a) + signed_16(b)))
HALF_OP2(v_sub_i16, clamp_i16(insn, signed_16(a) - signed_16(b)))
HALF_OP2(v_mul_lo_u16, (uint32_t)a *b)
HALF_OP2(v_lshlrev_b16, b << (a & 15))
HALF_OP2(v_lshrrev_b16, b >> (a & 15))
HALF_OP2(v_ashrrev_i16, signed_16(b) >> (a & 15))
HALF_OP2(v_min_u16, smaller(a, b))
HALF_OP2(v_max_u16, larger(a, b))
HALF_OP2(v_min_i16, smaller(signed_16(a), signed_16(b)))
HALF_OP2(v_max_i16, larger(signed_16(a), signed_16(b)))
HALF_OP3(v_mad_u16, insn->clamp ? min_u32((uint32_t)a * b + c, 0xffff) : (uint32_t)a * b + c)
HALF_OP3(v_mad_i16, clamp_i16(insn, signed_16(a) * signed_16(b) + signed_16(c)))
HALF_OP3(v_min3_u16, smaller(smaller(a, b), c))
HALF_OP3(v_max3_u16, larger(larger(a, b), c))
HALF_OP3(v_med3_u16, middle(a, b, c))
HALF_OP3(v_min3_i16, smaller(smaller(signed_16(a), signed_16(b)), signed_16(c)))
HALF_OP3(v_max3_i16, larger(larger(signed_16(a), signed_16(b)), signed_16(c)))
HALF_OP3(v_med3_i16, middle(signed_16(a), signed_16(b), signed_16(c)))
HALF_OP3(v_bitop3_b16, by_truth_table(a, b, c, insn->bitop3))

static uint32_t saturate_u8(uint32_t half) {
    return (uint32_t)(signed_16((uint16_t)half) < 0 ? 0 : signed_16((uint16_t)half) > 255 ? 255 : half);
}

LANE_OP1(v_sat_pk_u8_i16, saturate_u8(a & 0xffff) | saturate_u8(a >> 16) << 8)

/* 16-bit factors, 32-bit sum. */
static void mad_32_16(gs_wave_t *wave, const gs_insn_t *insn) /* insn->a: signed */
{
    uint32_t buffer_a[GS_LANES], buffer_b[GS_LANES], buffer_c[GS_LANES], out[GS_LANES];
    const uint32_t *pa = gs_read16(wave, insn, 0, buffer_a), *pb = gs_read16(wave, insn, 1, buffer_b);
    const uint32_t *pc = gs_read32(wave, insn, 2, buffer_c);
    GS_FOR_LANES {
        uint32_t product = insn->a ? (uint32_t)((int16_t)pa[lane] * (int16_t)pb[lane]) : pa[lane] * pb[lane];
        out[lane] = product + pc[lane];
    }
    gs_write32(wave, insn, 0, out);
}

/* ---- 64 bits ---------------------------------------------------------------------------------------------------- */

static void v_mov_b64(gs_wave_t *wave, const gs_insn_t *insn) {
    uint64_t buffer[GS_LANES];
    gs_write64(wave, insn, gs_read64(wave, insn, 0, buffer));
}

enum { LSHL, LSHR, ASHR };

static void shift_64(gs_wave_t *wave, const gs_insn_t *insn) /* insn->a: which */
{
    uint32_t buffer_a[GS_LANES];
    uint64_t buffer_b[GS_LANES], out[GS_LANES];
    const uint32_t *pa = gs_read32(wave, insn, 0, buffer_a);
    const uint64_t *pb = gs_read64(wave, insn, 1, buffer_b);
    GS_FOR_LANES {
        uint32_t amount = pa[lane] & 63;
        uint64_t value = pb[lane];
        out[lane] = insn->a == LSHL   ? value << amount
                    : insn->a == LSHR ? value >> amount
                                      : (uint64_t)((int64_t)value >> amount);
    }
    gs_write64(wave, insn, out);
}

static void v_lshl_add_u64(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffer_b[GS_LANES];
    uint64_t buffer_a[GS_LANES], buffer_c[GS_LANES], out[GS_LANES];
    const uint64_t *pa = gs_read64(wave, insn, 0, buffer_a), *pc = gs_read64(wave, insn, 2, buffer_c);
    const uint32_t *pb = gs_read32(wave, insn, 1, buffer_b);
    GS_FOR_LANES out[lane] = (pa[lane] << (pb[lane] & 63)) + pc[lane];
    gs_write64(wave, insn, out);
}

/* v_mad_u64_u32, v_mad_i64_i32; the second destination has the carry out of 64 bits. */
static void mad_64_32(gs_wave_t *wave, const gs_insn_t *insn) /* insn->a: signed */
{
    uint32_t buffer_a[GS_LANES], buffer_b[GS_LANES];
    uint64_t buffer_c[GS_LANES], out[GS_LANES], carry = 0;
    const uint32_t *pa = gs_read32(wave, insn, 0, buffer_a), *pb = gs_read32(wave, insn, 1, buffer_b);
    const uint64_t *pc = gs_read64(wave, insn, 2, buffer_c);
    GS_FOR_LANES {
        int64_t signed_product = (int64_t)(int32_t)pa[lane] * (int32_t)pb[lane];
        uint64_t product = insn->a ? (uint64_t)signed_product : (uint64_t)pa[lane] * pb[lane];
        out[lane] = product + pc[lane];
        bool out_of_u64 = out[lane] < product;
        /* Bit 64 of the sum of the sign-extended operands. */
        bool bit_64 = out_of_u64 ^ (signed_product < 0) ^ ((int64_t)pc[lane] < 0);
        carry |= (uint64_t)(insn->a ? bit_64 : out_of_u64) << lane;
    }
    gs_write64(wave, insn, out);
    gs_write_mask(wave, insn, 1, carry);
}

/* ---- carries ---------------------------------------------------------------------------------------------------- */

enum { ADD, SUB, SUBREV };

/* insn->a: the operation. The carry or borrow comes in by src[2] if there is one and goes out by dst[1]. */
static void add_with_carry(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffer_a[GS_LANES], buffer_b[GS_LANES], out[GS_LANES];
    const uint32_t *pa = gs_read32(wave, insn, 0, buffer_a), *pb = gs_read32(wave, insn, 1, buffer_b);
    uint64_t carry_in = insn->src_count > 2 ? gs_read_scalar64(wave, &insn->src[2]) : 0, carry_out = 0;
    GS_FOR_LANES {
        uint64_t a = pa[lane], b = pb[lane], carry = carry_in >> lane & 1;
        uint64_t result = insn->a == ADD ? a + b + carry : insn->a == SUB ? a - b - carry : b - a - carry;
        carry_out |= (result >> 32 & 1) << lane;
        out[lane] = (uint32_t)result;
        if (insn->clamp && result >> 32 & 1) out[lane] = insn->a == ADD ? UINT32_MAX : 0;
    }
    gs_write32(wave, insn, 0, out);
    gs_write_mask(wave, insn, 1, carry_out);
}

static void v_cndmask_b32(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t buffer_a[GS_LANES], buffer_b[GS_LANES], out[GS_LANES];
    const uint32_t *pa = gs_read32(wave, insn, 0, buffer_a), *pb = gs_read32(wave, insn, 1, buffer_b);
    uint64_t mask = gs_read_scalar64(wave, &insn->src[2]);
    for (int first = 0; first < GS_LANES; first += 32) {
        uint32_t half = (uint32_t)(mask >> first);
        for (int i = 0; i < 32; i++) out[first + i] = half & 1u << i ? pb[first + i] : pa[first + i];
    }
    gs_write32(wave, insn, 0, out);
}

/* One step of the chip's pseudo random number generator: a 32-bit LFSR. */
LANE_OP1(v_prng_b32, a << 1 ^ (a >> 31 ? 197u : 0))

static uint32_t shift_saturate(uint32_t value, uint32_t amount, int32_t low, int32_t high) {
    int32_t shifted = (int32_t)value >> (amount & 31);
    return (uint32_t)(shifted < low ? low : shifted > high ? high : shifted);
}

LANE_OP3(ashr_pk_i8, (shift_saturate(a, c, -128, 127) & 0xff) | (shift_saturate(b, c, -128, 127) & 0xff) << 8)
LANE_OP3(ashr_pk_u8, shift_saturate(a, c, 0, 255) | shift_saturate(b, c, 0, 255) << 8)

/* ---- the list --------------------------------------------------------------------------------------------------- */

enum { BITS = GS_BITWISE, SUM = GS_CARRIES };

const gs_semantics_t gs_valu_int_list[] = {
    GS_ENTRY(v_mov_b32, BITS), GS_ENTRY(v_not_b32, BITS), GS_ENTRY(v_bfrev_b32, BITS), GS_ENTRY(v_ffbh_u32, 0),
    GS_ENTRY(v_ffbl_b32, 0), GS_ENTRY(v_ffbh_i32, 0), GS_ENTRY(v_add_u32, SUM), GS_ENTRY(v_sub_u32, SUM),
    GS_ENTRY(v_subrev_u32, SUM), GS_ENTRY(v_add_i32, 0), GS_ENTRY(v_sub_i32, 0), GS_ENTRY(v_and_b32, BITS),
    GS_ENTRY(v_or_b32, BITS), GS_ENTRY(v_xor_b32, BITS), GS_ENTRY(v_xnor_b32, BITS), GS_ENTRY(v_lshlrev_b32, BITS),
    GS_ENTRY(v_lshrrev_b32, BITS), GS_ENTRY(v_ashrrev_i32, BITS), GS_ENTRY(v_min_u32, 0), GS_ENTRY(v_max_u32, 0),
    GS_ENTRY(v_min_i32, 0), GS_ENTRY(v_max_i32, 0), GS_ENTRY(v_mul_lo_u32, SUM), GS_ENTRY(v_mul_hi_u32, 0),
    GS_ENTRY(v_mul_hi_i32, 0), GS_ENTRY(v_mul_u32_u24, SUM), GS_ENTRY(v_mul_i32_i24, SUM),
    GS_ENTRY(v_mul_hi_u32_u24, 0),
    GS_ENTRY(v_mul_hi_i32_i24, 0), GS_ENTRY(v_mad_u32_u24, SUM), GS_ENTRY(v_mad_i32_i24, SUM),
    GS_ENTRY(v_add3_u32, SUM),
    GS_ENTRY(v_lshl_add_u32, SUM), GS_ENTRY(v_add_lshl_u32, SUM), GS_ENTRY(v_lshl_or_b32, BITS),
    GS_ENTRY(v_and_or_b32, BITS), GS_ENTRY(v_or3_b32, BITS), GS_ENTRY(v_xad_u32, SUM), GS_ENTRY(v_bfe_u32, BITS),
    GS_ENTRY(v_bfe_i32, BITS), GS_ENTRY(v_bfi_b32, BITS), GS_ENTRY(v_bfm_b32, 0), GS_ENTRY(v_alignbit_b32, BITS),
    GS_ENTRY(v_alignbyte_b32, BITS), GS_ENTRY(v_perm_b32, BITS), GS_ENTRY(v_min3_u32, 0), GS_ENTRY(v_max3_u32, 0),
    GS_ENTRY(v_min3_i32, 0), GS_ENTRY(v_max3_i32, 0), GS_ENTRY(v_med3_u32, 0), GS_ENTRY(v_med3_i32, 0),
    GS_ENTRY(v_bcnt_u32_b32, 0), GS_ENTRY(v_mbcnt_lo_u32_b32, 0), GS_ENTRY(v_mbcnt_hi_u32_b32, 0),
    GS_ENTRY(v_sad_u32, 0), GS_ENTRY(v_sad_u16, 0), GS_ENTRY(v_sad_u8, 0), GS_ENTRY(v_sad_hi_u8, 0),
    GS_ENTRY(v_bitop3_b32, BITS),

    GS_ENTRY(v_add_u16, 0), GS_ENTRY(v_sub_u16, 0), GS_ENTRY(v_subrev_u16, 0), GS_ENTRY(v_add_i16, 0),
    GS_ENTRY(v_sub_i16, 0), GS_ENTRY(v_mul_lo_u16, 0), GS_ENTRY(v_lshlrev_b16, BITS), GS_ENTRY(v_lshrrev_b16, BITS),
    GS_ENTRY(v_ashrrev_i16, BITS), GS_ENTRY(v_min_u16, 0), GS_ENTRY(v_max_u16, 0), GS_ENTRY(v_min_i16, 0),
    GS_ENTRY(v_max_i16, 0), GS_ENTRY(v_mad_u16, 0), GS_ENTRY(v_mad_i16, 0),
    {"v_mad_legacy_u16", v_mad_u16, 0, 0, 0, 0}, {"v_mad_legacy_i16", v_mad_i16, 0, 0, 0, 0},
    GS_ENTRY(v_min3_u16, 0), GS_ENTRY(v_max3_u16, 0), GS_ENTRY(v_med3_u16, 0), GS_ENTRY(v_min3_i16, 0),
    GS_ENTRY(v_max3_i16, 0), GS_ENTRY(v_med3_i16, 0), GS_ENTRY(v_bitop3_b16, BITS), GS_ENTRY(v_sat_pk_u8_i16, 0),
    {"v_mad_u32_u16", mad_32_16, 0, 0, 0, 0}, {"v_mad_i32_i16", mad_32_16, 1, 0, 0, 0},

    GS_ENTRY(v_mov_b64, BITS), {"v_lshlrev_b64", shift_64, LSHL, 0, BITS, 0},
    {"v_lshrrev_b64", shift_64, LSHR, 0, BITS, 0}, {"v_ashrrev_i64", shift_64, ASHR, 0, BITS, 0},
    GS_ENTRY(v_lshl_add_u64, SUM), {"v_mad_u64_u32", mad_64_32, 0, 0, SUM, 0},
    {"v_mad_i64_i32", mad_64_32, 1, 0, SUM, 0},
    {"v_add_co_u32", add_with_carry, ADD, 0, SUM, 0},
    {"v_addc_co_u32", add_with_carry, ADD, 0, SUM | GS_LANE_MASK_SRC2, 0},
    {"v_sub_co_u32", add_with_carry, SUB, 0, SUM, 0},
    {"v_subb_co_u32", add_with_carry, SUB, 0, SUM | GS_LANE_MASK_SRC2, 0},
    {"v_subrev_co_u32", add_with_carry, SUBREV, 0, SUM, 0},
    {"v_subbrev_co_u32", add_with_carry, SUBREV, 0, SUM | GS_LANE_MASK_SRC2, 0}, GS_ENTRY(v_cndmask_b32, BITS),
    GS_ENTRY(v_prng_b32, 0), {"v_ashr_pk_i8_i32", ashr_pk_i8, 0, 0, 0, 0}, {"v_ashr_pk_u8_i32", ashr_pk_u8, 0, 0, 0, 0},

    {"v_accvgpr_read_b32", v_mov_b32, 0, 0, BITS, 0}, {"v_accvgpr_write_b32", v_mov_b32, 0, 0, BITS, 0},
    {"v_accvgpr_mov_b32", v_mov_b32, 0, 0, BITS, 0},
    {0},
};
