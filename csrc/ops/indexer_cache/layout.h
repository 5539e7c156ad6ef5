/* Where a key's bytes and scales are in the cache, and how a group is quantised. Every value of the caller's index
 * tensors is clamped here, so that everything after it can trust them. The same code runs in the kernels of every
 * device. */
#ifndef AC_OPS_INDEXER_CACHE_LAYOUT_H
#define AC_OPS_INDEXER_CACHE_LAYOUT_H

#include "../../core/fp8.h"
#include "../attention/slots.h"
#include "kernel_params.h"

#define AC_KEY_LEAST 1e-4f    /* the largest size of a group of a key counts as this at least */
#define AC_QUERY_LEAST 1e-10f /* of a query head */

/* A key of the cache: its page, and which of the page's keys it is. page NULL: there is none. */
typedef struct ac_indexer_key_t {
    char *page;
    int64_t line;
} ac_indexer_key_t;

AC_INLINE ac_indexer_key_t ac_indexer_key_of_slot(const ac_indexer_cache_t *cache, int64_t slot) {
    ac_indexer_key_t key = {0, 0};
    if (ac_slot_is_in(slot, cache->num_pages, cache->page_size))
        key.page = cache->base + ac_slot_page(slot, cache->page_size, &key.line) * cache->page_stride;
    return key;
}

/* Byte d of a key, counted from its page. Runs of 16 bytes, from a multiple of 16 on, stand together. */
AC_INLINE int64_t ac_indexer_byte(const ac_indexer_cache_t *cache, int64_t line, int32_t d) {
    if (!cache->preshuffled) return line * cache->dim + d;
    return (line >> 4) * 16 * cache->dim + (d >> 4) * 256 + (line & 15) * 16 + (d & 15);
}

/* Likewise the scale of a key's group. */
AC_INLINE int64_t ac_indexer_scale(const ac_indexer_cache_t *cache, int64_t line, int32_t group) {
    return (int64_t)cache->page_size * cache->dim + (line * cache->groups + group) * 4;
}

/* The scale of a group by its largest size. */
AC_INLINE float ac_indexer_scale_of(float largest, float least, float limit, int32_t power_of_2) {
    const float scale = ac_run_scale(largest > least ? largest : least, limit);
    return power_of_2 ? ac_power_of_2_from(scale) : scale;
}

AC_INLINE ac_indexer_key_t ac_indexer_key_of_token(const ac_indexer_write_params_t *p, int64_t token) {
    return ac_indexer_key_of_slot(&p->cache, ac_long_entry(p->slots, token * p->slots_stride));
}

/* Whether token t is one of request b's. */
AC_INLINE int ac_indexer_owns(const ac_indexer_gather_params_t *p, int64_t b, int64_t t) {
    return ac_list_entry(p->indptr, b) <= t && t < ac_list_entry(p->indptr, b + 1);
}

/* The key of token t, which is request b's. */
AC_INLINE ac_indexer_key_t ac_indexer_key_of_request(const ac_indexer_gather_params_t *p, int64_t b, int64_t t) {
    const int64_t place = t - ac_list_entry(p->indptr, b); /* not below 0 */
    ac_indexer_key_t key = {0, 0};
    if (p->cache.page_size == 0) return key;
    int64_t line;
    const int64_t entry = ac_slot_page(place, p->cache.page_size, &line);
    if (entry >= p->table_width) return key;
    const int64_t page = ac_list_entry(p->table, b * p->table_stride + entry);
    if (page < 0 || page >= p->cache.num_pages) return key;
    key.page = p->cache.base + page * p->cache.page_stride;
    key.line = line;
    return key;
}

#endif
