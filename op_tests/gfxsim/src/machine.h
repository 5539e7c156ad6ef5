/* The machine around the executor: waves, workgroups, memory, reports, counters. */
#ifndef GFXSIM_MACHINE_H
#define GFXSIM_MACHINE_H

#include <stddef.h>

#include "insn.h"

#define GS_LANES 64
#define GS_VREGS 512
#define GS_SREGS 128

/* ---- memory.c: what a kernel may touch, to the byte ------------------------------------------------------------- */

/* One allocation, code object segment or argument block. A device address is the host address of its bytes. */
typedef struct gs_buffer_t {
    uintptr_t low, high; /* the bytes [low, high) */
    bool writable;
    int device;    /* of the device that owns it; -1: host memory that any device reaches */
    char name[40]; /* "alloc 7 (4096 bytes)", "kernarg", "code mla_decode" */
} gs_buffer_t;

/* The buffer that holds `address`, or the nearest one for a report (then address is outside of it), or NULL. Safe from
 * many threads while a launch runs; buffers do not come or go meanwhile, so a pointer is good until the launch ends.
 * A freed buffer is found with high == low: every use of it is out of bounds and gets its name. The bytes of a buffer
 * are accessible from the first time that it was found in a launch. */
const gs_buffer_t *gs_memory_find(uintptr_t address);

/* ---- counters --------------------------------------------------------------------------------------------------- */

typedef struct gs_trace_t gs_trace_t; /* trace.h */

typedef struct gs_counters_t {
    uint64_t instructions[GS_CLASS_COUNT]; /* wave-instructions */
    uint64_t mfma_clocks;
    uint64_t global_read_bytes, global_write_bytes, lds_read_bytes, lds_write_bytes; /* of active lanes */
} gs_counters_t;

/* ---- reports ---------------------------------------------------------------------------------------------------- */

typedef enum gs_report_kind_t {
    GS_REPORT_NONE,
    GS_REPORT_UNKNOWN_INSTRUCTION,
    GS_REPORT_UNSUPPORTED, /* an instruction is known, this use of it is not modelled */
    GS_REPORT_GLOBAL_BOUNDS,
    GS_REPORT_LDS_BOUNDS,
    GS_REPORT_SCRATCH_BOUNDS,
    GS_REPORT_WRITE_TO_READ_ONLY,
    GS_REPORT_MISALIGNED,
    GS_REPORT_LDS_RACE,
    GS_REPORT_MISSING_WAIT,  /* a result used, or its register overwritten, before its s_waitcnt */
    GS_REPORT_UNINITIALIZED, /* an unwritten register or LDS byte reached memory, an address or a branch */
    GS_REPORT_BARRIER,       /* a wave ended or waits elsewhere while others stand at a barrier */
    GS_REPORT_TIMEOUT,
    GS_REPORT_BAD_PC,
    GS_REPORT_ORDER /* results differ between two interleavings of the waves */
} gs_report_kind_t;

/* Stops the wave and, in the end, the launch; the first report of a launch is kept. Does not return (longjmp out of
 * gs_wave_run). The text gets kernel, workgroup, wave, pc and the instruction's text put in front. */
_Noreturn void gs_report(gs_wave_t *wave, gs_report_kind_t kind, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* ---- workgroups and waves --------------------------------------------------------------------------------------- */

/* Shared by the waves of one workgroup. Only one host thread runs a workgroup. */
typedef struct gs_workgroup_t {
    uint8_t *lds;         /* [lds_bytes] */
    uint8_t *lds_written; /* [lds_bytes]: 0 where nothing was stored yet; more in lds.c */
    uint32_t lds_bytes;
    uint32_t lds_touched; /* nothing was stored from here on */
    struct gs_races_t *races;
    uint32_t id[3];
    int wave_count;
    gs_counters_t counters;
} gs_workgroup_t;

/* What a launch fixes for all of its waves. */
typedef struct gs_program_t {
    gs_arch_t arch;
    int device; /* that runs it: it reaches buffers whose device is this one or -1 */
    const char *kernel;
    uint8_t float_mode; /* MODE[7:0] at entry: rounding and denormals of fp32 and fp16/64; clang's default 0xf0 */
    uintptr_t code_low; /* address of the first decoded word */
    uint32_t code_words;
    const gs_insn_t *insns; /* [code_words]: the instruction that starts at a word; execute NULL where none does */
    uint32_t scratch_bytes; /* per lane */
    int vgprs, agprs;       /* that the kernel is given; the others are never touched */
    bool check_waits;       /* s_waitcnt discipline; on by default */
    bool check_races, check_uninitialized;
    bool keep_going; /* after missing waits and LDS races */
} gs_program_t;

/* wave.c (executor): */
gs_wave_t *gs_wave_new(void);
void gs_wave_free(gs_wave_t *wave);

/* Everything uninitialised (and poisoned with NaN patterns), EXEC all lanes of `active`, pc at `entry`. */
void gs_wave_start(gs_wave_t *wave, const gs_program_t *program, gs_workgroup_t *workgroup, int index_in_workgroup,
                   uintptr_t entry, uint64_t active, uint8_t *scratch);
void gs_wave_set_sgpr(gs_wave_t *wave, int reg, uint32_t value);
void gs_wave_set_vgpr(gs_wave_t *wave, int reg, const uint32_t *lanes); /* [64] */

typedef enum gs_stop_t { GS_STOP_END, GS_STOP_BARRIER, GS_STOP_QUANTUM, GS_STOP_REPORT } gs_stop_t;

/* Runs up to `quantum` instructions. After GS_STOP_REPORT: gs_wave_report_* tell what. */
gs_stop_t gs_wave_run(gs_wave_t *wave, uint64_t quantum);
gs_report_kind_t gs_wave_report_kind(const gs_wave_t *wave);
const char *gs_wave_report_text(const gs_wave_t *wave);
uint64_t gs_wave_instruction_count(const gs_wave_t *wave);
uintptr_t gs_wave_pc(const gs_wave_t *wave); /* of the next instruction; after GS_STOP_BARRIER: behind the barrier */

#endif
