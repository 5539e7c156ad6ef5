/* A slot is a row of a cache counted through all pages: page and line of one, and whether there is such a row. */
#ifndef AC_OPS_ATTENTION_SLOTS_H
#define AC_OPS_ATTENTION_SLOTS_H

#include "work.h"

AC_INLINE int ac_slot_is_in(int64_t slot, int64_t num_pages, int64_t page_size) {
    return slot >= 0 && slot < num_pages * page_size;
}

/* Both numbers are not below 0; most are short, and divided sooner. */
AC_INLINE int64_t ac_slot_page(int64_t slot, int64_t page_size, int64_t *out_line) {
    const int64_t page = (slot | page_size) >> 32 ? slot / page_size : (int64_t)((uint32_t)slot / (uint32_t)page_size);
    *out_line = slot - page * page_size;
    return page;
}

#endif
