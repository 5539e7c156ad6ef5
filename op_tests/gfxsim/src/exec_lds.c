/* DS instructions: LDS and the moves between lanes that use its hardware. */
#include "lds.h"
#include "transfer.h"

static void count(gs_wave_t *wave, int size, bool write) {
    uint64_t bytes = (uint64_t)__builtin_popcountll(wave->lanes) * (uint64_t)size;
    *(write ? &gs_counters(wave)->lds_write_bytes : &gs_counters(wave)->lds_read_bytes) += bytes;
}

/* The lanes' addresses plus an offset; those of lanes that are off are 0. */
static void read_addresses(gs_wave_t *wave, const gs_insn_t *insn, int offset, uint32_t address[GS_LANES]) {
    const uint32_t *base = wave->v[insn->src[0].reg];
    gs_require_defined(wave, &insn->src[0], wave->lanes, "the LDS address");
    GS_FOR_LANES address[lane] = wave->lanes >> lane & 1 ? base[lane] + (uint32_t)offset : 0;
}

static void find_places(const gs_wave_t *wave, const uint32_t address[GS_LANES], uint8_t *places[GS_LANES]) {
    GS_FOR_LANES places[lane] = wave->workgroup->lds + address[lane];
}

/* The hardware wants natural alignment; b96 wants that of its words. */
static uint32_t alignment_of(int size) { return size == 12 ? 4 : (uint32_t)size; }

/* ---- reads and writes ------------------------------------------------------------------------------------------- */

/* Loads `size` bytes per lane to the words of `loaded` from `first` on. */
static void load_from_lds(gs_wave_t *wave, const gs_insn_t *insn, int offset, int size, gs_loaded_t *loaded) {
    uint32_t address[GS_LANES];
    uint8_t *places[GS_LANES];
    read_addresses(wave, insn, offset, address);
    uint32_t part = size < 4 ? (uint32_t)size : 4;
    bool defined = gs_lds_access(wave, address, wave->lanes, (uint32_t)size, alignment_of(size), GS_LDS_READ);
    find_places(wave, address, places);
    loaded->any_undefined = !defined && gs_taint_on(wave);
    if (wave->lanes) gs_load_lanes(loaded, places, size);
    for (int i = 0; loaded->any_undefined && i < (size + 3) / 4; i++)
        GS_FOR_LANES if (wave->lanes >> lane & 1)
            loaded->undefined[i][lane] = gs_lds_undefined(wave, address[lane] + 4 * (uint32_t)i, part);
}

static void ds_read(gs_wave_t *wave, const gs_insn_t *insn) {
    gs_loaded_t loaded;
    load_from_lds(wave, insn, insn->offset, insn->a, &loaded);
    count(wave, insn->a, false);
    gs_finish_load(wave, insn, &loaded, GS_STREAM_LDS);
}

/* Two addresses; insn->a: size of both together, insn->b: bytes that an offset counts. */
static void ds_read2(gs_wave_t *wave, const gs_insn_t *insn) {
    gs_loaded_t first, second;
    gs_insn_t plain = *insn;
    int size = insn->a / 2, words = size / 4;
    plain.b = 0;
    load_from_lds(wave, insn, insn->offset * insn->b, size, &first);
    load_from_lds(wave, insn, insn->offset1 * insn->b, size, &second);
    memcpy(first.words[words], second.words, (size_t)words * sizeof *second.words);
    if (first.any_undefined || second.any_undefined) {
        if (!first.any_undefined) memset(first.undefined, 0, sizeof first.undefined);
        if (!second.any_undefined) memset(second.undefined, 0, sizeof second.undefined);
        memcpy(first.undefined[words], second.undefined, (size_t)words * sizeof *second.undefined);
        first.any_undefined = true;
    }
    count(wave, insn->a, false);
    gs_finish_load(wave, &plain, &first, GS_STREAM_LDS);
}

/* Undefined bits of a register make the byte undefined that they go to. */
static void store_undefined(gs_wave_t *wave, const gs_insn_t *insn, int reg, const uint32_t address[GS_LANES]) {
    int words = (insn->a + 3) / 4, shift = insn->b & GS_D16_HIGH ? 16 : 0;
    uint64_t lanes = gs_taint_lanes(wave, reg, words, UINT32_MAX) & wave->lanes;
    for (; lanes; lanes &= lanes - 1) {
        int lane = __builtin_ctzll(lanes);
        for (int i = 0; i < words; i++)
            gs_lds_set_undefined(wave, address[lane] + 4 * (uint32_t)i, insn->a < 4 ? (uint32_t)insn->a : 4,
                                 gs_taint_bits(wave, reg + i, lane) >> shift);
    }
}

/* insn->a bytes per lane from the registers `reg` on. */
static void store_to_lds(gs_wave_t *wave, const gs_insn_t *insn, int reg, int offset) {
    uint32_t address[GS_LANES];
    uint8_t *places[GS_LANES];
    read_addresses(wave, insn, offset, address);
    gs_lds_access(wave, address, wave->lanes, (uint32_t)insn->a, alignment_of(insn->a), GS_LDS_WRITE);
    find_places(wave, address, places);
    gs_store_lanes(wave, insn, reg, places, wave->lanes);
    if (gs_taint_on(wave)) store_undefined(wave, insn, reg, address);
}

static void ds_write(gs_wave_t *wave, const gs_insn_t *insn) {
    store_to_lds(wave, insn, insn->src[1].reg, insn->offset);
    count(wave, insn->a, true);
    gs_wait_issue(wave, GS_STREAM_LDS, 0, 0);
}

static void ds_write2(gs_wave_t *wave, const gs_insn_t *insn) {
    gs_insn_t half = *insn;
    half.a = insn->a / 2;
    half.b = 0;
    store_to_lds(wave, &half, insn->src[1].reg, insn->offset * insn->b);
    store_to_lds(wave, &half, insn->src[2].reg, insn->offset1 * insn->b);
    count(wave, insn->a, true);
    gs_wait_issue(wave, GS_STREAM_LDS, 0, 0);
}

/* ---- transposed reads: 16 lanes read a tile together; a lane gets a column of it -------------------------------- */

/* 16 lanes' bytes, one lane after another, are a matrix with 16 elements in a row; lane i gets column i of it. */
static void take_columns_of_16_bits(const uint16_t *tile, uint32_t (*words)[GS_LANES], int first_lane) {
    for (int i = 0; i < 2; i++)
        for (int column = 0; column < 16; column++) {
            const uint16_t *from = tile + 32 * i + column;
            words[i][first_lane + column] = from[0] | (uint32_t)from[16] << 16;
        }
}

static void take_columns_of_8_bits(const uint8_t *tile, uint32_t (*words)[GS_LANES], int first_lane) {
    for (int i = 0; i < 2; i++)
        for (int column = 0; column < 16; column++) {
            const uint8_t *from = tile + 64 * i + column;
            words[i][first_lane + column] =
                from[0] | (uint32_t)from[16] << 8 | (uint32_t)from[32] << 16 | (uint32_t)from[48] << 24;
        }
}

static void take_columns_of_4_bits(const uint8_t *tile, uint32_t (*words)[GS_LANES], int first_lane) {
    for (int i = 0; i < 2; i++)
        for (int column = 0; column < 16; column++) {
            uint32_t word = 0;
            for (int row = 0; row < 8; row++) {
                uint32_t pair = tile[8 * (8 * i + row) + column / 2];
                word |= (pair >> 4 * (column % 2) & 15) << 4 * row;
            }
            words[i][first_lane + column] = word;
        }
}

/* Eight bytes per lane, elements of `bits`. */
static void transpose(uint32_t (*words)[GS_LANES], int bits) {
    for (int first_lane = 0; first_lane < GS_LANES; first_lane += 16) {
        uint32_t tile[32];
        uint16_t halves[64];
        for (int lane = 0; lane < 16; lane++)
            for (int i = 0; i < 2; i++) tile[2 * lane + i] = words[i][first_lane + lane];
        memcpy(halves, tile, sizeof halves);
        if (bits == 16)
            take_columns_of_16_bits(halves, words, first_lane);
        else if (bits == 8)
            take_columns_of_8_bits((const uint8_t *)tile, words, first_lane);
        else
            take_columns_of_4_bits((const uint8_t *)tile, words, first_lane);
    }
}

/* What a lane gets of a lane that is off is undefined. */
static void spoil_missing_lanes(const gs_wave_t *wave, gs_loaded_t *loaded) {
    if (!~wave->lanes || !gs_taint_on(wave)) return;
    if (!loaded->any_undefined) memset(loaded->undefined, 0, sizeof loaded->undefined);
    loaded->any_undefined = true;
    GS_FOR_LANES if (!(wave->lanes >> lane & 1))
        loaded->undefined[0][lane] = loaded->undefined[1][lane] = UINT32_MAX;
}

/* insn->b: bits per element. */
static void ds_read_transposed(gs_wave_t *wave, const gs_insn_t *insn) {
    gs_loaded_t loaded;
    gs_insn_t plain = *insn;
    plain.b = 0;
    load_from_lds(wave, insn, insn->offset, insn->a, &loaded);
    if (wave->lanes) {
        spoil_missing_lanes(wave, &loaded);
        transpose(loaded.words, insn->b);
        if (loaded.any_undefined) transpose(loaded.undefined, insn->b);
    }
    count(wave, insn->a, false);
    gs_finish_load(wave, &plain, &loaded, GS_STREAM_LDS);
}

/* ---- moves between lanes ---------------------------------------------------------------------------------------- */

static void take_lane(const gs_wave_t *wave, gs_loaded_t *out_moved, int reg, int from, int to) {
    out_moved->words[0][to] = wave->v[reg][from];
    out_moved->undefined[0][to] = gs_taint_bits(wave, reg, from);
    out_moved->any_undefined |= out_moved->undefined[0][to] != 0;
}

static void finish_move(gs_wave_t *wave, const gs_insn_t *insn, gs_loaded_t *moved) {
    gs_insn_t word = *insn;
    word.a = 4;
    word.b = 0;
    gs_finish_load(wave, &word, moved, GS_STREAM_LDS);
}

/* Lanes that are off give 0. */
static void ds_bpermute_b32(gs_wave_t *wave, const gs_insn_t *insn) {
    gs_loaded_t moved = {0};
    uint32_t address[GS_LANES];
    read_addresses(wave, insn, insn->offset, address);
    GS_FOR_LANES {
        int from = (int)(address[lane] >> 2 & 63);
        if (wave->lanes >> from & 1) take_lane(wave, &moved, insn->src[1].reg, from, lane);
    }
    finish_move(wave, insn, &moved);
}

static void ds_permute_b32(gs_wave_t *wave, const gs_insn_t *insn) {
    gs_loaded_t moved = {0};
    uint32_t address[GS_LANES];
    read_addresses(wave, insn, insn->offset, address);
    GS_FOR_LANES if (wave->lanes >> lane & 1) {
        int to = (int)(address[lane] >> 2 & 63);
        take_lane(wave, &moved, insn->src[1].reg, lane, to);
    }
    finish_move(wave, insn, &moved);
}

static void ds_swizzle_b32(gs_wave_t *wave, const gs_insn_t *insn) {
    gs_loaded_t moved = {0};
    int control = insn->offset;
    if (control >= 0xc000) gs_report(wave, GS_REPORT_UNSUPPORTED, "swizzle control 0x%x", control);
    GS_FOR_LANES {
        int from;
        if (control & 0x8000) /* within four lanes */
            from = (lane & ~3) + (control >> 2 * (lane & 3) & 3);
        else /* within 32 lanes: and, or, xor */
            from = (lane & 32) | ((((lane & 31 & control) | (control >> 5 & 31)) ^ (control >> 10 & 31)) & 31);
        if (wave->lanes >> from & 1) take_lane(wave, &moved, insn->src[0].reg, from, lane);
    }
    finish_move(wave, insn, &moved);
}

/* ---- atomics: insn->a: the operation, insn->b: size ------------------------------------------------------------- */

static void ds_atomic(gs_wave_t *wave, const gs_insn_t *insn) {
    int size = insn->b;
    bool compares = insn->a == GS_ATOMIC_CMPSWAP;
    uint32_t address[GS_LANES];
    read_addresses(wave, insn, insn->offset, address);
    const gs_operand_t *data = &insn->src[compares ? 2 : 1];
    gs_loaded_t loaded;
    loaded.any_undefined = false;
    gs_lds_access(wave, address, wave->lanes, (uint32_t)size, (uint32_t)size, GS_LDS_ATOMIC);
    GS_FOR_LANES if (wave->lanes >> lane & 1) {
        uint32_t at = address[lane];
        uint8_t *target = wave->workgroup->lds + at;
        bool undefined = gs_lds_undefined(wave, at, 4) || gs_lds_undefined(wave, at + (uint32_t)size - 4, 4);
        undefined |= (gs_taint_lanes(wave, data->reg, size / 4, UINT32_MAX) >> lane & 1) && gs_taint_on(wave);
        uint64_t compare = compares ? gs_lane_value(wave, insn->src[1].reg, lane, size) : 0;
        uint64_t old = gs_atomic_apply(target, (gs_atomic_t)insn->a, size, gs_lane_value(wave, data->reg, lane, size),
                                       compare);
        if (undefined)
            for (int i = 0; i < size; i += 4) gs_lds_set_undefined(wave, at + (uint32_t)i, 4, UINT32_MAX);
        for (int i = 0; i < size / 4; i++) {
            loaded.words[i][lane] = (uint32_t)(old >> 32 * i);
            loaded.undefined[i][lane] = undefined ? UINT32_MAX : 0;
        }
        loaded.any_undefined |= undefined;
    }
    count(wave, size, true);
    count(wave, size, false);
    gs_finish_atomic(wave, insn, &loaded, size, GS_STREAM_LDS);
}

/* ---- the list --------------------------------------------------------------------------------------------------- */

enum { OWN = GS_OWN_TAINT };

#define READ(name, size, flags) {"ds_read_" name, ds_read, size, flags, OWN, 0}
#define WRITE(name, size, flags) {"ds_write_" name, ds_write, size, flags, OWN, 0}
#define TRANSPOSED(name, size, bits) {"ds_read_" name, ds_read_transposed, size, bits, OWN, 0}
/* An atomic with its returning form. */
#define ATOMIC(name, suffix, operation, size)                                                                          \
    {"ds_" name "_" suffix, ds_atomic, operation, size, OWN, 0},                                                       \
    {"ds_" name "_rtn_" suffix, ds_atomic, operation, size, OWN, 0}
#define INTEGER_ATOMICS(bits)                                                                                          \
    ATOMIC("add", "u" #bits, GS_ATOMIC_ADD, bits / 8), ATOMIC("sub", "u" #bits, GS_ATOMIC_SUB, bits / 8),              \
        ATOMIC("rsub", "u" #bits, GS_ATOMIC_RSUB, bits / 8), ATOMIC("inc", "u" #bits, GS_ATOMIC_INC, bits / 8),        \
        ATOMIC("dec", "u" #bits, GS_ATOMIC_DEC, bits / 8), ATOMIC("min", "i" #bits, GS_ATOMIC_SMIN, bits / 8),         \
        ATOMIC("max", "i" #bits, GS_ATOMIC_SMAX, bits / 8), ATOMIC("min", "u" #bits, GS_ATOMIC_UMIN, bits / 8),        \
        ATOMIC("max", "u" #bits, GS_ATOMIC_UMAX, bits / 8), ATOMIC("and", "b" #bits, GS_ATOMIC_AND, bits / 8),         \
        ATOMIC("or", "b" #bits, GS_ATOMIC_OR, bits / 8), ATOMIC("xor", "b" #bits, GS_ATOMIC_XOR, bits / 8),            \
        {"ds_wrxchg_rtn_b" #bits, ds_atomic, GS_ATOMIC_SWAP, bits / 8, OWN, 0},                                        \
        ATOMIC("cmpst", "b" #bits, GS_ATOMIC_CMPSWAP, bits / 8),                                                       \
        ATOMIC("add", "f" #bits, GS_ATOMIC_FADD, bits / 8), ATOMIC("min", "f" #bits, GS_ATOMIC_FMIN, bits / 8),        \
        ATOMIC("max", "f" #bits, GS_ATOMIC_FMAX, bits / 8)

const gs_semantics_t gs_lds_list[] = {
    READ("u8", 1, 0), READ("i8", 1, GS_SIGNED), READ("u16", 2, 0), READ("i16", 2, GS_SIGNED), READ("b32", 4, 0),
    READ("b64", 8, 0), READ("b96", 12, 0), READ("b128", 16, 0), READ("u8_d16", 1, GS_D16),
    READ("u8_d16_hi", 1, GS_D16_HIGH), READ("i8_d16", 1, GS_SIGNED | GS_D16),
    READ("i8_d16_hi", 1, GS_SIGNED | GS_D16_HIGH), READ("u16_d16", 2, GS_D16), READ("u16_d16_hi", 2, GS_D16_HIGH),
    {"ds_read2_b32", ds_read2, 8, 4, OWN, 0}, {"ds_read2_b64", ds_read2, 16, 8, OWN, 0},
    {"ds_read2st64_b32", ds_read2, 8, 256, OWN, 0}, {"ds_read2st64_b64", ds_read2, 16, 512, OWN, 0},
    WRITE("b8", 1, 0), WRITE("b16", 2, 0), WRITE("b32", 4, 0), WRITE("b64", 8, 0), WRITE("b96", 12, 0),
    WRITE("b128", 16, 0), WRITE("b8_d16_hi", 1, GS_D16_HIGH), WRITE("b16_d16_hi", 2, GS_D16_HIGH),
    {"ds_write2_b32", ds_write2, 8, 4, OWN, 0}, {"ds_write2_b64", ds_write2, 16, 8, OWN, 0},
    {"ds_write2st64_b32", ds_write2, 8, 256, OWN, 0}, {"ds_write2st64_b64", ds_write2, 16, 512, OWN, 0},
    TRANSPOSED("b64_tr_b16", 8, 16), TRANSPOSED("b64_tr_b8", 8, 8), TRANSPOSED("b64_tr_b4", 8, 4),
    GS_ENTRY(ds_bpermute_b32, OWN), GS_ENTRY(ds_permute_b32, OWN), GS_ENTRY(ds_swizzle_b32, OWN),
    INTEGER_ATOMICS(32), INTEGER_ATOMICS(64), ATOMIC("pk_add", "f16", GS_ATOMIC_PK_ADD_F16, 4),
    ATOMIC("pk_add", "bf16", GS_ATOMIC_PK_ADD_BF16, 4),
    {0},
};
