/* What a plan of prefill will have, counted on the host: by it buffers are refused, and the CPU plans. */
#include "walk.h"

#include <stddef.h>

void ac_ps_count(const ac_ps_metadata_params_t *p, ac_ps_counts_t *out) {
    ac_ps_walk_t walk = {0};
    ac_ps_counts_t counts = {0};
    while (ac_ps_next(p, NULL, &walk)) counts.tiles++;
    counts.shares = ac_ps_shares(p, walk.units_before, counts.tiles);
    walk = (ac_ps_walk_t){0};
    while (ac_ps_next(p, &counts.shares, &walk)) {
        const ac_ps_pieces_t pieces = ac_ps_pieces(&counts.shares, walk.units_before, walk.units);
        counts.pieces += pieces.count;
        if (pieces.count == 1) continue;
        counts.split_tiles++;
        counts.split_pieces += pieces.count;
    }
    *out = counts;
}
