/* A reader of MessagePack, the format of the metadata note in a code object. A damaged input sets `bad` and yields
 * zeros and empty strings from then on, so that callers check once at the end. */
#ifndef GFXSIM_MSGPACK_H
#define GFXSIM_MSGPACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct gs_pack_t {
    const uint8_t *at, *end;
    bool bad;
} gs_pack_t;

typedef struct gs_pack_string_t {
    const char *text; /* not terminated */
    uint32_t length;
} gs_pack_string_t;

uint32_t gs_pack_map(gs_pack_t *pack);   /* the number of pairs that follow */
uint32_t gs_pack_array(gs_pack_t *pack); /* the number of items that follow */
gs_pack_string_t gs_pack_string(gs_pack_t *pack);
uint64_t gs_pack_uint(gs_pack_t *pack); /* an integer or a boolean; a negative one as two's complement */
void gs_pack_skip(gs_pack_t *pack);     /* any one item */

bool gs_pack_is(gs_pack_string_t string, const char *text);

#endif
