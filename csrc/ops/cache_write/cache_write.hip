/* MLA cache writes, the same source for AMD and NVIDIA. A wave writes a row: its lanes take eight elements each of the
 * parts that keep their order, and a pair each of a rope part that turns. */
#include "../../gpu/vector.h"
#include "../../gpu/lanes.h"
#include "rows.h"

constexpr int RUN = 8;                                  /* elements of a lane at a time */
constexpr int GROUP_LANES = AC_RECORD_GROUP / RUN;      /* that have a group of a record */
constexpr int ROWS = AC_CACHE_WRITE_THREADS / GPU_WAVE; /* of a workgroup */
static_assert(GPU_WAVE % GROUP_LANES == 0 && AC_MLA_DV % (GPU_WAVE * RUN) == 0, "whole groups in a wave");

struct run_t {
    float value[RUN];
};

struct row_writer_t {
    const ac_cache_write_params_t &p;
    ac_cache_row_t row;

    /* Whether runs of a row may be loaded and stored as vectors. */
    static GPU_MEMBER bool whole(const char *row, int bytes) {
        return GPU_ANY_ALIGNMENT || (uintptr_t)row % (bytes == 1 ? 8 : 16) == 0;
    }

    /* Elements [at, at + count) as they are: words of 16 bytes, two of them where an element has four. */
    static GPU_MEMBER void load_words(const char *from, int64_t at, int count, int bytes, uint32_t (&words)[RUN]) {
        const bool is_vector = count == RUN && whole(from, bytes);
        from += at * bytes;
        GPU_UNROLL for (int i = 0; i < RUN; i++) words[i] = 0;
        if (is_vector) {
            const gpu_words_t<4> low = gpu_load_words<4>(from);
            GPU_UNROLL for (int i = 0; i < 4; i++) words[i] = low.word[i];
            if (bytes != 4) return;
            const gpu_words_t<4> high = gpu_load_words<4>(from + 16);
            GPU_UNROLL for (int i = 0; i < 4; i++) words[4 + i] = high.word[i];
            return;
        }
        GPU_UNROLL for (int i = 0; i < RUN; i++) {
            if (i >= count) continue;
            if (bytes == 4) words[i] = gpu_entry((const uint32_t *)from + i);
            else words[i / 2] |= (uint32_t)gpu_entry((const uint16_t *)from + i) << i % 2 * 16;
        }
    }

    static GPU_MEMBER void store_words(char *to, int64_t at, int count, int bytes, const uint32_t (&words)[RUN]) {
        const bool is_vector = count == RUN && whole(to, bytes);
        to += at * bytes;
        if (is_vector) {
            if (bytes == 1) {
                gpu_store_words<2>(to, {{words[0], words[1]}});
                return;
            }
            gpu_store_words<4>(to, {{words[0], words[1], words[2], words[3]}});
            if (bytes == 4) gpu_store_words<4>(to + 16, {{words[4], words[5], words[6], words[7]}});
            return;
        }
        GPU_UNROLL for (int i = 0; i < RUN; i++) {
            if (i >= count) continue;
            if (bytes == 4) gpu_store_code(to, i, words[i], 4);
            else if (bytes == 2) gpu_store_code(to, i, words[i / 2] >> i % 2 * 16, 2);
            else gpu_store_code(to, i, words[i / 4] >> i % 4 * 8, 1);
        }
    }

    GPU_MEMBER run_t values_of(const uint32_t (&words)[RUN]) const {
        run_t run;
        GPU_UNROLL for (int i = 0; i < RUN; i++) {
            if (p.dtype == AC_FLOAT32) run.value[i] = ac_float_of(words[i]);
            else run.value[i] = gpu_value_of(i % 2 ? words[i / 2] >> 16 : words[i / 2] & 0xffff, p.dtype);
        }
        return run;
    }

    static GPU_MEMBER void pack(const run_t &run, int dtype, const ac_fp8_scale_t &scale, uint32_t (&words)[RUN]) {
        GPU_UNROLL for (int i = 0; i < RUN; i++) words[i] = 0;
        if (dtype == AC_FLOAT32) {
            GPU_UNROLL for (int i = 0; i < RUN; i++) words[i] = ac_bits_of(run.value[i]);
        } else if (dtype == AC_BFLOAT16 || dtype == AC_FLOAT16) {
            GPU_UNROLL for (int i = 0; i < RUN; i += 2)
                words[i / 2] = gpu_pack_halves(run.value[i], run.value[i + 1], dtype == AC_BFLOAT16);
        } else {
            float x[RUN];
            if (scale.divides)
                GPU_UNROLL for (int i = 0; i < RUN; i++) x[i] = ac_div(run.value[i], scale.scale);
            else
                GPU_UNROLL for (int i = 0; i < RUN; i++) x[i] = ac_mul(run.value[i], scale.inverse);
            GPU_UNROLL for (int i = 0; i < RUN; i += 4)
                words[i / 4] = gpu_pack_fp8(x[i], x[i + 1], x[i + 2], x[i + 3], dtype);
        }
    }

    /* `count` elements as they are, or as another dtype. */
    GPU_MEMBER void write_part(const char *from, int count, char *to, int dtype) const {
        const int bytes = gpu_element_bytes(p.dtype), to_bytes = gpu_element_bytes(dtype);
        if (!to) return;
        GPU_NO_UNROLL for (int at = gpu_lane() * RUN; at < count; at += GPU_WAVE * RUN) {
            const int n = count - at < RUN ? count - at : RUN;
            uint32_t words[RUN];
            load_words(from, at, n, bytes, words);
            if (dtype != p.dtype) {
                const run_t run = values_of(words);
                pack(run, dtype, row.scale, words);
            }
            store_words(to, at, n, to_bytes, words);
        }
    }

    /* The latent of a record: groups with a scale each. */
    GPU_MEMBER void write_groups() const {
        GPU_NO_UNROLL for (int at = gpu_lane() * RUN; at < AC_MLA_DV; at += GPU_WAVE * RUN) {
            uint32_t words[RUN];
            float largest = 0;
            load_words(row.latent, at, RUN, gpu_element_bytes(p.dtype), words);
            const run_t run = values_of(words);
            GPU_UNROLL for (int i = 0; i < RUN; i++) largest = ac_max_size(largest, run.value[i]);
            GPU_UNROLL for (int step = GROUP_LANES / 2; step > 0; step /= 2)
                largest = ac_max_size(largest, gpu_lane_across(largest, step));
            const float scale = ac_record_scale(largest);
            if (gpu_lane() % GROUP_LANES == 0)
                gpu_store(row.to_scales + at / AC_RECORD_GROUP * 4, ac_bits_of(scale));
            pack(run, row.latent_dtype, ac_fp8_scale(scale, 1), words);
            store_words(row.to_latent, at, RUN, 1, words);
        }
    }

    GPU_MEMBER void write_element(char *to, int dtype, int i, float x) const {
        if (!to) return;
        const int bytes = gpu_element_bytes(dtype);
        gpu_store_code(to, i, gpu_code_of(bytes == 1 ? ac_fp8_scaled(&row.scale, x) : x, dtype), bytes);
    }

    /* The rope part turned, to its place and its copy. */
    GPU_MEMBER void write_turned() const {
        const ac_rope_t &rope = p.rope;
        const char *cos = rope.cos + row.angle * rope.cos_stride, *sin = rope.sin + row.angle * rope.sin_stride;
        GPU_NO_UNROLL for (int i = gpu_lane(); i < rope.pairs; i += GPU_WAVE) {
            const int first = ac_rope_first(&rope, i), second = ac_rope_second(&rope, i);
            const float a = gpu_load_value(row.rope, first, p.dtype), b = gpu_load_value(row.rope, second, p.dtype);
            const int at = rope.own ? first : i, beside = rope.own ? second : i;
            const float x = ac_rope_turn_first(a, b, gpu_load_value(cos, at, rope.dtype),
                                               gpu_load_value(sin, at, rope.dtype));
            const float y = ac_rope_turn_second(a, b, gpu_load_value(cos, beside, rope.dtype),
                                                gpu_load_value(sin, beside, rope.dtype));
            write_element(row.to_rope, row.rope_dtype, first, x);
            write_element(row.to_rope, row.rope_dtype, second, y);
            write_element(row.rope_copy, p.dtype, first, x);
            write_element(row.rope_copy, p.dtype, second, y);
        }
    }

    GPU_MEMBER void write_zeros() const {
        const int bytes = gpu_element_bytes(p.dtype);
        GPU_NO_UNROLL for (int i = gpu_lane(); i < p.key.latent_dim; i += GPU_WAVE)
            gpu_store_code(row.zeros, i, 0, bytes);
    }

    GPU_MEMBER void write() const {
        if (row.to_scales) write_groups();
        else write_part(row.latent, row.latent_dim, row.to_latent, row.latent_dtype);
        if (row.angle >= 0) {
            write_turned();
        } else {
            write_part(row.rope, p.rope_dim, row.to_rope, row.rope_dtype);
            write_part(row.rope, p.rope_dim, row.rope_copy, p.dtype);
        }
        if (row.zeros) write_zeros();
    }
};

GPU_KERNEL_OF(AC_CACHE_WRITE_THREADS, 4) cache_write(GPU_PARAMS(ac_cache_write_params_t) p) {
    const int64_t n = gpu_block() * ROWS + gpu_shared_number(gpu_thread() / GPU_WAVE);
    if (n >= p.num_rows) return;
    const row_writer_t writer = {p, ac_cache_row(&p, n)};
    writer.write();
}
