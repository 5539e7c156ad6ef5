/* The clock: how long a launch would take. One compute unit is timed: its resident waves run one instruction at a time,
 * in the order of a model of its issue ports, matrix cores, LDS and memory; what they compute is the executor's. */
#ifndef GFXSIM_CLOCK_H
#define GFXSIM_CLOCK_H

#include "launch.h"
#include "trace.h"

/* Constants: name, value on gfx942, on gfx950, source. "fitted" ones, at most five, were chosen so that published times
 * of AITER's kernels come out. Times are clocks of the compute unit. */
#define GS_CLOCK_CONSTANTS(X)                                                                                          \
    X(units, 304, 256, "data sheets of MI300X and MI355X: compute units")                                              \
    X(mhz, 2100, 2400, "data sheets: peak engine clock")                                                               \
    X(busy_percent, 84, 84, "fitted")                                                                                  \
    X(dies, 8, 8, "data sheets: accelerator dies, each with an L2")                                                    \
    X(l2_kib, 4096, 4096, "data sheets: L2 of a die")                                                                  \
    X(memory_gb_per_s, 5300, 8000, "data sheets: peak memory bandwidth")                                               \
    X(memory_percent, 80, 80, "streams: BabelStream's 4.3 TB/s of MI300X; 6.5 TB/s of MI355X, AITER's Gluon README")   \
    X(simds, 4, 4, "CDNA3 and CDNA4 ISA, 1: SIMD units of a compute unit")                                             \
    X(waves_per_simd, 8, 8, "CDNA3 and CDNA4 ISA, 3: waves of a SIMD unit")                                            \
    X(registers, 512, 512, "CDNA3 and CDNA4 ISA, 3.6: vector registers of a lane")                                     \
    X(lds_kib, 64, 160, "CDNA3 and CDNA4 ISA, 11: LDS of a compute unit")                                              \
    X(issue, 4, 4, "CDNA3 ISA: a wave of 64 on 16 lanes; LLVM's unit of one VALU instruction")                         \
    X(trans, 16, 16, "CDNA3 ISA: transcendental instructions at a quarter of the rate; LLVM has full rate, wrongly")   \
    X(branch, 32, 32, "LLVM scheduling model: WriteBranch, 8 units of 4")                                              \
    X(mfma_result, 16, 16, "CDNA3 ISA, 7.5: 3 wait states and the reader's own behind the last pass")                  \
    X(lds_latency, 64, 64, "Triton's measurement of MI355X: 69 clocks, with the read's issue")                         \
    X(lds_read_banks, 32, 64, "ds_read_b64, b128: CDNA3 ISA, 11; HIP's hardware page: 256 bytes a clock on CDNA4")     \
    X(lds_banks, 32, 32, "the others: CDNA3 ISA, 11: 4 bytes of each in a clock; HipKittens' measurements of MI355X")  \
    X(l1_kib, 32, 32, "CDNA3 and CDNA4 white papers: L1 of a compute unit")                                            \
    X(l1_clock_bytes, 64, 64, "CDNA3 white paper: L1 bytes per clock")                                                 \
    X(l2_latency, 320, 320, "LLVM scheduling model: WriteVMEM, 80 units of 4")                                         \
    X(scalar_hit, 20, 20, "LLVM scheduling model: WriteSMEM, 5 units of 4")                                            \
    X(barrier, 16, 16, "LLVM has 500 units for s_barrier, which no hardware shows: four issue slots")                  \
    X(sleep, 64, 64, "CDNA3 ISA: s_sleep N is about 64 * N clocks")                                                    \
    X(code_line, 64, 64, "CDNA3 ISA, 4: instruction cache lines")                                                      \
    X(l1_latency, 120, 120, "fitted")                                                                                  \
    X(memory_latency, 800, 800, "fitted")                                                                              \
    X(near_latency, 400, 400, "fitted")                                                                                \
    X(launch_ns, 750, 750, "fitted")

typedef struct gs_clock_table_t {
#define X(name, gfx942, gfx950, source) int64_t name;
    GS_CLOCK_CONSTANTS(X)
#undef X
} gs_clock_table_t;

extern const gs_clock_table_t gs_clock_tables[GS_ARCH_COUNT];

/* Why an instruction was not issued earlier. */
#define GS_CAUSES(X)                                                                                                   \
    X(ISSUE, "issue")                                                                                                  \
    X(OPERAND, "operand")                                                                                              \
    X(VALU, "valu busy")                                                                                               \
    X(MATRIX, "matrix core busy")                                                                                      \
    X(LDS, "lds busy")                                                                                                 \
    X(MEMORY, "memory busy")                                                                                           \
    X(COUNTER, "counter full")                                                                                         \
    X(WAIT_MEMORY, "wait for memory")                                                                                  \
    X(WAIT_LDS, "wait for lds")                                                                                        \
    X(BARRIER, "barrier")                                                                                              \
    X(FETCH, "instruction fetch")                                                                                      \
    X(NOP, "s_nop, s_sleep")

typedef enum gs_cause_t {
#define X(name, text) GS_CAUSE_##name,
    GS_CAUSES(X)
#undef X
        GS_CAUSE_COUNT
} gs_cause_t;

/* Of an instruction, over all waves that were timed. */
typedef struct gs_clock_insn_t {
    uint64_t issues, stalls[GS_CAUSE_COUNT];
    uint64_t lds_clocks, lds_conflict_clocks; /* conflicts: beyond what the bytes alone take */
    uint64_t lines, l1_hits, l2_hits;         /* cache lines of vector memory */
} gs_clock_insn_t;

/* A piece of a wave's time. */
typedef struct gs_clock_span_t {
    uint32_t workgroup, wave;
    int64_t begin, end;
    uint32_t kind; /* a gs_cause_t of waiting; GS_CAUSE_COUNT + gs_class_t: issuing that class */
} gs_clock_span_t;

typedef struct gs_clock_summary_t {
    uint64_t launches;                                                 /* timed so far; the rest is of the last one */
    int64_t cycles;                                                    /* of the slowest unit that was timed */
    uint64_t units, active_units, workgroups_resident, waves_per_simd; /* timed; with work; at once on a unit */
    uint64_t instructions, matrix_clocks, lds_clocks, lds_conflict_clocks, memory_bytes; /* of that unit */
    uint64_t stalls[GS_CAUSE_COUNT];
    double us;       /* of the launch: cycles at the peak clock, and launch latency */
    double total_us; /* of all launches that were timed */
} gs_clock_summary_t;

/* clock.c: whether the workgroup of this turn is left out of the ordinary run, as it is timed; runs those that are
 * timed. False: out of memory. */
bool gs_clock_takes(const gs_dispatch_t *dispatch, uint64_t turn);
bool gs_clock_run(const gs_dispatch_t *dispatch, gs_totals_t *totals, gs_report_t *report);

/* What the last timed launch gave; clock_report.c. */
typedef struct gs_clock_result_t {
    gs_clock_summary_t summary;
    gs_clock_insn_t *insns; /* [words] of the code */
    uint32_t words;
    gs_clock_span_t *spans;
    uint32_t span_count, span_capacity;
} gs_clock_result_t;

extern gs_clock_result_t gs_clock_result;

#endif
