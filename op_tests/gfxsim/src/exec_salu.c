/* Scalar arithmetic, compares, branches and control. */
#include "exec.h"

/* ---- shapes: `expression` gives the result of sources a and b; `carry` SCC, from the result r ------------------- */

#define SCALAR1_32(name, expression)                                                                                   \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint32_t a = gs_read_scalar32(wave, &insn->src[0]);                                                            \
        gs_write_scalar32(wave, &insn->dst[0], expression);                                                            \
    }

#define SCALAR1_32_SCC(name, expression, carry)                                                                        \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint32_t a = gs_read_scalar32(wave, &insn->src[0]), r = expression;                                            \
        wave->scc = carry;                                                                                             \
        gs_write_scalar32(wave, &insn->dst[0], r);                                                                     \
    }

#define SCALAR2_32(name, expression)                                                                                   \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint32_t a = gs_read_scalar32(wave, &insn->src[0]), b = gs_read_scalar32(wave, &insn->src[1]);                 \
        gs_write_scalar32(wave, &insn->dst[0], expression);                                                            \
    }

#define SCALAR2_32_SCC(name, expression, carry)                                                                        \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint32_t a = gs_read_scalar32(wave, &insn->src[0]), b = gs_read_scalar32(wave, &insn->src[1]);                 \
        uint32_t r = expression;                                                                                       \
        wave->scc = carry;                                                                                             \
        gs_write_scalar32(wave, &insn->dst[0], r);                                                                     \
    }

#define SCALAR1_64_SCC(name, expression, carry)                                                                        \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint64_t a = gs_read_scalar64(wave, &insn->src[0]), r = expression;                                            \
        wave->scc = carry;                                                                                             \
        gs_write_scalar64(wave, &insn->dst[0], r);                                                                     \
    }

#define SCALAR2_64_SCC(name, expression, carry)                                                                        \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint64_t a = gs_read_scalar64(wave, &insn->src[0]), b = gs_read_scalar64(wave, &insn->src[1]);                 \
        uint64_t r = expression;                                                                                       \
        wave->scc = carry;                                                                                             \
        gs_write_scalar64(wave, &insn->dst[0], r);                                                                     \
    }

/* A 64-bit value and a 32-bit control. */
#define SCALAR_64_32_SCC(name, expression, carry)                                                                      \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint64_t a = gs_read_scalar64(wave, &insn->src[0]);                                                            \
        uint32_t b = gs_read_scalar32(wave, &insn->src[1]);                                                            \
        uint64_t r = expression;                                                                                       \
        wave->scc = carry;                                                                                             \
        gs_write_scalar64(wave, &insn->dst[0], r);                                                                     \
    }

#define SCALAR_32_OF_64(name, expression)                                                                              \
    static void name(gs_wave_t *wave, const gs_insn_t *insn) {                                                         \
        uint64_t a = gs_read_scalar64(wave, &insn->src[0]);                                                            \
        gs_write_scalar32(wave, &insn->dst[0], expression);                                                            \
    }

#define LOGIC(operation, expression)                                                                                   \
    SCALAR2_32_SCC(s_##operation##_b32, expression, r != 0)                                                            \
    SCALAR2_64_SCC(s_##operation##_b64, expression, r != 0)

/* ---- moves and single operands ---------------------------------------------------------------------------------- */

static uint64_t reverse_bits(uint64_t value, int bits) {
    uint64_t reversed = 0;
    for (int i = 0; i < bits; i++) reversed |= (value >> i & 1) << (bits - 1 - i);
    return reversed;
}

static uint32_t leading_sign_bits(uint64_t value) /* position of the first bit that differs from the sign */
{
    uint64_t bits = (int64_t)value < 0 ? ~value : value;
    return bits ? (uint32_t)__builtin_clzll(bits) : UINT32_MAX;
}

static uint64_t whole_quads(uint64_t mask) /* each nibble becomes all ones if it is not 0 */
{
    uint64_t any = mask | mask >> 1 | mask >> 2 | mask >> 3;
    return (any & 0x1111111111111111) * 15;
}

SCALAR1_32(s_mov_b32, a)
SCALAR1_64_SCC(s_mov_b64, a, wave->scc)
SCALAR1_32_SCC(s_not_b32, ~a, r != 0)
SCALAR1_64_SCC(s_not_b64, ~a, r != 0)
SCALAR1_32_SCC(s_wqm_b32, (uint32_t)whole_quads(a), r != 0)
SCALAR1_64_SCC(s_wqm_b64, whole_quads(a), r != 0)
SCALAR1_32_SCC(s_abs_i32, (int32_t)a < 0 ? -a : a, r != 0)
SCALAR1_32(s_sext_i32_i8, (uint32_t)(int8_t)a)
SCALAR1_32(s_sext_i32_i16, (uint32_t)(int16_t)a)
SCALAR1_32(s_brev_b32, (uint32_t)reverse_bits(a, 32))
SCALAR1_64_SCC(s_brev_b64, reverse_bits(a, 64), wave->scc)
SCALAR1_32_SCC(s_bcnt0_i32_b32, (uint32_t)__builtin_popcount(~a), r != 0)
SCALAR1_32_SCC(s_bcnt1_i32_b32, (uint32_t)__builtin_popcount(a), r != 0)
SCALAR1_32(s_ff0_i32_b32, ~a ? (uint32_t)__builtin_ctz(~a) : UINT32_MAX)
SCALAR1_32(s_ff1_i32_b32, a ? (uint32_t)__builtin_ctz(a) : UINT32_MAX)
SCALAR_32_OF_64(s_ff0_i32_b64, ~a ? (uint32_t)__builtin_ctzll(~a) : UINT32_MAX)
SCALAR_32_OF_64(s_ff1_i32_b64, a ? (uint32_t)__builtin_ctzll(a) : UINT32_MAX)
SCALAR1_32(s_flbit_i32_b32, a ? (uint32_t)__builtin_clz(a) : UINT32_MAX)
SCALAR_32_OF_64(s_flbit_i32_b64, a ? (uint32_t)__builtin_clzll(a) : UINT32_MAX)
SCALAR1_32(s_flbit_i32, leading_sign_bits((uint64_t)a << 32 | ((int32_t)a < 0 ? UINT32_MAX : 0)))
SCALAR_32_OF_64(s_flbit_i32_i64, leading_sign_bits(a))

static void count_bits_64(gs_wave_t *wave, const gs_insn_t *insn) {
    uint64_t value = gs_read_scalar64(wave, &insn->src[0]);
    uint32_t count = (uint32_t)__builtin_popcountll(insn->a ? value : ~value);
    wave->scc = count != 0;
    gs_write_scalar32(wave, &insn->dst[0], count);
}

static void s_movk_i32(gs_wave_t *wave, const gs_insn_t *insn) {
    gs_write_scalar32(wave, &insn->dst[0], (uint32_t)(int16_t)insn->imm);
}

static void s_cmov_b32(gs_wave_t *wave, const gs_insn_t *insn) {
    if (wave->scc) gs_write_scalar32(wave, &insn->dst[0], gs_read_scalar32(wave, &insn->src[0]));
}

static void s_cmov_b64(gs_wave_t *wave, const gs_insn_t *insn) {
    if (wave->scc) gs_write_scalar64(wave, &insn->dst[0], gs_read_scalar64(wave, &insn->src[0]));
}

static void s_cmovk_i32(gs_wave_t *wave, const gs_insn_t *insn) {
    if (wave->scc) s_movk_i32(wave, insn);
}

/* ---- two operands ----------------------------------------------------------------------------------------------- */

static uint32_t overflow_add(uint32_t a, uint32_t b, uint32_t r) { return (~(a ^ b) & (a ^ r)) >> 31; }
static uint32_t overflow_sub(uint32_t a, uint32_t b, uint32_t r) { return ((a ^ b) & (a ^ r)) >> 31; }

static uint64_t field_u64(uint64_t value, uint32_t control) /* offset in control[5:0], width in control[22:16] */
{
    uint32_t offset = control & 63, width = control >> 16 & 127;
    return width == 0 ? 0 : width >= 64 ? value >> offset : value >> offset & ((UINT64_C(1) << width) - 1);
}

/* The signed field continues above the top of the source with its sign. */
static uint64_t field_i64(uint64_t value, uint32_t control) {
    uint32_t width = control >> 16 & 127;
    uint64_t shifted = (uint64_t)((int64_t)value >> (control & 63));
    if (width == 0 || width >= 64) return width ? shifted : 0;
    return (uint64_t)((int64_t)(shifted << (64 - width)) >> (64 - width));
}

static uint32_t field_u32(uint32_t a, uint32_t b) { return (uint32_t)field_u64(a, (b & 31) | (b & 0x7f0000)); }

static uint32_t field_i32(uint32_t a, uint32_t b) {
    return (uint32_t)field_i64((uint64_t)(int64_t)(int32_t)a, (b & 31) | (b & 0x7f0000));
}

static uint32_t shift_add_carry(uint32_t a, uint32_t b, int shift) {
    return (((uint64_t)a << shift) + b) >> 32 != 0;
}

SCALAR2_32_SCC(s_add_u32, a + b, r < a)
SCALAR2_32_SCC(s_addc_u32, a + b + wave->scc, ((uint64_t)a + b + wave->scc) >> 32 != 0)
SCALAR2_32_SCC(s_sub_u32, a - b, a < b)
SCALAR2_32_SCC(s_subb_u32, a - b - wave->scc, (uint64_t)b + wave->scc > a)
SCALAR2_32_SCC(s_add_i32, a + b, overflow_add(a, b, r))
SCALAR2_32_SCC(s_sub_i32, a - b, overflow_sub(a, b, r))
SCALAR2_32_SCC(s_min_i32, (int32_t)a < (int32_t)b ? a : b, (int32_t)a < (int32_t)b)
SCALAR2_32_SCC(s_max_i32, (int32_t)a > (int32_t)b ? a : b, (int32_t)a > (int32_t)b)
SCALAR2_32_SCC(s_min_u32, a < b ? a : b, a < b)
SCALAR2_32_SCC(s_max_u32, a > b ? a : b, a > b)
SCALAR2_32(s_cselect_b32, wave->scc ? a : b)
SCALAR2_64_SCC(s_cselect_b64, wave->scc ? a : b, wave->scc)
LOGIC(and, a & b)
LOGIC(or, a | b)
LOGIC(xor, a ^ b)
LOGIC(andn2, a & ~b)
LOGIC(orn2, a | ~b)
LOGIC(nand, ~(a & b))
LOGIC(nor, ~(a | b))
LOGIC(xnor, ~(a ^ b))
SCALAR2_32_SCC(s_lshl_b32, a << (b & 31), r != 0)
SCALAR2_32_SCC(s_lshr_b32, a >> (b & 31), r != 0)
SCALAR2_32_SCC(s_ashr_i32, (uint32_t)((int32_t)a >> (b & 31)), r != 0)
SCALAR_64_32_SCC(s_lshl_b64, a << (b & 63), r != 0)
SCALAR_64_32_SCC(s_lshr_b64, a >> (b & 63), r != 0)
SCALAR_64_32_SCC(s_ashr_i64, (uint64_t)((int64_t)a >> (b & 63)), r != 0)
SCALAR2_32(s_bfm_b32, ((1u << (a & 31)) - 1) << (b & 31))
SCALAR2_32_SCC(s_bfe_u32, field_u32(a, b), r != 0)
SCALAR2_32_SCC(s_bfe_i32, field_i32(a, b), r != 0)
SCALAR_64_32_SCC(s_bfe_u64, field_u64(a, b), r != 0)
SCALAR_64_32_SCC(s_bfe_i64, field_i64(a, b), r != 0)
SCALAR2_32(s_mul_i32, a * b)
SCALAR2_32(s_mul_hi_u32, (uint32_t)((uint64_t)a * b >> 32))
SCALAR2_32(s_mul_hi_i32, (uint32_t)((int64_t)(int32_t)a * (int32_t)b >> 32))
SCALAR2_32_SCC(s_absdiff_i32, (int32_t)(a - b) < 0 ? b - a : a - b, r != 0)
SCALAR2_32_SCC(s_lshl1_add_u32, (a << 1) + b, shift_add_carry(a, b, 1))
SCALAR2_32_SCC(s_lshl2_add_u32, (a << 2) + b, shift_add_carry(a, b, 2))
SCALAR2_32_SCC(s_lshl3_add_u32, (a << 3) + b, shift_add_carry(a, b, 3))
SCALAR2_32_SCC(s_lshl4_add_u32, (a << 4) + b, shift_add_carry(a, b, 4))
SCALAR2_32(s_pack_ll_b32_b16, (a & 0xffff) | b << 16)
SCALAR2_32(s_pack_lh_b32_b16, (a & 0xffff) | (b & 0xffff0000))
SCALAR2_32(s_pack_hh_b32_b16, a >> 16 | (b & 0xffff0000))

static void s_bfm_b64(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t width = gs_read_scalar32(wave, &insn->src[0]) & 63, offset = gs_read_scalar32(wave, &insn->src[1]) & 63;
    gs_write_scalar64(wave, &insn->dst[0], ((UINT64_C(1) << width) - 1) << offset);
}

static void s_addk_i32(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t a = gs_read_scalar32(wave, &insn->dst[0]), b = (uint32_t)(int16_t)insn->imm, r = a + b;
    wave->scc = overflow_add(a, b, r);
    gs_write_scalar32(wave, &insn->dst[0], r);
}

static void s_mulk_i32(gs_wave_t *wave, const gs_insn_t *insn) {
    gs_write_scalar32(wave, &insn->dst[0], gs_read_scalar32(wave, &insn->dst[0]) * (uint32_t)(int16_t)insn->imm);
}

/* s_bitset0, s_bitset1; insn->a: the new bit, insn->b: bits of the destination. */
static void set_bit(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t index = gs_read_scalar32(wave, &insn->src[0]);
    if (insn->b == 32) {
        uint32_t bit = 1u << (index & 31), old = gs_read_scalar32(wave, &insn->dst[0]);
        gs_write_scalar32(wave, &insn->dst[0], insn->a ? old | bit : old & ~bit);
    } else {
        uint64_t bit = UINT64_C(1) << (index & 63), old = gs_read_scalar64(wave, &insn->dst[0]);
        gs_write_scalar64(wave, &insn->dst[0], insn->a ? old | bit : old & ~bit);
    }
}

/* ---- compares --------------------------------------------------------------------------------------------------- */

enum { EQ, LG, GT, GE, LT, LE };
enum { SIGNED_32, UNSIGNED_32, UNSIGNED_64, SIGNED_16_IMMEDIATE, UNSIGNED_16_IMMEDIATE };

/* insn->a: the condition, insn->b: the type. */
static void compare(gs_wave_t *wave, const gs_insn_t *insn) {
    bool immediate = insn->b >= SIGNED_16_IMMEDIATE;
    int64_t a, b;
    if (insn->b == UNSIGNED_64) { /* only EQ and LG exist */
        a = (int64_t)gs_read_scalar64(wave, &insn->src[0]);
        b = (int64_t)gs_read_scalar64(wave, &insn->src[1]);
    } else {
        uint32_t x = gs_read_scalar32(wave, &insn->src[0]);
        uint32_t y = immediate ? 0 : gs_read_scalar32(wave, &insn->src[1]);
        bool is_signed = insn->b == SIGNED_32 || insn->b == SIGNED_16_IMMEDIATE;
        a = is_signed ? (int64_t)(int32_t)x : (int64_t)x;
        b = is_signed ? (int64_t)(int32_t)y : (int64_t)y;
        if (immediate) b = is_signed ? (int64_t)(int16_t)insn->imm : (int64_t)(uint16_t)insn->imm;
    }
    switch (insn->a) {
    case EQ: wave->scc = a == b; break;
    case LG: wave->scc = a != b; break;
    case GT: wave->scc = a > b; break;
    case GE: wave->scc = a >= b; break;
    case LT: wave->scc = a < b; break;
    default: wave->scc = a <= b; break;
    }
}

/* s_bitcmp0, s_bitcmp1; insn->a: the bit that is looked for, insn->b: bits of the source. */
static void compare_bit(gs_wave_t *wave, const gs_insn_t *insn) {
    uint32_t index = gs_read_scalar32(wave, &insn->src[1]);
    uint64_t value = insn->b == 32 ? gs_read_scalar32(wave, &insn->src[0]) : gs_read_scalar64(wave, &insn->src[0]);
    wave->scc = (value >> (index & (uint32_t)(insn->b - 1)) & 1) == (uint64_t)insn->a;
}

/* ---- EXEC ------------------------------------------------------------------------------------------------------- */

enum { AND, OR, XOR, ANDN2, ORN2, NAND, NOR, XNOR, ANDN1, ORN1 };

static uint64_t combine_mask(int operation, uint64_t a, uint64_t exec) {
    switch (operation) {
    case AND: return a & exec;
    case OR: return a | exec;
    case XOR: return a ^ exec;
    case ANDN2: return a & ~exec;
    case ORN2: return a | ~exec;
    case NAND: return ~(a & exec);
    case NOR: return ~(a | exec);
    case XNOR: return ~(a ^ exec);
    case ANDN1: return ~a & exec;
    default: return ~a | exec;
    }
}

/* insn->a: the operation; insn->b: the destination gets the new EXEC (wrexec), not the old one. */
static void save_exec(gs_wave_t *wave, const gs_insn_t *insn) {
    uint64_t exec = gs_exec(wave), a = gs_read_scalar64(wave, &insn->src[0]);
    if (gs_taint_on(wave) && insn->src[0].kind == GS_SREG && insn->src[0].reg < GS_SREGS) {
        uint64_t undefined = gs_pair(wave->taint.sreg, insn->src[0].reg);
        uint64_t with_zeros = combine_mask(insn->a, a & ~undefined, exec);
        if (with_zeros != combine_mask(insn->a, a | undefined, exec)) {
            gs_require_defined(wave, &insn->src[0], 0, "the new EXEC");
        }
        gs_taint_define_scalars(wave, insn->dst[0].reg, 2);
        wave->taint.scc = false;
    }
    uint64_t result = combine_mask(insn->a, a, exec);
    gs_set_pair(wave->s, GS_EXEC, result);
    gs_write_scalar64(wave, &insn->dst[0], insn->b ? result : exec);
    wave->scc = result != 0;
}

/* ---- control ---------------------------------------------------------------------------------------------------- */

static void no_operation(gs_wave_t *wave, const gs_insn_t *insn) {
    (void)wave;
    (void)insn;
}

static void s_endpgm(gs_wave_t *wave, const gs_insn_t *insn) {
    (void)insn;
    wave->stop = GS_STOP_END;
    wave->stopped = true;
}

static void s_barrier(gs_wave_t *wave, const gs_insn_t *insn) {
    (void)insn;
    wave->stop = GS_STOP_BARRIER;
    wave->stopped = true;
}

static void jump(gs_wave_t *wave, const gs_insn_t *insn) { wave->pc += (uintptr_t)((intptr_t)insn->imm * 4); }

static void s_branch(gs_wave_t *wave, const gs_insn_t *insn) { jump(wave, insn); }

static void branch_scc(gs_wave_t *wave, const gs_insn_t *insn) /* insn->a: SCC that jumps */
{
    if (gs_taint_on(wave) && wave->taint.scc) {
        gs_report(wave, GS_REPORT_UNINITIALIZED, "the branch condition, SCC, is undefined");
    }
    if (wave->scc == (uint32_t)insn->a) jump(wave, insn);
}

static void branch_vcc(gs_wave_t *wave, const gs_insn_t *insn) /* insn->a: jumps if VCC is not zero */
{
    uint64_t vcc = gs_pair(wave->s, GS_VCC), undefined = gs_pair(wave->taint.sreg, GS_VCC);
    if ((vcc & ~undefined) == 0) gs_require_scalar(wave, GS_VCC, 2, "the branch condition, VCC,");
    if ((vcc != 0) == (insn->a != 0)) jump(wave, insn);
}

static void branch_exec(gs_wave_t *wave, const gs_insn_t *insn) /* insn->a: jumps if EXEC is not zero */
{
    if ((gs_exec(wave) != 0) == (insn->a != 0)) jump(wave, insn);
}

static void s_getpc_b64(gs_wave_t *wave, const gs_insn_t *insn) { gs_write_scalar64(wave, &insn->dst[0], wave->pc); }

static void s_setpc_b64(gs_wave_t *wave, const gs_insn_t *insn) {
    gs_require_defined(wave, &insn->src[0], 0, "the jump address");
    wave->pc = gs_read_scalar64(wave, &insn->src[0]);
}

static void s_swappc_b64(gs_wave_t *wave, const gs_insn_t *insn) {
    gs_require_defined(wave, &insn->src[0], 0, "the jump address");
    uint64_t target = gs_read_scalar64(wave, &insn->src[0]);
    gs_write_scalar64(wave, &insn->dst[0], wave->pc);
    gs_taint_define_scalars(wave, insn->dst[0].reg, 2);
    wave->pc = target;
}

static void s_call_b64(gs_wave_t *wave, const gs_insn_t *insn) {
    gs_write_scalar64(wave, &insn->dst[0], wave->pc);
    jump(wave, insn);
}

static void s_waitcnt(gs_wave_t *wave, const gs_insn_t *insn) {
    int counts = insn->imm;
    gs_wait_for(wave, (counts & 15) | (counts >> 14 & 3) << 4, counts >> 8 & 15);
}

/* ---- GPR index mode, hardware registers ------------------------------------------------------------------------- */

static void s_set_gpr_idx_on(gs_wave_t *wave, const gs_insn_t *insn) {
    gs_require_defined(wave, &insn->src[0], 0, "the GPR index");
    uint32_t index = gs_read_scalar32(wave, &insn->src[0]) & 0xff;
    uint32_t enables = insn->src_count > 1 ? (uint32_t)insn->src[1].value : (uint32_t)insn->imm;
    wave->gpr_index_on = 1;
    wave->s[GS_M0] = (wave->s[GS_M0] & ~0xf0ffu) | index | (enables & 15) << 12;
}

static void s_set_gpr_idx_off(gs_wave_t *wave, const gs_insn_t *insn) {
    (void)insn;
    wave->gpr_index_on = 0;
}

static void s_set_gpr_idx_idx(gs_wave_t *wave, const gs_insn_t *insn) {
    gs_require_defined(wave, &insn->src[0], 0, "the GPR index");
    wave->s[GS_M0] = (wave->s[GS_M0] & ~0xffu) | (gs_read_scalar32(wave, &insn->src[0]) & 0xff);
}

static void s_set_gpr_idx_mode(gs_wave_t *wave, const gs_insn_t *insn) {
    wave->s[GS_M0] = (wave->s[GS_M0] & ~0xf000u) | ((uint32_t)insn->imm & 15) << 12;
}

enum { HWREG_MODE = 1, HWREG_XCC_ID = 20 };

static uint32_t hwreg_mask(const gs_insn_t *insn, int *out_offset) {
    int bits = (insn->imm >> 11 & 31) + 1;
    *out_offset = insn->imm >> 6 & 31;
    return bits == 32 ? UINT32_MAX : (1u << bits) - 1;
}

static void s_getreg_b32(gs_wave_t *wave, const gs_insn_t *insn) {
    int offset;
    uint32_t mask = hwreg_mask(insn, &offset), value = (insn->imm & 63) == HWREG_MODE ? wave->mode : 0;
    if ((insn->imm & 63) != HWREG_MODE && (insn->imm & 63) != HWREG_XCC_ID) {
        gs_report(wave, GS_REPORT_UNSUPPORTED, "hardware register %d", insn->imm & 63);
    }
    gs_write_scalar32(wave, &insn->dst[0], value >> offset & mask);
}

static void s_setreg(gs_wave_t *wave, const gs_insn_t *insn) {
    int offset;
    uint32_t mask = hwreg_mask(insn, &offset), value = gs_read_scalar32(wave, &insn->src[insn->src_count - 1]);
    gs_require_defined(wave, &insn->src[insn->src_count - 1], 0, "the MODE register");
    if ((insn->imm & 63) != HWREG_MODE) gs_report(wave, GS_REPORT_UNSUPPORTED, "hardware register %d", insn->imm & 63);
    wave->mode = (wave->mode & ~(mask << offset)) | (value & mask) << offset;
    if (wave->mode & 0xf) gs_report(wave, GS_REPORT_UNSUPPORTED, "a rounding mode other than nearest even");
    gs_wave_float_mode_changed(wave);
}

static void s_memtime(gs_wave_t *wave, const gs_insn_t *insn) {
    gs_write_scalar64(wave, &insn->dst[0], wave->instruction_count);
    gs_taint_define_scalars(wave, insn->dst[0].reg, 2);
    gs_wait_issue(wave, GS_STREAM_SMEM, GS_VREGS + insn->dst[0].reg, 2);
}

/* ---- the list --------------------------------------------------------------------------------------------------- */

enum {
    BITS = GS_BITWISE,
    SCC = GS_WRITES_SCC,
    BITS_SCC = GS_BITWISE | GS_WRITES_SCC,
    SUM = GS_CARRIES,
    OWN = GS_OWN_TAINT
};

#define LOGIC_ENTRIES(operation) GS_ENTRY(s_##operation##_b32, BITS_SCC), GS_ENTRY(s_##operation##_b64, BITS_SCC)
#define COMPARE_ENTRIES(suffix, condition)                                                                             \
    {"s_cmp_" suffix "_i32", compare, condition, SIGNED_32, SCC, 0},                                                   \
        {"s_cmp_" suffix "_u32", compare, condition, UNSIGNED_32, SCC, 0},                                             \
        {"s_cmpk_" suffix "_i32", compare, condition, SIGNED_16_IMMEDIATE, SCC, 0},                                    \
        {"s_cmpk_" suffix "_u32", compare, condition, UNSIGNED_16_IMMEDIATE, SCC, 0}
#define SAVE_EXEC_ENTRY(name, operation) {"s_" name "_saveexec_b64", save_exec, operation, 0, OWN, 0}

const gs_semantics_t gs_salu_list[] = {
    GS_ENTRY(s_mov_b32, BITS), GS_ENTRY(s_mov_b64, BITS), GS_ENTRY(s_not_b32, BITS_SCC), GS_ENTRY(s_not_b64, BITS_SCC),
    GS_ENTRY(s_wqm_b32, SCC), GS_ENTRY(s_wqm_b64, SCC), GS_ENTRY(s_abs_i32, SCC), GS_ENTRY(s_sext_i32_i8, BITS),
    GS_ENTRY(s_sext_i32_i16, BITS), GS_ENTRY(s_brev_b32, BITS), GS_ENTRY(s_brev_b64, BITS),
    GS_ENTRY(s_bcnt0_i32_b32, SCC), GS_ENTRY(s_bcnt1_i32_b32, SCC),
    {"s_bcnt0_i32_b64", count_bits_64, 0, 0, SCC, 0}, {"s_bcnt1_i32_b64", count_bits_64, 1, 0, SCC, 0},
    GS_ENTRY(s_ff0_i32_b32, 0), GS_ENTRY(s_ff1_i32_b32, 0), GS_ENTRY(s_ff0_i32_b64, 0), GS_ENTRY(s_ff1_i32_b64, 0),
    GS_ENTRY(s_flbit_i32_b32, 0), GS_ENTRY(s_flbit_i32_b64, 0), GS_ENTRY(s_flbit_i32, 0), GS_ENTRY(s_flbit_i32_i64, 0),
    GS_ENTRY(s_movk_i32, 0), GS_ENTRY(s_cmov_b32, BITS | GS_READS_SCC | GS_KEEPS_DST),
    GS_ENTRY(s_cmov_b64, BITS | GS_READS_SCC | GS_KEEPS_DST),
    GS_ENTRY(s_cmovk_i32, BITS | GS_READS_SCC | GS_KEEPS_DST),

    GS_ENTRY(s_add_u32, SCC | SUM), GS_ENTRY(s_addc_u32, SCC | SUM | GS_READS_SCC), GS_ENTRY(s_sub_u32, SCC | SUM),
    GS_ENTRY(s_subb_u32, SCC | SUM | GS_READS_SCC), GS_ENTRY(s_add_i32, SCC | SUM), GS_ENTRY(s_sub_i32, SCC | SUM),
    GS_ENTRY(s_min_i32, SCC), GS_ENTRY(s_max_i32, SCC), GS_ENTRY(s_min_u32, SCC), GS_ENTRY(s_max_u32, SCC),
    GS_ENTRY(s_cselect_b32, BITS | GS_READS_SCC), GS_ENTRY(s_cselect_b64, BITS | GS_READS_SCC),
    LOGIC_ENTRIES(and), LOGIC_ENTRIES(or), LOGIC_ENTRIES(xor), LOGIC_ENTRIES(andn2), LOGIC_ENTRIES(orn2),
    LOGIC_ENTRIES(nand), LOGIC_ENTRIES(nor), LOGIC_ENTRIES(xnor),
    GS_ENTRY(s_lshl_b32, BITS_SCC), GS_ENTRY(s_lshr_b32, BITS_SCC), GS_ENTRY(s_ashr_i32, BITS_SCC),
    GS_ENTRY(s_lshl_b64, BITS_SCC), GS_ENTRY(s_lshr_b64, BITS_SCC), GS_ENTRY(s_ashr_i64, BITS_SCC),
    GS_ENTRY(s_bfm_b32, 0), GS_ENTRY(s_bfm_b64, 0), GS_ENTRY(s_bfe_u32, BITS_SCC), GS_ENTRY(s_bfe_i32, BITS_SCC),
    GS_ENTRY(s_bfe_u64, BITS_SCC), GS_ENTRY(s_bfe_i64, BITS_SCC), GS_ENTRY(s_mul_i32, SUM), GS_ENTRY(s_mul_hi_u32, 0),
    GS_ENTRY(s_mul_hi_i32, 0), GS_ENTRY(s_absdiff_i32, SCC), GS_ENTRY(s_lshl1_add_u32, SCC | SUM),
    GS_ENTRY(s_lshl2_add_u32, SCC | SUM), GS_ENTRY(s_lshl3_add_u32, SCC | SUM), GS_ENTRY(s_lshl4_add_u32, SCC | SUM),
    GS_ENTRY(s_pack_ll_b32_b16, BITS), GS_ENTRY(s_pack_lh_b32_b16, BITS), GS_ENTRY(s_pack_hh_b32_b16, BITS),
    GS_ENTRY(s_addk_i32, SCC | SUM | GS_READS_DST),
    GS_ENTRY(s_mulk_i32, SUM | GS_READS_DST),
    {"s_bitset0_b32", set_bit, 0, 32, BITS | GS_KEEPS_DST, 0},
    {"s_bitset1_b32", set_bit, 1, 32, BITS | GS_KEEPS_DST, 0},
    {"s_bitset0_b64", set_bit, 0, 64, BITS | GS_KEEPS_DST, 0},
    {"s_bitset1_b64", set_bit, 1, 64, BITS | GS_KEEPS_DST, 0},

    COMPARE_ENTRIES("eq", EQ), COMPARE_ENTRIES("lg", LG), COMPARE_ENTRIES("gt", GT), COMPARE_ENTRIES("ge", GE),
    COMPARE_ENTRIES("lt", LT), COMPARE_ENTRIES("le", LE),
    {"s_cmp_eq_u64", compare, EQ, UNSIGNED_64, SCC, 0}, {"s_cmp_lg_u64", compare, LG, UNSIGNED_64, SCC, 0},
    {"s_bitcmp0_b32", compare_bit, 0, 32, BITS_SCC, 0}, {"s_bitcmp1_b32", compare_bit, 1, 32, BITS_SCC, 0},
    {"s_bitcmp0_b64", compare_bit, 0, 64, BITS_SCC, 0}, {"s_bitcmp1_b64", compare_bit, 1, 64, BITS_SCC, 0},

    SAVE_EXEC_ENTRY("and", AND), SAVE_EXEC_ENTRY("or", OR), SAVE_EXEC_ENTRY("xor", XOR),
    SAVE_EXEC_ENTRY("andn2", ANDN2), SAVE_EXEC_ENTRY("orn2", ORN2), SAVE_EXEC_ENTRY("nand", NAND),
    SAVE_EXEC_ENTRY("nor", NOR), SAVE_EXEC_ENTRY("xnor", XNOR), SAVE_EXEC_ENTRY("andn1", ANDN1),
    SAVE_EXEC_ENTRY("orn1", ORN1),
    {"s_andn1_wrexec_b64", save_exec, ANDN1, 1, OWN, 0}, {"s_andn2_wrexec_b64", save_exec, ANDN2, 1, OWN, 0},

    {"s_nop", no_operation, 0, 0, OWN, 0}, {"s_sleep", no_operation, 0, 0, OWN, 0},
    {"s_setprio", no_operation, 0, 0, OWN, 0}, {"s_sethalt", no_operation, 0, 0, OWN, 0},
    {"s_icache_inv", no_operation, 0, 0, OWN, 0}, {"s_dcache_inv", no_operation, 0, 0, OWN, 0},
    {"s_dcache_wb", no_operation, 0, 0, OWN, 0}, {"s_dcache_inv_vol", no_operation, 0, 0, OWN, 0},
    {"s_ttracedata", no_operation, 0, 0, OWN, 0}, {"s_incperflevel", no_operation, 0, 0, OWN, 0},
    {"s_decperflevel", no_operation, 0, 0, OWN, 0}, {"s_sendmsg", no_operation, 0, 0, OWN, 0},
    {"buffer_inv", no_operation, 0, 0, OWN, 0}, {"buffer_wbl2", no_operation, 0, 0, OWN, 0},
    {"v_nop", no_operation, 0, 0, OWN, 0},
    GS_ENTRY(s_endpgm, OWN), GS_ENTRY(s_barrier, OWN), GS_ENTRY(s_branch, OWN),
    {"s_cbranch_scc0", branch_scc, 0, 0, OWN, 0}, {"s_cbranch_scc1", branch_scc, 1, 0, OWN, 0},
    {"s_cbranch_vccz", branch_vcc, 0, 0, OWN, 0}, {"s_cbranch_vccnz", branch_vcc, 1, 0, OWN, 0},
    {"s_cbranch_execz", branch_exec, 0, 0, OWN, 0}, {"s_cbranch_execnz", branch_exec, 1, 0, OWN, 0},
    GS_ENTRY(s_getpc_b64, 0), GS_ENTRY(s_setpc_b64, OWN), GS_ENTRY(s_swappc_b64, OWN), GS_ENTRY(s_call_b64, 0),
    GS_ENTRY(s_waitcnt, OWN), GS_ENTRY(s_set_gpr_idx_on, OWN), GS_ENTRY(s_set_gpr_idx_off, OWN),
    GS_ENTRY(s_set_gpr_idx_idx, OWN), GS_ENTRY(s_set_gpr_idx_mode, OWN), GS_ENTRY(s_getreg_b32, 0),
    {"s_setreg_b32", s_setreg, 0, 0, OWN, 0}, {"s_setreg_imm32_b32", s_setreg, 0, 0, OWN, 0}, GS_ENTRY(s_memtime, OWN),
    {"s_memrealtime", s_memtime, 0, 0, OWN, 0},
    {0},
};
