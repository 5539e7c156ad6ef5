#include "clock_memory.h"

#include <stdlib.h>
#include <string.h>

#include "clock.h"

const gs_clock_table_t gs_clock_tables[GS_ARCH_COUNT] = {
#define X(name, gfx942, gfx950, source) .name = gfx942,
    [GS_GFX942] = {GS_CLOCK_CONSTANTS(X)},
#undef X
#define X(name, gfx942, gfx950, source) .name = gfx950,
    [GS_GFX950] = {GS_CLOCK_CONSTANTS(X)},
#undef X
};

/* ---- caches: sets of lines, the least recently used one leaves ----------------------------------------------------
 */

bool gs_cache_open(gs_cache_t *cache, int64_t lines, int ways) {
    cache->ways = ways;
    cache->sets = lines / ways > 0 ? (int)(lines / ways) : 1;
    cache->tags = calloc((size_t)cache->sets * (size_t)ways, sizeof *cache->tags);
    return cache->tags != NULL;
}

void gs_cache_close(gs_cache_t *cache) {
    free(cache->tags);
    cache->tags = NULL;
}

bool gs_cache_touch(gs_cache_t *cache, uintptr_t line) {
    uintptr_t *set = cache->tags + (size_t)(line % (uintptr_t)cache->sets) * (size_t)cache->ways;
    int way = 0;
    while (way < cache->ways - 1 && set[way] != line) way++;
    bool hit = set[way] == line;
    memmove(set + 1, set, (size_t)way * sizeof *set);
    set[0] = line;
    return hit;
}

/* ---- LDS: an access is done in phases of some lanes, each of a clock; in a clock, a bank gives one dword ----------
 */

enum { MAX_PHASES = 8, MAX_BANKS = 64, MAX_WORDS = 4 };

/* The lanes of ds_read_b128 that are read together: not those beside one another. AMD's patch of Triton (pull request
 * 11365) names them for both architectures; by them AITER's kernels for gfx942 have no conflict in any. */
static uint64_t lanes_of_wide_read(int phase, int count) {
    static const uint32_t OF_32_BANKS[4] = {0x00f0000f, 0x000f00f0, 0xf0000f00, 0x0f00f000};
    static const uint32_t OF_64_BANKS[2] = {0x0ff0f00f, 0xf00f0ff0};
    uint64_t lanes = count == MAX_PHASES ? OF_32_BANKS[phase % 4] : OF_64_BANKS[phase % 2];
    return lanes << (phase < count / 2 ? 0 : 32);
}

static int phases_of(gs_arch_t arch, const gs_trace_lds_t *access, int *out_banks, uint64_t lanes[MAX_PHASES]) {
    const gs_clock_table_t *table = &gs_clock_tables[arch];
    bool wide = !access->writes && (access->size == 8 || access->size == 16);
    *out_banks = (int)(wide ? table->lds_read_banks : table->lds_banks);
    uint32_t size = access->size < 4 ? 4 : access->size == 12 ? 16 : access->size;
    int count = (int)(GS_LANES * size) / (4 * *out_banks), each = GS_LANES / count;
    for (int i = 0; i < count; i++) {
        uint64_t some = each == GS_LANES ? UINT64_MAX : ((UINT64_C(1) << each) - 1) << each * i;
        lanes[i] = wide && access->size == 16 ? lanes_of_wide_read(i, count) : some;
    }
    return count;
}

/* How often the busiest bank is asked for different dwords. */
static int conflict_degree(const gs_trace_lds_t *access, uint64_t lanes, int banks) {
    uint32_t seen[MAX_BANKS][GS_LANES * MAX_WORDS / 8];
    int counts[MAX_BANKS] = {0}, most = 0, words = access->size < 4 ? 1 : (int)access->size / 4;
    for (lanes &= access->lanes; lanes; lanes &= lanes - 1) {
        uint32_t first = access->address[__builtin_ctzll(lanes)] / 4;
        for (int i = 0; i < words; i++) {
            uint32_t dword = first + (uint32_t)i;
            int bank = (int)(dword % (uint32_t)banks), k = 0;
            while (k < counts[bank] && seen[bank][k] != dword) k++;
            if (k < counts[bank] || k == GS_LANES * MAX_WORDS / 8) continue;
            seen[bank][counts[bank]++] = dword;
            if (counts[bank] > most) most = counts[bank];
        }
    }
    return most;
}

int64_t gs_lds_clocks(gs_arch_t arch, const gs_trace_lds_t *access, int64_t *out_least) {
    uint64_t lanes[MAX_PHASES];
    int banks, count = phases_of(arch, access, &banks, lanes);
    int64_t clocks = 0;
    for (int i = 0; i < count; i++) {
        int degree = conflict_degree(access, lanes[i], banks);
        clocks += degree;
        *out_least += degree > 0;
    }
    return clocks;
}
