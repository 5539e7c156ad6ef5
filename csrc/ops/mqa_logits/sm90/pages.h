/* What the kernels over keys in pages share on sm_90a: the rows of a unit, a place of a tile in shared memory, and a
 * consumer's part of the keys. */
#ifndef AC_OPS_MQA_LOGITS_SM90_PAGES_H
#define AC_OPS_MQA_LOGITS_SM90_PAGES_H

#include "../schedule.h"
#include "tile.h"

constexpr int MQA_GROUP_KEYS = 16; /* keys of a copy, which are those of a consumer's warp */

/* team_t: the threads that find a workgroup's first tile. */
template <class team_t> struct mqa_pages_t {
    static constexpr int KEY_BYTES = MQA_TILE * AC_MQA_DIM, STAGE_BYTES = KEY_BYTES + MQA_TILE * 4; /* scales follow */
    using schedule_t = mqa_schedule_t<MQA_TILE, team_t>;

    const ac_mqa_logits_params_t &p;
    schedule_t schedule;
    int32_t tile_step; /* from a tile of the workgroup to its next: a unit alone is dealt out tile by tile */

    GPU_MEMBER bool is_alone() const { return schedule.num_units() == 1; }
    /* The unit's first row in its group, and how many it has. */
    GPU_MEMBER int32_t first_in_group(int32_t unit) const {
        return (unit - schedule.group_of(unit) * p.row_blocks) * p.block_rows;
    }
    GPU_MEMBER int rows_of(int32_t unit) const {
        return (int)ac_min64(p.block_rows, p.group_rows - first_in_group(unit));
    }
    GPU_MEMBER int64_t first_row(int32_t unit) const {
        return (int64_t)schedule.group_of(unit) * p.group_rows + first_in_group(unit);
    }
    GPU_MEMBER bool by_copies() const { return p.k.alignment == 16 && p.k.page_size % MQA_GROUP_KEYS == 0; }

    /* What a thread takes of a place: bytes from its start to the first run, and to the scale. */
    struct lane_t {
        uint32_t first, scale;
    };
    GPU_MEMBER lane_t lane() const {
        const uint32_t row = gpu_thread() / 32 % 4 * MQA_GROUP_KEYS + gpu_lane() / 4, run = gpu_lane() & 3;
        const uint32_t preshuffled = row / 16 * 16 * AC_MQA_DIM + row % 16 * 16 + run * 256;
        return {p.k.preshuffled ? preshuffled : row * AC_MQA_DIM + run * 16,
                KEY_BYTES + (row + 8 * (gpu_lane() & 1)) * 4};
    }

    /* Keys `first` and `first` + 8 of a unit from global memory. */
    GPU_MEMBER void load_keys(int32_t unit, int32_t length, int32_t first, mqa_keys_t &keys) const {
        keys.exists = false;
        keys.scale = 0;
        GPU_UNROLL for (int half = 0; half < 2; half++) {
            const int32_t j = first + 8 * half;
            uint32_t token;
            const int64_t page = j < length ? ac_mqa_page(&p.k, schedule.group_of(unit), j, &token) : -1;
            keys.load(p.k, half, page >= 0, page >= 0 ? ac_mqa_key(&p.k, page, token) : nullptr);
            if (page < 0 || (gpu_lane() & 1) != half) continue;
            keys.exists = true;
            keys.scale = gpu_load<float>(ac_mqa_scale(&p.k, page, token));
        }
    }
};

#endif
