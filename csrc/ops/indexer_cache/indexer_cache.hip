/* The cache of the indexer's keys, the same source for AMD and NVIDIA. A team of 32 lanes of one wave writes a group of
 * a key, or turns a key or a query head, four neighbouring elements to a lane, or copies a key. */
#include "../../gpu/vector.h"
#include "layout.h"

constexpr int TEAM = AC_INDEXER_TEAM, RUN = 4; /* elements of a lane at a time */
static_assert(TEAM * RUN == AC_INDEXER_DIM, "a team has a key");

GPU_INLINE int lane_of_team() { return gpu_thread() % TEAM; }

GPU_INLINE float largest_of_team(float x) {
    GPU_UNROLL for (int step = TEAM / 2; step > 0; step /= 2) x = ac_max_size(x, gpu_lane_across(x, step));
    return x;
}

/* The order of the sums is that of the CPU. */
GPU_INLINE float sum_of_team(const float (&x)[RUN]) {
    float sum = ac_add(ac_add(x[0], x[1]), ac_add(x[2], x[3]));
    GPU_UNROLL for (int step = TEAM / 2; step > 0; step /= 2) sum = ac_add(sum, gpu_lane_across(sum, step));
    return sum;
}

/* Elements [at, at + count) of a row; `aligned`: four of them are, as one. */
GPU_INLINE void load_run(const char *row, int64_t at, int count, int dtype, bool aligned, float (&x)[RUN]) {
    const char *from = row + at * gpu_element_bytes(dtype);
    GPU_UNROLL for (int i = 0; i < RUN; i++) x[i] = 0;
    if (count == RUN && (GPU_ANY_ALIGNMENT || aligned)) {
        if (dtype == AC_FLOAT32) {
            const gpu_words_t<4> words = gpu_load_words<4>(from);
            GPU_UNROLL for (int i = 0; i < RUN; i++) x[i] = ac_float_of(words.word[i]);
        } else {
            const gpu_words_t<2> words = gpu_load_words<2>(from);
            GPU_UNROLL for (int i = 0; i < RUN; i++)
                x[i] = gpu_value_of(i % 2 ? words.word[i / 2] >> 16 : words.word[i / 2] & 0xffff, dtype);
        }
        return;
    }
    GPU_UNROLL for (int i = 0; i < RUN; i++)
        if (i < count) x[i] = gpu_load_value(from, i, dtype);
}

GPU_INLINE uint32_t codes_of(const float (&x)[RUN], float inverse, int dtype) {
    return gpu_pack_fp8(ac_mul(x[0], inverse), ac_mul(x[1], inverse), ac_mul(x[2], inverse), ac_mul(x[3], inverse),
                        dtype);
}

/* Bytes d .. d + count of a key. */
GPU_INLINE void store_key(const ac_indexer_cache_t &cache, const ac_indexer_key_t &key, int d, int count,
                          uint32_t codes) {
    if (count == RUN && d % RUN == 0) { /* in one run of 16 */
        gpu_store(key.page + ac_indexer_byte(&cache, key.line, d), codes);
        return;
    }
    GPU_UNROLL for (int i = 0; i < RUN; i++)
        if (i < count) gpu_store(key.page + ac_indexer_byte(&cache, key.line, d + i), (uint8_t)(codes >> 8 * i));
}

GPU_INLINE void write_group(const ac_indexer_write_params_t &p, int64_t token, int group) {
    const ac_indexer_key_t key = ac_indexer_key_of_token(&p, token);
    const int width = p.cache.dim / p.cache.groups, first = group * width, at = lane_of_team() * RUN;
    const char *row = p.k + token * p.k_stride;
    float kept[RUN] = {}, x[RUN], largest = 0;
    GPU_NO_UNROLL for (int i = at; key.page && i < width; i += TEAM * RUN) {
        load_run(row, first + i, width - i < RUN ? width - i : RUN, p.dtype, p.aligned_words, x);
        GPU_UNROLL for (int k = 0; k < RUN; k++) largest = ac_max_size(largest, x[k]);
        if (i == at)
            GPU_UNROLL for (int k = 0; k < RUN; k++) kept[k] = x[k];
    }
    const float scale = ac_indexer_scale_of(largest_of_team(largest), AC_KEY_LEAST, p.limit, p.power_of_2);
    const float inverse = ac_div(1.0f, scale);
    if (!key.page) return;
    GPU_NO_UNROLL for (int i = at; i < width; i += TEAM * RUN) {
        const int count = width - i < RUN ? width - i : RUN;
        if (i != at) load_run(row, first + i, count, p.dtype, p.aligned_words, kept);
        store_key(p.cache, key, first + i, count, codes_of(kept, inverse, p.cache.dtype));
    }
    if (at == 0) gpu_store(key.page + ac_indexer_scale(&p.cache, key.line, group), ac_bits_of(scale));
}

/* A lane's part of a key or of a query head. */
struct head_t {
    const ac_indexer_write_params_t &p;
    float x[RUN];

    /* To the dtype of k and back. */
    GPU_MEMBER void round() {
        if (p.dtype == AC_FLOAT32) return;
        GPU_UNROLL for (int i = 0; i < RUN; i += 2) {
            const uint32_t pair = gpu_pack_halves(x[i], x[i + 1], p.dtype == AC_BFLOAT16);
            x[i] = gpu_value_of(pair & 0xffff, p.dtype);
            x[i + 1] = gpu_value_of(pair >> 16, p.dtype);
        }
    }

    GPU_MEMBER void normalise() {
        float squares[RUN];
        const float mean = ac_mul(sum_of_team(x), 1.0f / AC_INDEXER_DIM);
        GPU_UNROLL for (int i = 0; i < RUN; i++) {
            x[i] = ac_sub(x[i], mean);
            squares[i] = ac_mul(x[i], x[i]);
        }
        const float variance = ac_mul(sum_of_team(squares), 1.0f / AC_INDEXER_DIM);
        const float factor = ac_div(1.0f, ac_sqrt(ac_add(variance, p.epsilon)));
        const float *weight = p.norm_weight + lane_of_team() * RUN, *bias = p.norm_bias + lane_of_team() * RUN;
        GPU_UNROLL for (int i = 0; i < RUN; i++)
            x[i] = ac_add(ac_mul(ac_mul(x[i], factor), gpu_entry(weight + i)), gpu_entry(bias + i));
    }

    /* The other elements of the pairs are the lane's own, or those of the lane 32 elements away. */
    GPU_MEMBER void turn(int64_t token) {
        constexpr int PAIRS = AC_INDEXER_ROPE / 2, HALF = PAIRS / RUN; /* lanes of the first elements */
        const ac_rope_t &rope = p.rope;
        const int64_t row = ac_rope_row(&rope, token);
        const char *cos = rope.cos + row * rope.cos_stride, *sin = rope.sin + row * rope.sin_stride;
        const int lane = lane_of_team();
        float other[RUN];
        GPU_UNROLL for (int i = 0; i < RUN; i++) other[i] = rope.neox ? gpu_lane_across(x[i], HALF) : x[i ^ 1];
        if (lane >= 2 * HALF) return;
        GPU_UNROLL for (int i = 0; i < RUN; i++) {
            const int pair = rope.neox ? lane % HALF * RUN + i : (lane * RUN + i) / 2;
            const bool is_first = rope.neox ? lane < HALF : i % 2 == 0;
            const float c = gpu_load_value(cos, pair, rope.dtype), s = gpu_load_value(sin, pair, rope.dtype);
            x[i] = is_first ? ac_rope_turn_first(x[i], other[i], c, s) : ac_rope_turn_second(other[i], x[i], c, s);
        }
    }

    GPU_MEMBER float scale(float least, float limit) const {
        float largest = 0;
        GPU_UNROLL for (int i = 0; i < RUN; i++) largest = ac_max_size(largest, x[i]);
        return ac_indexer_scale_of(largest_of_team(largest), least, limit, p.power_of_2);
    }
};

GPU_INLINE bool is_aligned(const char *row, int dtype) {
    return (uintptr_t)row % (RUN * gpu_element_bytes(dtype)) == 0;
}

/* All lanes of the wave take part: its teams may have another kind of row each. */
GPU_INLINE void write_head(const ac_indexer_write_params_t &p, int64_t token, int64_t number, bool exists) {
    const ac_indexer_key_t key = exists ? ac_indexer_key_of_token(&p, token) : ac_indexer_key_t{};
    const bool is_key = number == 0, is_written = exists && (key.page || (!is_key && p.writes_all));
    const int64_t safe = exists ? token : 0;
    const int at = lane_of_team() * RUN;
    head_t head = {p, {}};
    if (is_written) {
        const char *row = is_key ? p.k + token * p.k_stride : p.q + token * p.q_stride + (number - 1) * p.q_head_stride;
        load_run(row, at, RUN, p.dtype, is_aligned(row, p.dtype), head.x);
    }
    head_t normal = head;
    normal.normalise();
    normal.round();
    if (is_key) GPU_UNROLL for (int i = 0; i < RUN; i++) head.x[i] = normal.x[i];
    head.turn(safe);
    head.round();
    const float scale = head.scale(is_key ? AC_KEY_LEAST : AC_QUERY_LEAST, is_key ? p.limit : p.q_limit);
    const uint32_t codes = codes_of(head.x, ac_div(1.0f, scale), is_key ? p.cache.dtype : p.q_out_dtype);
    if (!is_written) return;
    if (is_key) {
        store_key(p.cache, key, at, RUN, codes);
        if (at == 0) gpu_store(key.page + ac_indexer_scale(&p.cache, key.line, 0), ac_bits_of(scale));
        return;
    }
    gpu_store(p.q_out + token * p.q_out_stride + (number - 1) * p.q_out_head_stride + at, codes);
    if (at != 0) return;
    const char *weight = p.weights + token * p.weights_stride + (number - 1) * p.weights_head_stride;
    const float result = ac_mul(ac_mul(gpu_load_value(weight, 0, p.weights_dtype), scale), p.weights_scale);
    gpu_store(p.weights_out + token * p.weights_out_stride + (number - 1) * p.weights_out_head_stride,
              ac_bits_of(result));
}

/* The first request that has the token, or -1: each lane asks some of them. */
GPU_INLINE int64_t request_of(const ac_indexer_gather_params_t &p, int64_t token) {
    int64_t found = p.num_requests;
    GPU_NO_UNROLL for (int64_t b = lane_of_team(); b < found; b += TEAM) {
        if (token >= gpu_entry(p.indptr + b) && token < gpu_entry(p.indptr + b + 1)) found = b;
    }
    int lowest = (int)(found < INT32_MAX ? found : INT32_MAX);
    GPU_UNROLL for (int step = TEAM / 2; step > 0; step /= 2) {
        const int other = __builtin_bit_cast(int, gpu_lane_across(__builtin_bit_cast(float, lowest), step));
        lowest = other < lowest ? other : lowest;
    }
    return lowest < p.num_requests ? lowest : -1;
}

/* `count` bytes, all of the team together; from NULL: zeros. */
GPU_INLINE void copy_bytes(const char *from, char *to, int count) {
    const bool words = GPU_ANY_ALIGNMENT || (((uintptr_t)from | (uintptr_t)to) & 3) == 0;
    const int whole = words ? count / 4 * 4 : 0;
    GPU_NO_UNROLL for (int i = lane_of_team() * 4; i < whole; i += TEAM * 4)
        gpu_store_words<1>(to + i, from ? gpu_load_words<1>(from + i) : gpu_words_t<1>{{0}});
    GPU_NO_UNROLL for (int i = whole + lane_of_team(); i < count; i += TEAM)
        gpu_store(to + i, from ? gpu_entry((const uint8_t *)from + i) : (uint8_t)0);
}

GPU_INLINE void gather_key(const ac_indexer_gather_params_t &p, int64_t token, int64_t request) {
    const ac_indexer_key_t key = ac_indexer_key_of_request(&p, request, token);
    char *to = p.keys + token * p.keys_stride;
    const int dim = p.cache.dim;
    copy_bytes(key.page ? key.page + ac_indexer_scale(&p.cache, key.line, 0) : nullptr,
               p.scales + token * p.scales_stride, p.cache.groups * 4);
    if (!key.page || !p.cache.preshuffled) {
        copy_bytes(key.page ? key.page + ac_indexer_byte(&p.cache, key.line, 0) : nullptr, to, dim);
        return;
    }
    GPU_NO_UNROLL for (int i = lane_of_team() * 4; i < dim; i += TEAM * 4)
        gpu_store(to + i, gpu_load<uint32_t>(key.page + ac_indexer_byte(&p.cache, key.line, i)));
}

GPU_INLINE int64_t item_of_team() { return gpu_block() * AC_INDEXER_TEAMS + gpu_thread() / TEAM; }

GPU_KERNEL_OF(AC_INDEXER_THREADS, 4) indexer_write(GPU_PARAMS(ac_indexer_write_params_t) p) {
    const int64_t item = item_of_team(), groups = p.cache.groups, token = item / groups;
    if (item >= p.num_items) return;
    write_group(p, token, (int)(item - token * groups));
}

GPU_KERNEL_OF(AC_INDEXER_THREADS, 4) indexer_rope_write(GPU_PARAMS(ac_indexer_write_params_t) p) {
    const int64_t item = item_of_team(), per_token = (int64_t)p.heads + 1, token = item / per_token;
    write_head(p, token, item - token * per_token, item < p.num_items);
}

GPU_KERNEL_OF(AC_INDEXER_THREADS, 4) indexer_gather(GPU_PARAMS(ac_indexer_gather_params_t) p) {
    const int64_t token = item_of_team();
    if (token >= p.num_tokens) return;
    const int64_t request = request_of(p, token);
    if (request >= 0) gather_key(p, token, request);
}
