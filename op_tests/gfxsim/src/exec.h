/* The table of semantics: each exec_*.c lists its instructions; exec_table.c joins the lists. */
#ifndef GFXSIM_EXEC_H
#define GFXSIM_EXEC_H

#include "float_formats.h"
#include "operand.h"
#include "taint.h"
#include "wait.h"
#include "wave.h"

/* How undefined bits pass through an instruction (taint.c). Zero: any undefined source bit spoils the whole result. */
typedef enum gs_traits_t {
    GS_BITWISE = 1,   /* moves, logic, shifts: worked out bit by bit */
    GS_OWN_TAINT = 2, /* the execute function does it */
    GS_KEEPS_DST = 4, /* may leave a part of dst[0] as it was */
    GS_READS_DST = 8, /* dst[0] is a source, too */
    GS_WRITES_SCC = 16,
    GS_READS_SCC = 32,
    GS_LANE_MASK_SRC2 = 64, /* src[2] is one bit per lane in a pair of scalar registers */
    GS_CARRIES = 128        /* sums and low products: an undefined bit spoils its place and those above it */
} gs_traits_t;

typedef struct gs_semantics_t {
    const char *name;
    gs_execute_t execute;
    int32_t a, b;
    uint8_t traits;
    uint16_t mfma_clocks;
} gs_semantics_t;

/* An instruction whose execute function bears its name. */
#define GS_ENTRY(name, traits) {#name, name, 0, 0, traits, 0}

#define GS_FOR_LANES for (int lane = 0; lane < GS_LANES; lane++)

/* exec_table.c: the name of the entry at `index` of all lists together; NULL behind the last. */
const char *gs_semantics_name(int index);

/* Each list ends with a NULL name. */
extern const gs_semantics_t gs_salu_list[], gs_valu_int_list[], gs_valu_f32_list[], gs_valu_f16_list[],
    gs_valu_f64_list[], gs_convert_list[], gs_convert_scaled_list[], gs_compare_list[], gs_lane_list[], gs_vop3p_list[],
    gs_mfma_list[], gs_lds_list[], gs_vmem_list[], gs_buffer_list[], gs_smem_list[];

#endif
