#include "transfer.h"

#include <math.h>

#ifdef __SSE2__
#include <xmmintrin.h>
#endif

#include "lds.h"
#include "trace.h"

/* ---- registers -------------------------------------------------------------------------------------------------- */

/* Four words of four lanes, lane by lane, become the lanes of four words; and back. */
typedef struct square_t {
    uint32_t rows[4][4];
} square_t;

static inline void transpose(square_t *square) {
#ifdef __SSE2__
    __m128 rows[4];
    memcpy(rows, square, sizeof rows);
    _MM_TRANSPOSE4_PS(rows[0], rows[1], rows[2], rows[3]);
    memcpy(square, rows, sizeof rows);
#else
    square_t old = *square;
    for (int i = 0; i < 4; i++)
        for (int k = 0; k < 4; k++) square->rows[i][k] = old.rows[k][i];
#endif
}

void gs_load_lanes(gs_loaded_t *loaded, uint8_t *const from[GS_LANES], int size) {
    if (size < 4) {
        GS_FOR_LANES {
            uint32_t low = from[lane][0];
            loaded->words[0][lane] = size == 1 ? low : low | (uint32_t)from[lane][1] << 8;
        }
        return;
    }
    if (size == 16) {
        for (int lane = 0; lane < GS_LANES; lane += 4) {
            square_t square;
            for (int i = 0; i < 4; i++) memcpy(square.rows[i], from[lane + i], 16);
            transpose(&square);
            for (int i = 0; i < 4; i++) memcpy(&loaded->words[i][lane], square.rows[i], 16);
        }
        return;
    }
    for (int i = 0; i < size / 4; i++) GS_FOR_LANES memcpy(&loaded->words[i][lane], from[lane] + 4 * i, 4);
}

static uint32_t extend(const gs_insn_t *insn, uint32_t value) {
    int up = 32 - 8 * insn->a;
    return insn->b & GS_SIGNED ? (uint32_t)((int32_t)(value << up) >> up) : value;
}

/* Widens bytes and shorts and keeps the other half of the register. */
static void adjust_small(const gs_wave_t *wave, const gs_insn_t *insn, gs_loaded_t *loaded) {
    int reg = insn->dst[0].reg;
    GS_FOR_LANES {
        uint32_t value = extend(insn, loaded->words[0][lane]), undefined = extend(insn, loaded->undefined[0][lane]);
        uint32_t old = wave->v[reg][lane], old_undefined = gs_taint_bits(wave, reg, lane);
        if (insn->b & GS_D16) {
            value = (old & 0xffff0000) | (value & 0xffff);
            undefined = (old_undefined & 0xffff0000) | (undefined & 0xffff);
        } else if (insn->b & GS_D16_HIGH) {
            value = (old & 0xffff) | value << 16;
            undefined = (old_undefined & 0xffff) | undefined << 16;
        }
        loaded->words[0][lane] = value;
        loaded->undefined[0][lane] = undefined;
    }
}

void gs_finish_load(gs_wave_t *wave, const gs_insn_t *insn, gs_loaded_t *loaded, gs_stream_id_t stream) {
    int reg = insn->dst[0].reg, count = (insn->a + 3) / 4;
    bool partial = insn->b & (GS_D16 | GS_D16_HIGH);
    if (!loaded->any_undefined) memset(loaded->undefined, 0, sizeof loaded->undefined);
    if (insn->a < 4) adjust_small(wave, insn, loaded);
    for (int i = 0; i < count; i++) {
        gs_blend(wave, reg + i, loaded->words[i], wave->lanes);
        if (gs_taint_on(wave) && (loaded->any_undefined || partial)) {
            GS_FOR_LANES if (wave->lanes >> lane & 1)
                gs_taint_set_bits(wave, reg + i, lane, loaded->undefined[i][lane]);
        } else {
            gs_taint_clear(wave, reg + i, 1, wave->lanes);
        }
    }
    gs_wait_issue(wave, stream, reg, count);
}

/* ---- loads from memory to LDS ----------------------------------------------------------------------------------- */

/* M0 and the instruction's offset (CDNA3 and CDNA4 ISA, 9.1.9 and 10.3); the lanes follow. A buffer's M0 has 16 bits on
 * gfx942 and else 18. */
static uint32_t direct_address(gs_wave_t *wave, const gs_insn_t *insn) {
    bool narrow = insn->format == GS_MUBUF && wave->program->arch == GS_GFX942;
    gs_require_scalar(wave, GS_M0, 1, "M0, the LDS address,");
    return (wave->s[GS_M0] & (narrow ? 0xffff : 0x3ffff)) + (uint32_t)insn->offset;
}

void gs_finish_direct_load(gs_wave_t *wave, const gs_insn_t *insn, gs_loaded_t *loaded) {
    uint32_t size = insn->a < 4 ? 4 : (uint32_t)insn->a; /* bytes and shorts become dwords */
    gs_direct_load_t load = {
        .address = direct_address(wave, insn),
        .size = size,
        .spacing = size == 12 ? 16 : size, /* the fourth dword of dwordx3 stays as it was */
        .lanes = wave->lanes,
        .pc = wave->insn_pc,
    };
    uint32_t address[GS_LANES];
    gs_wait_check_direct(wave, &load);
    GS_FOR_LANES address[lane] = load.address + (uint32_t)lane * load.spacing;
    gs_lds_access(wave, address, wave->lanes, size, 4, GS_LDS_WRITE);
    for (uint64_t rest = wave->lanes; rest; rest &= rest - 1) {
        int lane = __builtin_ctzll(rest);
        if (insn->a < 4) loaded->words[0][lane] = extend(insn, loaded->words[0][lane]);
        for (uint32_t i = 0; i < size / 4; i++)
            memcpy(wave->workgroup->lds + address[lane] + 4 * i, &loaded->words[i][lane], 4);
    }
    gs_counters(wave)->lds_write_bytes += (uint64_t)__builtin_popcountll(wave->lanes) * size;
    gs_wait_issue_direct(wave, load);
}

/* ---- stores ----------------------------------------------------------------------------------------------------- */

void gs_store_lanes(const gs_wave_t *wave, const gs_insn_t *insn, int reg, uint8_t *const to[GS_LANES],
                    uint64_t lanes) {
    int shift = insn->b & GS_D16_HIGH ? 16 : 0;
    if (insn->a == 16 && !~lanes) {
        for (int lane = 0; lane < GS_LANES; lane += 4) {
            square_t square;
            for (int i = 0; i < 4; i++) memcpy(square.rows[i], &wave->v[reg + i][lane], 16);
            transpose(&square);
            for (int i = 0; i < 4; i++) memcpy(to[lane + i], square.rows[i], 16);
        }
        return;
    }
    for (; lanes; lanes &= lanes - 1) {
        int lane = __builtin_ctzll(lanes);
        uint32_t word = wave->v[reg][lane] >> shift;
        if (insn->a < 4) {
            memcpy(to[lane], &word, (size_t)insn->a);
            continue;
        }
        for (int i = 0; i < insn->a / 4; i++) memcpy(to[lane] + 4 * i, &wave->v[reg + i][lane], 4);
    }
}

void gs_require_store_data(gs_wave_t *wave, const gs_insn_t *insn, int reg, uint64_t lanes) {
    uint32_t bits = insn->a >= 4 ? UINT32_MAX : (1u << 8 * insn->a) - 1;
    if (insn->b & GS_D16_HIGH) bits <<= 16;
    gs_require_vector(wave, reg, (insn->a + 3) / 4, bits, lanes, "the stored data");
}

/* ---- atomic operations ------------------------------------------------------------------------------------------ */

static uint32_t add_halves(uint32_t a, uint32_t b, bool bf16) {
    uint32_t result = 0;
    for (int shift = 0; shift < 32; shift += 16) {
        uint32_t x = a >> shift & 0xffff, y = b >> shift & 0xffff;
        uint32_t sum = bf16 ? gs_bf16_bits(gs_bf16_value(x) + gs_bf16_value(y))
                            : gs_f16_bits(gs_f16_value(x) + gs_f16_value(y));
        result |= sum << shift;
    }
    return result;
}

static uint64_t combine_float(gs_atomic_t operation, int size, uint64_t old, uint64_t data) {
    double a = size == 4 ? (double)gs_f32((uint32_t)old) : gs_f64(old);
    double b = size == 4 ? (double)gs_f32((uint32_t)data) : gs_f64(data);
    if (operation == GS_ATOMIC_FADD) {
        return size == 4 ? gs_u32(gs_f32((uint32_t)old) + gs_f32((uint32_t)data)) : gs_u64(a + b);
    }
    double result = operation == GS_ATOMIC_FMIN ? fmin(a, b) : fmax(a, b);
    return size == 4 ? gs_u32((float)result) : gs_u64(result);
}

static uint64_t combine(gs_atomic_t operation, int size, uint64_t old, uint64_t data, uint64_t compare) {
    int64_t signed_old = size == 4 ? (int32_t)old : (int64_t)old;
    int64_t signed_data = size == 4 ? (int32_t)data : (int64_t)data;
    switch (operation) {
    case GS_ATOMIC_ADD: return old + data;
    case GS_ATOMIC_SUB: return old - data;
    case GS_ATOMIC_RSUB: return data - old;
    case GS_ATOMIC_SMIN: return signed_old < signed_data ? old : data;
    case GS_ATOMIC_UMIN: return old < data ? old : data;
    case GS_ATOMIC_SMAX: return signed_old > signed_data ? old : data;
    case GS_ATOMIC_UMAX: return old > data ? old : data;
    case GS_ATOMIC_AND: return old & data;
    case GS_ATOMIC_OR: return old | data;
    case GS_ATOMIC_XOR: return old ^ data;
    case GS_ATOMIC_INC: return old >= data ? 0 : old + 1;
    case GS_ATOMIC_DEC: return old == 0 || old > data ? data : old - 1;
    case GS_ATOMIC_SWAP: return data;
    case GS_ATOMIC_CMPSWAP: return old == compare ? data : old;
    case GS_ATOMIC_PK_ADD_F16: return add_halves((uint32_t)old, (uint32_t)data, false);
    case GS_ATOMIC_PK_ADD_BF16: return add_halves((uint32_t)old, (uint32_t)data, true);
    default: return combine_float(operation, size, old, data);
    }
}

uint64_t gs_atomic_apply(uint8_t *target, gs_atomic_t operation, int size, uint64_t data, uint64_t compare) {
    if (size == 4) {
        uint32_t *word = (uint32_t *)(void *)target, old = __atomic_load_n(word, __ATOMIC_RELAXED), result;
        do result = (uint32_t)combine(operation, 4, old, data, compare);
        while (!__atomic_compare_exchange_n(word, &old, result, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
        return old;
    }
    uint64_t *word = (uint64_t *)(void *)target, old = __atomic_load_n(word, __ATOMIC_RELAXED), result;
    do result = combine(operation, 8, old, data, compare);
    while (!__atomic_compare_exchange_n(word, &old, result, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED));
    return old;
}

void gs_finish_atomic(gs_wave_t *wave, const gs_insn_t *insn, gs_loaded_t *old, int size, gs_stream_id_t stream) {
    if (!insn->dst_count) {
        gs_wait_issue(wave, stream, 0, 0);
        return;
    }
    gs_insn_t plain = *insn;
    plain.a = size;
    plain.b = 0;
    gs_finish_load(wave, &plain, old, stream);
}

/* ---- memory ----------------------------------------------------------------------------------------------------- */

static _Noreturn void report_bounds(gs_wave_t *wave, uintptr_t address, uint32_t size, bool write,
                                    const gs_buffer_t *buffer, int lane) {
    const char *verb = write ? "writes" : "reads";
    if (!buffer)
        gs_report(wave, GS_REPORT_GLOBAL_BOUNDS, "lane %d %s %u bytes at 0x%zx; there is no memory", lane, verb, size,
                  (size_t)address);
    intptr_t offset = (intptr_t)(address - buffer->low);
    gs_report(wave, GS_REPORT_GLOBAL_BOUNDS, "lane %d %s %u bytes at 0x%zx, which is byte %td of %s of %zu bytes", lane,
              verb, size, (size_t)address, offset, buffer->name, (size_t)(buffer->high - buffer->low));
}

static bool is_inside(const gs_buffer_t *buffer, uintptr_t address, uint32_t size) {
    return address >= buffer->low && address < buffer->high && buffer->high - address >= size;
}

static uint8_t *checked_place(gs_wave_t *wave, uintptr_t address, uint32_t size, bool write, int lane) {
    const gs_buffer_t *buffer = wave->last_buffer;
    if (!buffer || !is_inside(buffer, address, size) || (write && !buffer->writable)) {
        buffer = gs_memory_find(address);
        if (!buffer || !is_inside(buffer, address, size)) report_bounds(wave, address, size, write, buffer, lane);
        if (buffer->device >= 0 && buffer->device != wave->program->device)
            gs_report(wave, GS_REPORT_GLOBAL_BOUNDS, "lane %d: %s belongs to device %d, the kernel runs on %d", lane,
                      buffer->name, buffer->device, wave->program->device);
        if (write && !buffer->writable)
            gs_report(wave, GS_REPORT_WRITE_TO_READ_ONLY, "lane %d writes %u bytes to byte %zu of %s", lane, size,
                      (size_t)(address - buffer->low), buffer->name);
        wave->last_buffer = buffer;
    }
    return (uint8_t *)address;
}

uint8_t *gs_memory_access(gs_wave_t *wave, uintptr_t address, uint32_t size, bool write, int lane) {
    if (wave->trace) gs_trace_memory(wave->trace, address, size, write);
    return checked_place(wave, address, size, write, lane);
}

void gs_memory_access_lanes(gs_wave_t *wave, uint8_t *places[GS_LANES], uint64_t lanes, uint32_t size, bool write) {
    if (!lanes) return;
    for (uint64_t rest = wave->trace ? lanes : 0; rest; rest &= rest - 1)
        gs_trace_memory(wave->trace, (uintptr_t)places[__builtin_ctzll(rest)], size, write);
    uint8_t *some = places[__builtin_ctzll(lanes)];
    uintptr_t lowest = (uintptr_t)some, highest = (uintptr_t)some;
    GS_FOR_LANES {
        places[lane] = lanes >> lane & 1 ? places[lane] : some;
        lowest = (uintptr_t)places[lane] < lowest ? (uintptr_t)places[lane] : lowest;
        highest = (uintptr_t)places[lane] > highest ? (uintptr_t)places[lane] : highest;
    }
    const gs_buffer_t *buffer = wave->last_buffer;
    if (buffer && lowest >= buffer->low && is_inside(buffer, highest, size) && (!write || buffer->writable)) return;
    for (; lanes; lanes &= lanes - 1) {
        int lane = __builtin_ctzll(lanes);
        checked_place(wave, (uintptr_t)places[lane], size, write, lane);
    }
}
