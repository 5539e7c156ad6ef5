/* The floats that the hardware has as inline constants. */
#include "encoding.h"

/* 0.5, -0.5, 1, -1, 2, -2, 4, -4, 1 / (2 pi) */
static const uint16_t f16_constants[] = {0x3800, 0xb800, 0x3c00, 0xbc00, 0x4000, 0xc000, 0x4400, 0xc400, 0x3118};
static const uint16_t bf16_constants[] = {0x3f00, 0xbf00, 0x3f80, 0xbf80, 0x4000, 0xc000, 0x4080, 0xc080, 0x3e22};
static const uint32_t f32_constants[] = {0x3f000000, 0xbf000000, 0x3f800000, 0xbf800000, 0x40000000,
                                         0xc0000000, 0x40800000, 0xc0800000, 0x3e22f983};
static const uint64_t f64_constants[] = {0x3fe0000000000000, 0xbfe0000000000000, 0x3ff0000000000000,
                                         0xbff0000000000000, 0x4000000000000000, 0xc000000000000000,
                                         0x4010000000000000, 0xc010000000000000, 0x3fc45f306dc9c882};

uint64_t gs_float_constant(gs_constant_t kind, int index) {
    switch (kind) {
    case GS_CONSTANT_I16:
    case GS_CONSTANT_F16:
    case GS_CONSTANT_PK_F16: return f16_constants[index];
    case GS_CONSTANT_BF16:
    case GS_CONSTANT_PK_BF16: return bf16_constants[index];
    case GS_CONSTANT_64:
    case GS_CONSTANT_I64:
    case GS_CONSTANT_F64: return f64_constants[index];
    default: return f32_constants[index];
    }
}
