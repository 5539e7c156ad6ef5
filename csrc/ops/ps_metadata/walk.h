/* The tiles of a batch in the order of visits, on the host. */
#ifndef AC_OPS_PS_METADATA_WALK_H
#define AC_OPS_PS_METADATA_WALK_H

#include "schedule.h"

typedef struct ac_ps_walk_t {
    ac_ps_request_t request; /* of the tile at hand */
    ac_ps_tile_t tile;
    int32_t number; /* of the tile in its request */
    int32_t next_request, visit;
    int64_t tiles_before; /* of the requests before this one */
    int64_t units_before; /* of the tiles before this one */
    int64_t units;        /* that this one counts as */
} ac_ps_walk_t;

/* To the next tile; returns 0 when there is none. All zero at first. `shares`: NULL where they are looked for. */
static inline int ac_ps_next(const ac_ps_metadata_params_t *p, const ac_ps_shares_t *shares, ac_ps_walk_t *walk) {
    walk->units_before += walk->units;
    while (walk->visit == walk->request.tiles) {
        if (walk->next_request == p->num_requests) return 0;
        walk->tiles_before += walk->request.tiles;
        walk->request = ac_ps_request(p, walk->next_request++, p->max_tiles - walk->tiles_before);
        walk->visit = 0;
    }
    walk->number = ac_ps_visited(&walk->request, walk->visit++);
    walk->tile = ac_ps_tile(p, &walk->request, walk->number);
    walk->units = shares ? ac_ps_counted(shares, &walk->tile) : walk->tile.units;
    return 1;
}

/* What a plan has. */
typedef struct ac_ps_counts_t {
    ac_ps_shares_t shares;
    int64_t tiles, pieces; /* pieces: of each cluster, for one head */
    int64_t split_tiles, split_pieces;
} ac_ps_counts_t;
void ac_ps_count(const ac_ps_metadata_params_t *p, ac_ps_counts_t *out);

static inline int64_t ac_ps_items(const ac_ps_metadata_params_t *p, const ac_ps_counts_t *counts) {
    return counts->pieces * p->heads * p->clusters;
}
static inline int64_t ac_ps_entries(const ac_ps_metadata_params_t *p, const ac_ps_counts_t *counts) {
    return p->need_lse ? counts->pieces : counts->split_pieces;
}
static inline int64_t ac_ps_groups(const ac_ps_metadata_params_t *p, const ac_ps_counts_t *counts) {
    return p->need_lse ? counts->tiles : counts->split_tiles;
}

#endif
