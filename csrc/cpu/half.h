/* fp32 to fp16 where no instruction does it: to nearest even. */
#ifndef AC_CPU_HALF_H
#define AC_CPU_HALF_H

#include <stdint.h>
#include <string.h>

static inline uint16_t half_of(float x) {
    uint32_t bits, sign;
    memcpy(&bits, &x, sizeof bits);
    sign = bits >> 16 & 0x8000;
    bits &= 0x7fffffff;
    if (bits > 0x7f800000) return (uint16_t)(sign | 0x7e00);  /* NaN */
    if (bits >= 143u << 23) return (uint16_t)(sign | 0x7c00); /* from 65536 on, infinity included */
    if (bits < 113u << 23) {                                  /* subnormal: adding 0.5 rounds at its last bit */
        float shifted;
        memcpy(&shifted, &bits, sizeof shifted);
        shifted += 0.5f;
        memcpy(&bits, &shifted, sizeof bits);
        return (uint16_t)(sign | (bits - (126u << 23)));
    }
    bits += 0xfff + (bits >> 13 & 1); /* may carry into the exponent, up to infinity */
    return (uint16_t)(sign | ((bits >> 13) - (112u << 10)));
}

#endif
