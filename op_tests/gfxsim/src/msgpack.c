#include "msgpack.h"

#include <string.h>

enum { MAX_DEPTH = 32 };

typedef enum item_kind_t { ITEM_UINT, ITEM_STRING, ITEM_ARRAY, ITEM_MAP, ITEM_OTHER } item_kind_t;

static uint64_t big_endian(gs_pack_t *pack, int bytes) {
    if (pack->bad || pack->end - pack->at < bytes) {
        pack->bad = true;
        return 0;
    }
    uint64_t value = 0;
    for (int i = 0; i < bytes; i++) value = value << 8 | *pack->at++;
    return value;
}

static uint64_t sign_extended(uint64_t value, int bytes) {
    int shift = 64 - 8 * bytes;
    return (uint64_t)((int64_t)(value << shift) >> shift);
}

/* Reads the head of the next item: its kind, and its value, length or count. A string's bytes are still to come; those
 * of an item of no interest (a float, a blob) are skipped. */
static item_kind_t head(gs_pack_t *pack, uint64_t *out_value) {
    uint8_t type = (uint8_t)big_endian(pack, 1);
    *out_value = 0;
    if (type < 0x80) return *out_value = type, ITEM_UINT;
    if (type < 0x90) return *out_value = type & 15, ITEM_MAP;
    if (type < 0xa0) return *out_value = type & 15, ITEM_ARRAY;
    if (type < 0xc0) return *out_value = type & 31, ITEM_STRING;
    if (type >= 0xe0) return *out_value = sign_extended(type, 1), ITEM_UINT;
    int width = 1 << (type & 3);
    switch (type) {
    case 0xc2:
    case 0xc3: return *out_value = type & 1, ITEM_UINT;
    case 0xcc:
    case 0xcd:
    case 0xce:
    case 0xcf: return *out_value = big_endian(pack, width), ITEM_UINT;
    case 0xd0:
    case 0xd1:
    case 0xd2:
    case 0xd3: return *out_value = sign_extended(big_endian(pack, width), width), ITEM_UINT;
    case 0xd9:
    case 0xda:
    case 0xdb: return *out_value = big_endian(pack, 1 << (type - 0xd9)), ITEM_STRING;
    case 0xdc:
    case 0xdd: return *out_value = big_endian(pack, 2 << (type - 0xdc)), ITEM_ARRAY;
    case 0xde:
    case 0xdf: return *out_value = big_endian(pack, 2 << (type - 0xde)), ITEM_MAP;
    case 0xca:
    case 0xcb: return (void)big_endian(pack, 4 << (type - 0xca)), ITEM_OTHER;
    case 0xc4:
    case 0xc5:
    case 0xc6: {
        uint64_t bytes = big_endian(pack, 1 << (type - 0xc4));
        if (bytes > (uint64_t)(pack->end - pack->at)) pack->bad = true;
        if (!pack->bad) pack->at += bytes;
        return ITEM_OTHER;
    }
    case 0xc0: return ITEM_OTHER;
    default: pack->bad = true; return ITEM_OTHER;
    }
}

static uint64_t expect(gs_pack_t *pack, item_kind_t kind) {
    uint64_t value;
    if (pack->bad || head(pack, &value) != kind) {
        pack->bad = true;
        return 0;
    }
    return pack->bad ? 0 : value;
}

/* A count that cannot be true is an error, lest a loop over it run for long. */
static uint32_t expect_count(gs_pack_t *pack, item_kind_t kind) {
    uint64_t count = expect(pack, kind);
    if (count > (uint64_t)(pack->end - pack->at)) pack->bad = true;
    return pack->bad ? 0 : (uint32_t)count;
}

uint32_t gs_pack_map(gs_pack_t *pack) { return expect_count(pack, ITEM_MAP); }

uint32_t gs_pack_array(gs_pack_t *pack) { return expect_count(pack, ITEM_ARRAY); }

gs_pack_string_t gs_pack_string(gs_pack_t *pack) {
    uint32_t length = expect_count(pack, ITEM_STRING);
    gs_pack_string_t string = {(const char *)pack->at, length};
    pack->at += length;
    return string;
}

uint64_t gs_pack_uint(gs_pack_t *pack) { return expect(pack, ITEM_UINT); }

static void skip(gs_pack_t *pack, int depth) {
    uint64_t value;
    if (depth > MAX_DEPTH) pack->bad = true;
    if (pack->bad) return;
    item_kind_t kind = head(pack, &value);
    if (kind == ITEM_UINT || kind == ITEM_OTHER) return;
    if (value > (uint64_t)(pack->end - pack->at)) {
        pack->bad = true;
    } else if (kind == ITEM_STRING) {
        pack->at += value;
    } else {
        uint64_t items = kind == ITEM_MAP ? 2 * value : value;
        for (uint64_t i = 0; i < items && !pack->bad; i++) skip(pack, depth + 1);
    }
}

void gs_pack_skip(gs_pack_t *pack) { skip(pack, 0); }

bool gs_pack_is(gs_pack_string_t string, const char *text) {
    return strlen(text) == string.length && memcmp(string.text, text, string.length) == 0;
}
