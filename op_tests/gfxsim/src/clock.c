#include "clock.h"

#include <stdlib.h>
#include <string.h>

#include "clock_memory.h"
#include "schedule.h"

enum { MAX_RESIDENT = 32, MAX_SIMDS = 4, VMCNT_MAX = 63, LGKMCNT_MAX = 15, RING = 64, QUEUE = 64 };
enum { SPANS_OF_WAVES = 32, MAX_SPANS = 1 << 18, L1_WAYS = 64, L2_WAYS = 16, SCALAR_LINES = 128 };

gs_clock_result_t gs_clock_result;

/* ---- the unit --------------------------------------------------------------------------------------------------- */

/* Memory operations of one counter: when each is done; the last RING of them. */
typedef struct counter_t {
    int64_t done[RING];
    uint64_t issued;
} counter_t;

typedef struct timed_wave_t {
    gs_wave_t *wave;
    int place, index, simd, priority; /* place: which resident workgroup it belongs to */
    uint64_t age;
    uint32_t workgroup;
    int64_t next,
        free; /* the earliest issue by what it did before; when it could have issued had nothing been in the way */
    gs_cause_t next_cause;
    int64_t ready[GS_VREGS], accumulated[GS_VREGS]; /* for any reader; for a matrix instruction that adds to it */
    int64_t latest_ready;
    counter_t vmem, lgkm;
    int64_t *arrivals;  /* [code words]: see gs_wave_t */
    uint32_t last_span; /* 1 + its index */
} timed_wave_t;

typedef struct unit_t {
    const gs_dispatch_t *dispatch;
    const gs_clock_table_t *table;
    gs_arch_t arch;
    gs_report_t *report;
    gs_clock_result_t *result;
    int resident; /* workgroups at once */
    gs_run_t runs[MAX_RESIDENT];
    bool live[MAX_RESIDENT];
    timed_wave_t *waves; /* [resident * waves of a workgroup] */
    uint64_t next_turn, stride, ages;
    int64_t valu_free[MAX_SIMDS], matrix_free[MAX_SIMDS], scalar_free[MAX_SIMDS];
    int64_t lds_free, vmem_free, l2_free, end;
    double memory_free, clocks_per_line;
    int64_t memory_latency; /* or the Infinity Cache's */
    gs_cache_t l1, l2, scalar;
    int64_t *fetched; /* [code lines]: when it is there; 0: never asked for */
    gs_clock_insn_t *insns;
    int64_t *arrivals; /* [resident * waves of a workgroup][code words] */
    gs_clock_summary_t sum;
} unit_t;

static gs_crew_t crews[MAX_RESIDENT]; /* large, so they are kept */

static int64_t later(int64_t a, int64_t b) { return a > b ? a : b; }

/* ---- how many at once ------------------------------------------------------------------------------------------- */

static int waves_per_simd(const gs_dispatch_t *dispatch, const gs_clock_table_t *table) {
    int registers = dispatch->program.vgprs + dispatch->program.agprs;
    int64_t waves = registers > 0 ? table->registers / registers : table->waves_per_simd;
    return (int)(waves < table->waves_per_simd ? waves : table->waves_per_simd);
}

static int resident_workgroups(const gs_dispatch_t *dispatch, const gs_clock_table_t *table) {
    int64_t by_waves = waves_per_simd(dispatch, table) * table->simds / dispatch->wave_count;
    int64_t by_lds = dispatch->lds_bytes ? (table->lds_kib << 10) / dispatch->lds_bytes : MAX_RESIDENT;
    int64_t count = by_waves < by_lds ? by_waves : by_lds;
    return (int)(count < 1 ? 1 : count > MAX_RESIDENT ? MAX_RESIDENT : count);
}

static uint64_t active_units(const gs_dispatch_t *dispatch) {
    uint64_t units = (uint64_t)gs_clock_tables[dispatch->program.arch].units;
    return dispatch->workgroup_count < units ? dispatch->workgroup_count : units;
}

static uint64_t timed_units(const gs_dispatch_t *dispatch) {
    uint64_t active = active_units(dispatch), wanted = (uint64_t)dispatch->options->clock;
    return wanted < active ? wanted : active;
}

/* The units that are timed are spread over those with work; unit u has the workgroups u, u + units, ... */
static uint64_t unit_of(const gs_dispatch_t *dispatch, uint64_t index) {
    return index * active_units(dispatch) / timed_units(dispatch);
}

bool gs_clock_takes(const gs_dispatch_t *dispatch, uint64_t turn) {
    if (dispatch->options->clock <= 0) return false;
    if (dispatch->options->clock_only) return true;
    uint64_t unit = turn % active_units(dispatch);
    for (uint64_t i = 0; i < timed_units(dispatch); i++)
        if (unit_of(dispatch, i) == unit) return true;
    return false;
}

/* ---- what a wave waits for ----------------------------------------------------------------------------------------
 */

static bool is(const gs_insn_t *insn, const char *name) { return strcmp(insn->name, name) == 0; }

static int64_t done_but(const counter_t *counter, int left) {
    int64_t time = 0;
    for (uint64_t back = (uint64_t)left + 1; back <= RING && back <= counter->issued; back++)
        time = later(time, counter->done[(counter->issued - back) % RING]);
    return time;
}

static int64_t last_done(const counter_t *counter) {
    return counter->issued ? counter->done[(counter->issued - 1) % RING] : 0;
}

static void add_operation(counter_t *counter, int64_t done) { counter->done[counter->issued++ % RING] = done; }

static int64_t operands_ready(const timed_wave_t *wave, const gs_insn_t *insn, int64_t now) {
    int64_t time = 0;
    if (wave->latest_ready <= now) return 0;
    for (int k = 0; k < insn->src_count + insn->dst_count; k++) {
        bool source = k < insn->src_count;
        const gs_operand_t *operand = source ? &insn->src[k] : &insn->dst[k - insn->src_count];
        bool adds = insn->class_ == GS_CLASS_MFMA && (!source || k == 2);
        if (operand->kind != GS_VREG) continue;
        for (int reg = operand->reg; reg < operand->reg + (operand->bits + 31) / 32 && reg < GS_VREGS; reg++)
            time = later(time, adds ? wave->accumulated[reg] : wave->ready[reg]);
    }
    return time;
}

typedef struct issue_t {
    int64_t time;
    gs_cause_t cause;
} issue_t;

static void not_before(issue_t *issue, int64_t time, gs_cause_t cause) {
    if (time <= issue->time) return;
    issue->time = time;
    issue->cause = cause;
}

static bool counts_vmem(const gs_insn_t *insn) { return insn->class_ == GS_CLASS_VMEM; }

static bool counts_lgkm(const gs_insn_t *insn) {
    return insn->class_ == GS_CLASS_LDS || insn->class_ == GS_CLASS_SMEM || insn->format == GS_FLAT;
}

static const gs_insn_t *next_insn(const unit_t *unit, const timed_wave_t *wave, uint32_t *out_word) {
    const gs_program_t *program = &unit->dispatch->program;
    uintptr_t word = (gs_wave_pc(wave->wave) - program->code_low) / 4;
    *out_word = word < program->code_words ? (uint32_t)word : 0;
    return &program->insns[*out_word];
}

/* When the instruction's line of code is there. The next line is fetched ahead, so that only jumps to code that nobody
 * ran before wait. */
static int64_t fetch_time(unit_t *unit, uint32_t word, int64_t now) {
    uint32_t line = word / (uint32_t)(unit->table->code_line / 4);
    int64_t *fetched = &unit->fetched[line];
    if (!fetched[0]) fetched[0] = now + unit->table->l2_latency;
    if (!fetched[1]) fetched[1] = later(fetched[0], now);
    return fetched[0];
}

static issue_t earliest(unit_t *unit, const timed_wave_t *wave) {
    uint32_t word;
    const gs_insn_t *insn = next_insn(unit, wave, &word);
    int simd = wave->simd;
    issue_t issue = {wave->next, wave->next_cause};
    not_before(&issue, fetch_time(unit, word, wave->next), GS_CAUSE_FETCH);
    if (!insn->name) return issue;
    not_before(&issue, operands_ready(wave, insn, issue.time), GS_CAUSE_OPERAND);
    switch (insn->class_) {
    case GS_CLASS_MFMA:
        not_before(&issue, unit->matrix_free[simd], GS_CAUSE_MATRIX); /* and the VALU's port */
    /* fallthrough */
    case GS_CLASS_VALU:
    case GS_CLASS_TRANS: not_before(&issue, unit->valu_free[simd], GS_CAUSE_VALU); break;
    case GS_CLASS_SALU:
    case GS_CLASS_SMEM: not_before(&issue, unit->scalar_free[simd], GS_CAUSE_ISSUE); break;
    case GS_CLASS_LDS: not_before(&issue, unit->lds_free - QUEUE, GS_CAUSE_LDS); break;
    case GS_CLASS_VMEM: not_before(&issue, unit->vmem_free - QUEUE, GS_CAUSE_MEMORY); break;
    case GS_CLASS_WAIT:
        if (!is(insn, "s_waitcnt")) break;
        int vmcnt = (insn->imm & 15) | (insn->imm >> 14 & 3) << 4, lgkmcnt = insn->imm >> 8 & 15;
        if (vmcnt < VMCNT_MAX) not_before(&issue, done_but(&wave->vmem, vmcnt), GS_CAUSE_WAIT_MEMORY);
        if (lgkmcnt < LGKMCNT_MAX) not_before(&issue, done_but(&wave->lgkm, lgkmcnt), GS_CAUSE_WAIT_LDS);
        break;
    default: break;
    }
    if (counts_vmem(insn)) not_before(&issue, done_but(&wave->vmem, VMCNT_MAX - 1), GS_CAUSE_COUNTER);
    if (counts_lgkm(insn)) not_before(&issue, done_but(&wave->lgkm, LGKMCNT_MAX - 1), GS_CAUSE_COUNTER);
    int64_t slot = unit->table->issue; /* a SIMD unit issues in one of `slot` clocks */
    issue.time += (simd + slot - issue.time % slot) % slot;
    return issue;
}

/* ---- memory -------------------------------------------------------------------------------------------------------
 */

static int64_t line_done(unit_t *unit, uintptr_t line, int64_t start, bool write, gs_clock_insn_t *insn) {
    const gs_clock_table_t *table = unit->table;
    insn->lines++;
    if (!write && gs_cache_touch(&unit->l1, line)) {
        insn->l1_hits++;
        return start + table->l1_latency;
    }
    int64_t at = later(start, unit->l2_free);
    unit->l2_free = at + GS_TRACE_LINE / table->l1_clock_bytes;
    if (gs_cache_touch(&unit->l2, line)) {
        insn->l2_hits++;
        return at + table->l2_latency;
    }
    unit->memory_free += unit->clocks_per_line; /* a share over time: what it left unused comes back to it */
    return at + (write ? table->l2_latency : later(0, (int64_t)unit->memory_free - at) + unit->memory_latency);
}

static void vector_memory(unit_t *unit, timed_wave_t *wave, const gs_insn_t *insn, const gs_trace_t *trace, int64_t now,
                          gs_clock_insn_t *profile) {
    const gs_clock_table_t *table = unit->table;
    int64_t start = later(now, unit->vmem_free), step = GS_TRACE_LINE / table->l1_clock_bytes;
    int64_t done = done_but(&wave->vmem, 0); /* in order */
    unit->vmem_free = start + later(table->issue, step * trace->line_count);
    for (int i = 0; i < trace->line_count; i++)
        done = later(done, line_done(unit, trace->lines[i], start + step * i, trace->writes, profile));
    if (trace->lds_count) { /* a load to LDS */
        unit->lds_free = later(unit->lds_free, start) + (int64_t)trace->bytes / (4 * table->lds_banks);
        done += table->lds_latency;
    }
    unit->sum.memory_bytes += trace->bytes;
    add_operation(&wave->vmem, later(done, start + table->issue));
    if (insn->format == GS_FLAT) add_operation(&wave->lgkm, done);
}

static void local_memory(unit_t *unit, timed_wave_t *wave, const gs_trace_t *trace, int64_t now,
                         gs_clock_insn_t *profile) {
    const gs_clock_table_t *table = unit->table;
    int64_t clocks = 0, least = 0;
    for (int i = 0; i < trace->lds_count; i++) clocks += gs_lds_clocks(unit->arch, &trace->lds[i], &least);
    if (!trace->lds_count) clocks = least = 2; /* a move between lanes: as b32 */
    profile->lds_clocks += (uint64_t)clocks;
    profile->lds_conflict_clocks += (uint64_t)(clocks - least);
    unit->sum.lds_clocks += (uint64_t)clocks;
    unit->sum.lds_conflict_clocks += (uint64_t)(clocks - least);
    unit->lds_free = later(now, unit->lds_free) + clocks;
    add_operation(&wave->lgkm, unit->lds_free + table->lds_latency);
}

static void scalar_memory(unit_t *unit, timed_wave_t *wave, const gs_trace_t *trace, int64_t now) {
    const gs_clock_table_t *table = unit->table;
    int64_t done = now + table->scalar_hit;
    for (int i = 0; i < trace->line_count; i++) {
        if (gs_cache_touch(&unit->scalar, trace->lines[i])) continue;
        bool near = gs_cache_touch(&unit->l2, trace->lines[i]);
        done = later(done, now + (near ? table->l2_latency : unit->memory_latency));
    }
    add_operation(&wave->lgkm, done);
}

/* ---- issue --------------------------------------------------------------------------------------------------------
 */

static void add_span(unit_t *unit, timed_wave_t *wave, int64_t begin, int64_t end, uint32_t kind) {
    gs_clock_result_t *result = unit->result;
    if (wave->age >= SPANS_OF_WAVES || begin >= end) return;
    gs_clock_span_t *last = wave->last_span ? &result->spans[wave->last_span - 1] : NULL;
    if (last && last->kind == kind && last->end == begin) {
        last->end = end;
        return;
    }
    if (result->span_count == MAX_SPANS) return;
    if (result->span_count == result->span_capacity) {
        uint32_t capacity = result->span_capacity ? 2 * result->span_capacity : 4096;
        gs_clock_span_t *more = realloc(result->spans, capacity * sizeof *more);
        if (!more) return;
        result->spans = more;
        result->span_capacity = capacity;
    }
    result->spans[result->span_count++] = (gs_clock_span_t){wave->workgroup, (uint32_t)wave->index, begin, end, kind};
    wave->last_span = result->span_count;
}

static bool is_quarter_rate(const gs_insn_t *insn) {
    return insn->class_ == GS_CLASS_TRANS || is(insn, "v_mul_lo_u32") || strncmp(insn->name, "v_mul_hi_", 9) == 0 ||
           strncmp(insn->name, "v_mad_u64", 9) == 0;
}

static void results_ready(timed_wave_t *wave, const gs_insn_t *insn, int64_t ready, int64_t accumulated) {
    wave->latest_ready = later(wave->latest_ready, ready);
    for (int k = 0; k < insn->dst_count; k++) {
        const gs_operand_t *operand = &insn->dst[k];
        if (operand->kind != GS_VREG) continue;
        for (int reg = operand->reg; reg < operand->reg + (operand->bits + 31) / 32 && reg < GS_VREGS; reg++) {
            wave->ready[reg] = ready;
            wave->accumulated[reg] = accumulated;
        }
    }
}

/* What the instruction, issued at `now` and executed, keeps busy. */
static void occupy(unit_t *unit, timed_wave_t *wave, const gs_insn_t *insn, const gs_trace_t *trace, int64_t now,
                   gs_clock_insn_t *profile) {
    const gs_clock_table_t *table = unit->table;
    int simd = wave->simd;
    switch (insn->class_) {
    case GS_CLASS_MFMA:
        unit->valu_free[simd] = now + table->issue;
        unit->matrix_free[simd] = now + insn->mfma_clocks;
        unit->sum.matrix_clocks += insn->mfma_clocks;
        results_ready(wave, insn, now + insn->mfma_clocks + table->mfma_result, now + insn->mfma_clocks);
        break;
    case GS_CLASS_VALU:
    case GS_CLASS_TRANS: {
        int64_t ready = now + (is_quarter_rate(insn) ? table->trans : table->issue);
        unit->valu_free[simd] = ready;
        if (wave->latest_ready > now || is_quarter_rate(insn)) results_ready(wave, insn, ready, ready);
        break;
    }
    case GS_CLASS_SALU: unit->scalar_free[simd] = now + table->issue; break;
    case GS_CLASS_SMEM:
        unit->scalar_free[simd] = now + table->issue;
        scalar_memory(unit, wave, trace, now);
        break;
    case GS_CLASS_LDS: local_memory(unit, wave, trace, now, profile); break;
    case GS_CLASS_VMEM: vector_memory(unit, wave, insn, trace, now, profile); break;
    case GS_CLASS_WAIT:
        if (is(insn, "s_nop")) wave->next = now + table->issue * (insn->imm + 1);
        if (is(insn, "s_sleep")) wave->next = now + later(table->issue, table->sleep * (insn->imm & 127));
        if (wave->next > now + table->issue) wave->next_cause = GS_CAUSE_NOP;
        break;
    default: break;
    }
    if (is(insn, "s_setprio")) wave->priority = insn->imm & 3;
}

/* Runs the next instruction of the wave at its time; false: there is a report. */
static bool issue_one(unit_t *unit, timed_wave_t *wave, issue_t issue) {
    uint32_t word;
    const gs_insn_t *insn = next_insn(unit, wave, &word);
    gs_clock_insn_t *profile = &unit->insns[word];
    static gs_trace_t trace;
    uintptr_t behind = gs_wave_pc(wave->wave) + insn->bytes;
    trace.line_count = trace.lds_count = 0;
    trace.bytes = 0;
    trace.writes = false;
    wave->wave->trace = &trace;
    trace.now = issue.time;
    bool good = gs_schedule_turn(&unit->runs[wave->place], wave->index, 1);
    wave->wave->trace = NULL;
    if (!good) return false;
    int64_t now = issue.time;
    profile->issues++;
    unit->sum.instructions++;
    if (now > wave->free) {
        profile->stalls[issue.cause] += (uint64_t)(now - wave->free);
        unit->sum.stalls[issue.cause] += (uint64_t)(now - wave->free);
        add_span(unit, wave, wave->free, now, issue.cause);
    }
    wave->free = wave->next = now + unit->table->issue;
    wave->next_cause = GS_CAUSE_ISSUE;
    add_span(unit, wave, now, wave->free, GS_CAUSE_COUNT + insn->class_);
    occupy(unit, wave, insn, &trace, now, profile);
    if (counts_vmem(insn)) wave->arrivals[word] = last_done(&wave->vmem);
    else if (counts_lgkm(insn)) wave->arrivals[word] = last_done(&wave->lgkm);
    if (insn->class_ == GS_CLASS_BRANCH && gs_wave_pc(wave->wave) != behind) {
        wave->next = now + unit->table->branch;
        wave->next_cause = GS_CAUSE_FETCH;
    }
    return true;
}

/* ---- workgroups ---------------------------------------------------------------------------------------------------
 */

static timed_wave_t *wave_at(unit_t *unit, int place, int index) {
    return &unit->waves[place * unit->dispatch->wave_count + index];
}

static void start_workgroup(unit_t *unit, int place, int64_t now) {
    unit->live[place] = unit->next_turn < unit->dispatch->workgroup_count;
    if (!unit->live[place]) return;
    gs_run_t *run = &unit->runs[place];
    *run = (gs_run_t){.dispatch = unit->dispatch, .crew = &crews[place], .report = unit->report};
    gs_schedule_begin(run, unit->next_turn);
    for (int i = 0; i < unit->dispatch->wave_count; i++) {
        timed_wave_t *wave = wave_at(unit, place, i);
        memset(wave, 0, sizeof *wave);
        wave->wave = crews[place].waves[i];
        wave->arrivals = unit->arrivals + (size_t)(wave - unit->waves) * unit->dispatch->program.code_words;
        wave->wave->arrivals = wave->arrivals;
        wave->place = place;
        wave->index = i;
        wave->age = unit->ages++;
        wave->simd = (int)(wave->age % (uint64_t)unit->table->simds);
        wave->workgroup = (uint32_t)unit->next_turn;
        wave->next = wave->free = now;
    }
    unit->next_turn += unit->stride;
}

/* Barriers that all have reached open; behind workgroups that ended others begin. False: there is a report. */
static bool turn_workgroups(unit_t *unit, int place) {
    gs_run_t *run = &unit->runs[place];
    if (!unit->live[place] || gs_schedule_count(run, GS_RUNNING) > 0) return true;
    int64_t now = 0;
    bool waiting = gs_schedule_count(run, GS_WAITING) > 0;
    for (int i = 0; i < unit->dispatch->wave_count; i++) now = later(now, wave_at(unit, place, i)->next);
    if (waiting) {
        if (!gs_schedule_open_barrier(run)) return false;
        for (int i = 0; i < unit->dispatch->wave_count; i++) {
            timed_wave_t *wave = wave_at(unit, place, i);
            if (wave->next < now + unit->table->barrier) wave->next_cause = GS_CAUSE_BARRIER;
            wave->next = later(wave->next, now + unit->table->barrier);
        }
        return true;
    }
    for (int i = 0; i < unit->dispatch->wave_count; i++) now = later(now, done_but(&wave_at(unit, place, i)->vmem, 0));
    unit->end = later(unit->end, now);
    start_workgroup(unit, place, now);
    return true;
}

static bool comes_first(const timed_wave_t *wave, int64_t time, const timed_wave_t *best, int64_t best_time) {
    if (!best || time != best_time) return !best || time < best_time;
    if (wave->priority != best->priority) return wave->priority > best->priority;
    return wave->age < best->age;
}

static bool run_unit(unit_t *unit) {
    for (int place = 0; place < unit->resident; place++) start_workgroup(unit, place, 0);
    for (;;) {
        timed_wave_t *best = NULL;
        issue_t best_issue = {0, GS_CAUSE_ISSUE};
        for (int place = 0; place < unit->resident; place++) {
            if (!turn_workgroups(unit, place)) return false;
            for (int i = 0; unit->live[place] && i < unit->dispatch->wave_count; i++) {
                timed_wave_t *wave = wave_at(unit, place, i);
                if (unit->runs[place].standing[i] != GS_RUNNING) continue;
                if (best && wave->next > best_issue.time) continue;
                issue_t issue = earliest(unit, wave);
                if (!comes_first(wave, issue.time, best, best_issue.time)) continue;
                best = wave;
                best_issue = issue;
            }
        }
        if (!best) return true;
        if (!issue_one(unit, best, best_issue)) return false;
    }
}

/* ---- a launch -----------------------------------------------------------------------------------------------------
 */

/* Compute units that share memory and power. */
static double sharing_units(const gs_dispatch_t *dispatch) {
    int wanted = dispatch->options->clock_active;
    return wanted > 0 ? (double)wanted : (double)active_units(dispatch);
}

/* The more units are busy, the slower is the engine's clock. */
static double mhz_of(const gs_dispatch_t *dispatch, const gs_clock_table_t *table) {
    double lost = 1 - (double)table->busy_percent / 100;
    return (double)table->mhz * (1 - lost * sharing_units(dispatch) / (double)table->units);
}

static double clocks_per_line(const gs_dispatch_t *dispatch, const gs_clock_table_t *table) {
    double bytes_per_second = 1e9 * (double)table->memory_gb_per_s * (double)table->memory_percent / 100;
    double share = bytes_per_second / sharing_units(dispatch) / (1e6 * mhz_of(dispatch, table));
    if (share > (double)table->l1_clock_bytes) share = (double)table->l1_clock_bytes;
    return GS_TRACE_LINE / share;
}

static bool open_unit(unit_t *unit, uint64_t index) {
    const gs_dispatch_t *dispatch = unit->dispatch;
    const gs_clock_table_t *table = unit->table;
    uint64_t active = active_units(dispatch), per_die = (active + (uint64_t)table->dies - 1) / (uint64_t)table->dies;
    unit->next_turn = unit_of(dispatch, index);
    unit->stride = active;
    unit->resident = resident_workgroups(dispatch, table);
    unit->clocks_per_line = clocks_per_line(dispatch, table);
    unit->memory_latency = dispatch->options->clock_near ? table->near_latency : table->memory_latency;
    unit->waves = calloc((size_t)(unit->resident * dispatch->wave_count), sizeof *unit->waves);
    unit->fetched = calloc(dispatch->program.code_words / 16 + 2, sizeof *unit->fetched);
    unit->arrivals = calloc((size_t)(unit->resident * dispatch->wave_count) * (dispatch->program.code_words + 1),
                            sizeof *unit->arrivals);
    bool good = unit->waves && unit->fetched && unit->arrivals;
    good &= gs_cache_open(&unit->l1, (table->l1_kib << 10) / GS_TRACE_LINE, L1_WAYS);
    good &= gs_cache_open(&unit->l2, (table->l2_kib << 10) / GS_TRACE_LINE / (int64_t)per_die, L2_WAYS);
    good &= gs_cache_open(&unit->scalar, SCALAR_LINES, L2_WAYS);
    for (int i = 0; i < unit->resident && good; i++) {
        good = gs_crew_reserve(&crews[i], dispatch);
        memset(&crews[i].workgroup.counters, 0, sizeof crews[i].workgroup.counters);
    }
    return good;
}

static void close_unit(unit_t *unit, gs_totals_t *totals) {
    for (int i = 0; i < unit->resident; i++) gs_add_counters(&totals->counters, &crews[i].workgroup.counters);
    gs_cache_close(&unit->l1);
    gs_cache_close(&unit->l2);
    gs_cache_close(&unit->scalar);
    free(unit->waves);
    free(unit->fetched);
    free(unit->arrivals);
}

static bool begin_result(const gs_dispatch_t *dispatch) {
    gs_clock_result_t *result = &gs_clock_result;
    free(result->insns);
    result->words = dispatch->program.code_words;
    result->insns = calloc(result->words + 1, sizeof *result->insns);
    result->span_count = 0;
    const gs_clock_table_t *table = &gs_clock_tables[dispatch->program.arch];
    gs_clock_summary_t before = result->summary;
    result->summary = (gs_clock_summary_t){.launches = before.launches + 1,
                                           .total_us = before.total_us,
                                           .units = timed_units(dispatch),
                                           .active_units = active_units(dispatch),
                                           .workgroups_resident = (uint64_t)resident_workgroups(dispatch, table),
                                           .waves_per_simd = (uint64_t)waves_per_simd(dispatch, table)};
    return result->insns != NULL;
}

bool gs_clock_run(const gs_dispatch_t *dispatch, gs_totals_t *totals, gs_report_t *report) {
    const gs_clock_table_t *table = &gs_clock_tables[dispatch->program.arch];
    gs_clock_result_t *result = &gs_clock_result;
    bool good = begin_result(dispatch);
    for (uint64_t i = 0; i < result->summary.units && good && report->kind == GS_REPORT_NONE; i++) {
        unit_t *unit = calloc(1, sizeof *unit);
        if (!unit) return false;
        unit->dispatch = dispatch;
        unit->table = table;
        unit->arch = dispatch->program.arch;
        unit->report = report;
        unit->result = result;
        unit->insns = result->insns;
        good = open_unit(unit, i);
        if (good) run_unit(unit);
        close_unit(unit, totals);
        if (unit->end > result->summary.cycles) {
            gs_clock_summary_t *sum = &result->summary;
            sum->cycles = unit->end;
            sum->instructions = unit->sum.instructions;
            sum->matrix_clocks = unit->sum.matrix_clocks;
            sum->lds_clocks = unit->sum.lds_clocks;
            sum->lds_conflict_clocks = unit->sum.lds_conflict_clocks;
            sum->memory_bytes = unit->sum.memory_bytes;
            memcpy(sum->stalls, unit->sum.stalls, sizeof sum->stalls);
        }
        free(unit);
    }
    result->summary.us = (double)result->summary.cycles / mhz_of(dispatch, table) + (double)table->launch_ns / 1000;
    result->summary.total_us += result->summary.us;
    return good;
}
