/* What loads and stores of LDS, memory and buffers share: the width and sign of an access, its register side. */
#ifndef GFXSIM_TRANSFER_H
#define GFXSIM_TRANSFER_H

#include "exec.h"

/* insn->b of loads and stores; insn->a is the size in bytes. */
enum {
    GS_SIGNED = 1,  /* a byte or short is sign-extended */
    GS_D16 = 2,     /* a byte or short goes to the low half of the register, the rest stays */
    GS_D16_HIGH = 4 /* to or from the high half */
};

enum { GS_MAX_WORDS = 4 };

/* The loaded words of all lanes and which of their bits are undefined. */
typedef struct gs_loaded_t {
    uint32_t words[GS_MAX_WORDS][GS_LANES], undefined[GS_MAX_WORDS][GS_LANES];
    bool any_undefined;
} gs_loaded_t;

/* Takes `size` bytes of every lane; `from` of a lane that is off is any valid place. */
void gs_load_lanes(gs_loaded_t *loaded, uint8_t *const from[GS_LANES], int size);

/* Writes them to the destination, notes that they are under way in `stream`. */
void gs_finish_load(gs_wave_t *wave, const gs_insn_t *insn, gs_loaded_t *loaded, gs_stream_id_t stream);

/* The same for a load to LDS. */
void gs_finish_direct_load(gs_wave_t *wave, const gs_insn_t *insn, gs_loaded_t *loaded);

/* Stores the registers from `reg` on, as insn->a and insn->b say. */
void gs_store_lanes(const gs_wave_t *wave, const gs_insn_t *insn, int reg, uint8_t *const to[GS_LANES], uint64_t lanes);

/* Reports if data of a store to memory is undefined. */
void gs_require_store_data(gs_wave_t *wave, const gs_insn_t *insn, int reg, uint64_t lanes);

/* ---- atomic operations ------------------------------------------------------------------------------------------ */

typedef enum gs_atomic_t {
    GS_ATOMIC_ADD,
    GS_ATOMIC_SUB,
    GS_ATOMIC_RSUB,
    GS_ATOMIC_SMIN,
    GS_ATOMIC_UMIN,
    GS_ATOMIC_SMAX,
    GS_ATOMIC_UMAX,
    GS_ATOMIC_AND,
    GS_ATOMIC_OR,
    GS_ATOMIC_XOR,
    GS_ATOMIC_INC,
    GS_ATOMIC_DEC,
    GS_ATOMIC_SWAP,
    GS_ATOMIC_CMPSWAP,
    GS_ATOMIC_FADD,
    GS_ATOMIC_FMIN,
    GS_ATOMIC_FMAX,
    GS_ATOMIC_PK_ADD_F16,
    GS_ATOMIC_PK_ADD_BF16
} gs_atomic_t;

/* Applies the operation to the 4 or 8 bytes at `target`, atomically among host threads; returns the old value. */
uint64_t gs_atomic_apply(uint8_t *target, gs_atomic_t operation, int size, uint64_t data, uint64_t compare);

/* Writes the old values, of `size` bytes, if the instruction returns them; notes that it is under way in `stream`. */
void gs_finish_atomic(gs_wave_t *wave, const gs_insn_t *insn, gs_loaded_t *old, int size, gs_stream_id_t stream);

/* A lane's 32 or 64 bits of a register. */
static inline uint64_t gs_lane_value(const gs_wave_t *wave, int reg, int lane, int size) {
    return size == 4 ? wave->v[reg][lane] : wave->v[reg][lane] | (uint64_t)wave->v[reg + 1][lane] << 32;
}

/* ---- memory.c's buffers, as the wave sees them ------------------------------------------------------------------ */

/* The bytes [address, address + size), checked: inside of one buffer of this device, writable if `write`. */
uint8_t *gs_memory_access(gs_wave_t *wave, uintptr_t address, uint32_t size, bool write, int lane);

/* The same for `lanes`; the places of the other lanes become valid ones, too. */
void gs_memory_access_lanes(gs_wave_t *wave, uint8_t *places[GS_LANES], uint64_t lanes, uint32_t size, bool write);

/* ---- the instructions that all kinds of memory have: ENTRY(name, size, insn->b) --------------------------------- */

#define GS_MEMORY_LOADS(ENTRY)                                                                                         \
    ENTRY("ubyte", 1, 0), ENTRY("sbyte", 1, GS_SIGNED), ENTRY("ushort", 2, 0), ENTRY("sshort", 2, GS_SIGNED),          \
        ENTRY("dword", 4, 0), ENTRY("dwordx2", 8, 0), ENTRY("dwordx3", 12, 0), ENTRY("dwordx4", 16, 0),                \
        ENTRY("ubyte_d16", 1, GS_D16), ENTRY("ubyte_d16_hi", 1, GS_D16_HIGH),                                          \
        ENTRY("sbyte_d16", 1, GS_SIGNED | GS_D16), ENTRY("sbyte_d16_hi", 1, GS_SIGNED | GS_D16_HIGH),                  \
        ENTRY("short_d16", 2, GS_D16), ENTRY("short_d16_hi", 2, GS_D16_HIGH)

#define GS_MEMORY_STORES(ENTRY)                                                                                        \
    ENTRY("byte", 1, 0), ENTRY("byte_d16_hi", 1, GS_D16_HIGH), ENTRY("short", 2, 0),                                   \
        ENTRY("short_d16_hi", 2, GS_D16_HIGH), ENTRY("dword", 4, 0), ENTRY("dwordx2", 8, 0), ENTRY("dwordx3", 12, 0),  \
        ENTRY("dwordx4", 16, 0)

/* ENTRY(name, gs_atomic_t, size) */
#define GS_MEMORY_ATOMICS(ENTRY)                                                                                       \
    GS_BOTH_SIZES(ENTRY, "swap", GS_ATOMIC_SWAP), GS_BOTH_SIZES(ENTRY, "cmpswap", GS_ATOMIC_CMPSWAP),                  \
        GS_BOTH_SIZES(ENTRY, "add", GS_ATOMIC_ADD), GS_BOTH_SIZES(ENTRY, "sub", GS_ATOMIC_SUB),                        \
        GS_BOTH_SIZES(ENTRY, "smin", GS_ATOMIC_SMIN), GS_BOTH_SIZES(ENTRY, "umin", GS_ATOMIC_UMIN),                    \
        GS_BOTH_SIZES(ENTRY, "smax", GS_ATOMIC_SMAX), GS_BOTH_SIZES(ENTRY, "umax", GS_ATOMIC_UMAX),                    \
        GS_BOTH_SIZES(ENTRY, "and", GS_ATOMIC_AND), GS_BOTH_SIZES(ENTRY, "or", GS_ATOMIC_OR),                          \
        GS_BOTH_SIZES(ENTRY, "xor", GS_ATOMIC_XOR), GS_BOTH_SIZES(ENTRY, "inc", GS_ATOMIC_INC),                        \
        GS_BOTH_SIZES(ENTRY, "dec", GS_ATOMIC_DEC), ENTRY("add_f32", GS_ATOMIC_FADD, 4),                               \
        ENTRY("add_f64", GS_ATOMIC_FADD, 8), ENTRY("min_f64", GS_ATOMIC_FMIN, 8), ENTRY("max_f64", GS_ATOMIC_FMAX, 8), \
        ENTRY("pk_add_f16", GS_ATOMIC_PK_ADD_F16, 4), ENTRY("pk_add_bf16", GS_ATOMIC_PK_ADD_BF16, 4)
#define GS_BOTH_SIZES(ENTRY, name, operation) ENTRY(name, operation, 4), ENTRY(name "_x2", operation, 8)

#endif
