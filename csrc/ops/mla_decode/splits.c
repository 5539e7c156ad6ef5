/* How many runs a KV list is cut into: AITER's heuristic, number for number, so that scratch that callers size by
 * get_meta_param fits. It balances full waves of work (`filled`) against the cost of merging (84.1 KV rows a split). */
#include "plan.h"

#include <math.h>

#define MAX_AUTO_SPLITS 16
#define ROWS_PER_SPLIT_COST 84.1

/* Callers pass any number: nothing here may wrap around. */
static int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

/* KV rows per split at least, for fp8: AITER has a table of ten (heads * q-len) products, these steps fill its gaps. */
static int64_t fp8_split_rows(int64_t tile) { return tile < 16 ? 64 : tile < 48 ? 128 : tile < 128 ? 64 : 32; }

int32_t ac_mla_choose_splits(int32_t num_kv_splits, int64_t batch, int64_t total_kv, int32_t num_heads,
                             int32_t max_seqlen_q, int is_fp8, int32_t groups, int ignore_total_kv,
                             int32_t compute_units) {
    int64_t splits = num_kv_splits, units = compute_units > 0 ? compute_units : 1;
    if (batch <= 0) return num_kv_splits > 0 ? num_kv_splits : 1;
    double rows = (double)total_kv / (double)batch;
    if (num_kv_splits == AC_MLA_AUTO_SPLITS) {
        double best = -1;
        splits = 1;
        for (int i = 1; i <= MAX_AUTO_SPLITS; i++) {
            double work = (double)batch * (groups > 1 ? groups : 1) * i;
            double filled = work / (ceil(work / (double)units) * (double)units);
            double score = ignore_total_kv ? filled : filled * rows / (rows + ROWS_PER_SPLIT_COST * i);
            if (score > best) best = score, splits = i;
        }
    }
    if (is_fp8 && !ignore_total_kv) {
        int64_t n = fp8_split_rows((int64_t)num_heads * max_seqlen_q), most = ceil_div(ceil_div(total_kv, n), batch);
        if (splits > most) splits = most;
        if (splits > 1) {
            double apart = rows - max_seqlen_q;
            most = (int64_t)((apart < 0 ? -apart : apart) / (double)n) + 1;
            if (splits > most) splits = most;
        }
    }
    return splits < 1 ? 1 : (int32_t)splits;
}

/* Costs in KV rows per unit, from an H200 (one row of 1152 bytes takes a unit 35 ns when all of them stream): what a
 * workgroup spends before its first and after its last row, and what the merge costs once. */
#define WORKGROUP_ROWS 96
#define MERGE_ROWS 96
#define LEAST_ROWS 64 /* of a split */
#define MOST_SPLITS 256
#define UNKNOWN_LENGTH 8192
#define MOST_ITEMS (1 << 24) /* more fill any GPU many times over */
#define MOST_LENGTH (1 << 30)

int32_t ac_mla_fill_splits(int64_t work_items, int64_t length, int32_t compute_units) {
    if (length < 0) length = UNKNOWN_LENGTH;
    if (length > MOST_LENGTH) length = MOST_LENGTH;
    int64_t most = length / LEAST_ROWS, best = 1, best_cost = INT64_MAX;
    if (most > MOST_SPLITS) most = MOST_SPLITS;
    if (work_items < 1 || work_items > MOST_ITEMS || compute_units < 1) return 1;
    for (int64_t splits = 1; splits == 1 || splits <= most; splits++) {
        int64_t rounds = (work_items * splits + compute_units - 1) / compute_units;
        int64_t cost = rounds * ((length + splits - 1) / splits + WORKGROUP_ROWS) + (splits > 1 ? MERGE_ROWS : 0);
        if (cost < best_cost) best = splits, best_cost = cost;
    }
    return (int32_t)best;
}
