/* Merges attention states, the same source for AMD and NVIDIA: out and LSE of (row, head) pairs out of those of N
 * states, in their order; see kernel_params.h. A team of lanes of one wave merges a pair. Each lane reads the LSEs of
 * all states and has columns of its own, so that no sum crosses lanes, and a pair's bits depend on nothing but its
 * values. All that a pair's outputs may lie over has been read when they are written: its LSE comes last. */
#include "../../core/constants.h"
#include "../../core/dtype.h"
#include "../../gpu/vector.h"
#include "kernel_params.h"

constexpr int MERGE_THREADS = 256;
constexpr int MERGE_PER_UNIT = 4; /* workgroups */
constexpr int VECTOR = 16;        /* bytes of a load */
#if defined(__CUDACC__)
constexpr int STATES = 2; /* that are loaded together */
GPU_INLINE void order_wave() { __syncwarp(); }
#else
constexpr int STATES = 4;
GPU_INLINE void order_wave() { __builtin_amdgcn_wave_barrier(); }
#endif

typedef gpu_words_t<VECTOR / 4> vector_t;

/* A team for rows of up to COLUMNS values, or more in several steps: 16 of COLUMNS to a lane. Values of BYTES; WHOLE:
 * see whole_vectors. */
template <int COLUMNS, int BYTES, bool WHOLE> struct merge_pair_t {
    static constexpr int LANES = COLUMNS / 16, TEAMS = MERGE_THREADS / LANES;
    static constexpr int VALUES = VECTOR / BYTES, LOADS = WHOLE ? 2 : 1; /* of a state at a time */
    static constexpr int GROUP = WHOLE ? STATES : 1;

    const ac_merge_states_params_t &p;
    int64_t row;
    int head;
    float top, sum, lses[GROUP], acc[LOADS][VALUES];

    static GPU_MEMBER int lane() { return gpu_thread() % LANES; }
    static GPU_MEMBER int column(int load) { return (lane() + load * LANES) * VALUES; }
    GPU_MEMBER const ac_state_source_t &source(int64_t state) const {
        return p.sources[p.together ? state >= p.together : state];
    }

    GPU_MEMBER const char *row_of(int64_t state) const {
        const ac_state_source_t &from = source(state);
        return from.o + state * p.o_stride + row * from.o_row_stride + head * from.o_head_stride;
    }

    /* The LSEs of a group; -inf: the state holds nothing, or there is none. All are loaded before one is looked at. */
    GPU_MEMBER void load_lses(int64_t first) {
        GPU_UNROLL for (int k = 0; k < GROUP; k++) {
            lses[k] = GPU_MINUS_INFINITY;
            if (first + k >= p.num_states) continue;
            const ac_state_source_t &from = source(first + k);
            lses[k] = gpu_entry((const float *)(from.lse + (first + k) * p.lse_stride + row * from.lse_row_stride +
                                                head * from.lse_head_stride));
        }
        if (p.spreads_nan) return;
        GPU_UNROLL for (int k = 0; k < GROUP; k++)
            lses[k] = lses[k] <= GPU_FLT_MAX ? lses[k] : GPU_MINUS_INFINITY; /* neither +inf nor NaN */
    }

    GPU_MEMBER void find_top() {
        top = -GPU_FLT_MAX;
        for (int64_t first = 0; first < p.num_states; first += GROUP) {
            load_lses(first);
            GPU_UNROLL for (int k = 0; k < GROUP; k++) top = gpu_max(top, lses[k]);
        }
    }

    /* The values [at, at + VALUES) of a row; past its end anything. */
    GPU_MEMBER vector_t load(const char *from, int64_t at) const {
        from += at * BYTES;
        bool is_whole = at + VALUES <= p.value_dim && (GPU_ANY_ALIGNMENT || (uintptr_t)from % VECTOR == 0);
        if (WHOLE || is_whole) return gpu_load_words<VECTOR / 4>(from);
        vector_t vector = {};
        GPU_UNROLL for (int i = 0; i < VALUES; i++) {
            if (at + i >= p.value_dim) break;
            const char *value = from + i * BYTES;
            if (BYTES == 4) vector.word[i] = gpu_entry((const uint32_t *)value);
            else vector.word[i / 2] |= (uint32_t)gpu_entry((const uint16_t *)value) << i % 2 * 16;
        }
        return vector;
    }

    /* Value i of a vector. */
    GPU_MEMBER float value_of(const vector_t &vector, int i) const {
        if (BYTES == 4) return __builtin_bit_cast(float, vector.word[i]);
        uint32_t word = vector.word[i / 2], bits = i % 2 ? word >> 16 : word & 0xffff;
        return p.o_dtype == AC_BFLOAT16 ? __builtin_bit_cast(float, bits << 16) : gpu_half_value(bits);
    }

    /* Adds a group of states, columns from `block` on. */
    GPU_MEMBER void add_group(int64_t first, int64_t block) {
        vector_t loaded[GROUP][LOADS];
        float factors[GROUP];
        GPU_UNROLL for (int k = 0; k < GROUP; k++) {
            factors[k] = gpu_exp2((lses[k] - top) * (float)AC_LOG2_E); /* 0 where it holds nothing */
            /* -0.0 is neutral in addition, as a product as well: 0 would lose the sign of a -0.0. */
            GPU_UNROLL for (int j = 0; j < LOADS; j++)
                for (uint32_t &word : loaded[k][j].word) word = BYTES == 4 ? 0x80000000u : 0x80008000u;
            if (lses[k] == GPU_MINUS_INFINITY) continue;
            const char *from = row_of(first + k);
            GPU_UNROLL for (int j = 0; j < LOADS; j++)
                if (block + column(j) < p.value_dim) loaded[k][j] = load(from, block + column(j));
        }
        GPU_UNROLL for (int k = 0; k < GROUP; k++) {
            sum += factors[k];
            GPU_UNROLL for (int j = 0; j < LOADS; j++)
                GPU_UNROLL for (int i = 0; i < VALUES; i++)
                    acc[j][i] = __builtin_fmaf(value_of(loaded[k][j], i), factors[k], acc[j][i]);
        }
    }

    /* All states of the columns from `block` on. */
    GPU_MEMBER void add(int64_t block) {
        sum = 0;
        GPU_UNROLL for (int j = 0; j < LOADS; j++)
            GPU_UNROLL for (int i = 0; i < VALUES; i++) acc[j][i] = -0.0f;
        for (int64_t first = 0; first < p.num_states; first += GROUP) {
            if (p.num_states > GROUP) load_lses(first); /* else find_top has left them */
            add_group(first, block);
        }
    }

    /* What the sums are multiplied by; 0 where there is none. */
    GPU_MEMBER float scale() const {
        float weights = sum;
        if (p.sink) weights += gpu_exp2((gpu_entry(p.sink + head) - top) * (float)AC_LOG2_E);
        return sum == 0 ? 0 : 1 / weights;
    }

    GPU_MEMBER bool is_kept() const { return sum == 0 && p.keep_empty; }

    GPU_MEMBER void store(int64_t block) {
        if (is_kept()) return;
        char *out = p.out + row * p.out_row_stride + head * p.out_head_stride;
        float factor = scale(), zero = sum == 0 ? 0.0f : -0.0f; /* a row of nothing is 0, other zeros keep their sign */
        GPU_UNROLL for (int j = 0; j < LOADS; j++) {
            int64_t at = block + column(j);
            GPU_UNROLL for (int i = 0; i < VALUES; i++) acc[j][i] = __builtin_fmaf(acc[j][i], factor, zero);
            if ((WHOLE || GPU_ANY_ALIGNMENT) && at + VALUES <= p.value_dim) store_values(out, at, acc[j]);
            else if (!WHOLE) store_tail(out, at, acc[j]);
        }
    }

    GPU_MEMBER void store_values(char *out, int64_t at, const float (&values)[VALUES]) const {
        if (p.out_dtype == AC_FLOAT32) {
            GPU_UNROLL for (int i = 0; i < VALUES; i += 4) {
                vector_t vector;
                GPU_UNROLL for (int k = 0; k < 4; k++) vector.word[k] = __builtin_bit_cast(uint32_t, values[i + k]);
                gpu_store_words(out + (at + i) * 4, vector);
            }
            return;
        }
        gpu_words_t<VALUES / 2> halves;
        GPU_UNROLL for (int i = 0; i < VALUES; i += 2)
            halves.word[i / 2] = gpu_pack_halves(values[i], values[i + 1], p.out_dtype == AC_BFLOAT16);
        gpu_store_words(out + at * 2, halves);
    }

    /* Value by value, up to the end of the row. */
    GPU_MEMBER void store_tail(char *out, int64_t at, const float (&values)[VALUES]) const {
        GPU_UNROLL for (int i = 0; i < VALUES; i++) {
            if (at + i >= p.value_dim) break;
            if (p.out_dtype == AC_FLOAT32)
                gpu_store(out + (at + i) * 4, __builtin_bit_cast(uint32_t, values[i]));
            else gpu_store(out + (at + i) * 2, (uint16_t)gpu_pack_halves(values[i], 0, p.out_dtype == AC_BFLOAT16));
        }
    }

    /* ln(exp(lse) + exp(sink)) */
    static GPU_MEMBER float with_sink(float lse, float sink) {
        bool is_less = lse < sink; /* not so where the LSE is NaN */
        float larger = is_less ? sink : lse, smaller = is_less ? lse : sink;
        return larger + gpu_log2(1 + gpu_exp2((smaller - larger) * (float)AC_LOG2_E)) * (float)AC_LN_2;
    }

    GPU_MEMBER void store_lse() const {
        if (!p.out_lse || lane() != 0 || is_kept()) return;
        float lse = sum == 0 ? GPU_MINUS_INFINITY : top + gpu_log2(sum) * (float)AC_LN_2;
        if (p.sink && p.sink_in_lse && sum != 0) lse = with_sink(lse, gpu_entry(p.sink + head));
        gpu_store(p.out_lse + row * p.out_lse_row_stride + head * p.out_lse_head_stride,
                  __builtin_bit_cast(uint32_t, lse));
    }

    GPU_MEMBER void merge() {
        find_top();
        for (int64_t block = 0; block < p.value_dim; block += LANES * LOADS * VALUES) {
            add(block);
            store(block);
        }
        order_wave(); /* every lane has read the LSEs: the one that is written now may be among them */
        store_lse();
    }
};

template <int COLUMNS, int BYTES, bool WHOLE> GPU_INLINE void merge_pair(const ac_merge_states_params_t &p) {
    typedef merge_pair_t<COLUMNS, BYTES, WHOLE> pair_t;
    int64_t first = gpu_block() * pair_t::TEAMS, row = first / p.num_heads;
    uint32_t head = (uint32_t)(first - row * p.num_heads) + gpu_thread() / pair_t::LANES;
    row += head / (uint32_t)p.num_heads;
    if (row >= p.num_rows) return;
    pair_t pair = {p, row, (int)(head % (uint32_t)p.num_heads)};
    pair.merge();
}

template <int COLUMNS> GPU_INLINE void merge_states_of(const ac_merge_states_params_t &p) {
    if (p.o_dtype == AC_FLOAT32) {
        if (p.whole_vectors) merge_pair<COLUMNS, 4, true>(p);
        else merge_pair<COLUMNS, 4, false>(p);
    } else {
        if (p.whole_vectors) merge_pair<COLUMNS, 2, true>(p);
        else merge_pair<COLUMNS, 2, false>(p);
    }
}

#define MERGE(name, columns)                                                                                           \
    GPU_KERNEL_OF(MERGE_THREADS, MERGE_PER_UNIT) name(GPU_PARAMS(ac_merge_states_params_t) p) {                        \
        merge_states_of<columns>(p);                                                                                   \
    }

MERGE(merge_states_d64, 64)
MERGE(merge_states_d128, 128)
MERGE(merge_states_d256, 256)
MERGE(merge_states, 512) /* any width */
