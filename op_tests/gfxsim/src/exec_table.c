/* gs_bind: the semantics of an instruction by its name. */
#include <pthread.h>
#include <stdlib.h>

#include "exec.h"

static const gs_semantics_t *const LISTS[] = {
    gs_salu_list, gs_valu_int_list, gs_valu_f32_list, gs_valu_f16_list, gs_valu_f64_list, gs_convert_list,
    gs_convert_scaled_list, gs_compare_list, gs_lane_list, gs_vop3p_list, gs_mfma_list, gs_lds_list, gs_vmem_list,
    gs_buffer_list, gs_smem_list,
};

/* ---- names, sorted ---------------------------------------------------------------------------------------------- */

enum { MAX_NAMES = 2048 };

static const gs_semantics_t *sorted[MAX_NAMES];
static size_t name_count;
static pthread_once_t sort_once = PTHREAD_ONCE_INIT;

static int compare_entries(const void *a, const void *b) {
    return strcmp((*(const gs_semantics_t *const *)a)->name, (*(const gs_semantics_t *const *)b)->name);
}

static void sort_names(void) {
    for (size_t i = 0; i < sizeof LISTS / sizeof *LISTS; i++)
        for (const gs_semantics_t *entry = LISTS[i]; entry->name && name_count < MAX_NAMES; entry++) {
            sorted[name_count++] = entry;
        }
    qsort(sorted, name_count, sizeof *sorted, compare_entries);
}

static const gs_semantics_t *find(const char *name) {
    gs_semantics_t key = {.name = name};
    const gs_semantics_t *pointer = &key;
    pthread_once(&sort_once, sort_names);
    const gs_semantics_t **found = bsearch(&pointer, sorted, name_count, sizeof *sorted, compare_entries);
    return found ? *found : NULL;
}

const char *gs_semantics_name(int index) {
    pthread_once(&sort_once, sort_names);
    return index >= 0 && (size_t)index < name_count ? sorted[index]->name : NULL;
}

/* ---- classes ---------------------------------------------------------------------------------------------------- */

static bool starts_with(const char *name, const char *prefix) { return strncmp(name, prefix, strlen(prefix)) == 0; }

static gs_class_t scalar_class(const char *name) {
    static const char *const BRANCHES[] = {"s_branch", "s_cbranch", "s_setpc", "s_swappc", "s_call", "s_endpgm"};
    static const char *const WAITS[] = {"s_waitcnt", "s_nop", "s_sleep"};
    for (size_t i = 0; i < sizeof BRANCHES / sizeof *BRANCHES; i++)
        if (starts_with(name, BRANCHES[i])) return GS_CLASS_BRANCH;
    for (size_t i = 0; i < sizeof WAITS / sizeof *WAITS; i++)
        if (starts_with(name, WAITS[i])) return GS_CLASS_WAIT;
    return starts_with(name, "s_barrier") ? GS_CLASS_BARRIER : GS_CLASS_SALU;
}

static gs_class_t vector_class(const char *name) {
    static const char *const TRANSCENDENTAL[] = {
        "v_exp_", "v_log_", "v_rcp_", "v_rsq_", "v_sqrt_", "v_sin_", "v_cos_",
    };
    if (starts_with(name, "v_mfma") || starts_with(name, "v_smfmac")) return GS_CLASS_MFMA;
    for (size_t i = 0; i < sizeof TRANSCENDENTAL / sizeof *TRANSCENDENTAL; i++)
        if (starts_with(name, TRANSCENDENTAL[i])) return GS_CLASS_TRANS;
    return GS_CLASS_VALU;
}

static gs_class_t class_of(const gs_insn_t *insn) {
    switch (insn->format) {
    case GS_SOP1: case GS_SOP2: case GS_SOPK: case GS_SOPC: case GS_SOPP: return scalar_class(insn->name);
    case GS_SMEM: return GS_CLASS_SMEM;
    case GS_DS: return GS_CLASS_LDS;
    case GS_FLAT: case GS_GLOBAL: case GS_SCRATCH: case GS_MUBUF: return GS_CLASS_VMEM;
    default: return vector_class(insn->name);
    }
}

/* ---- clocks of the matrix core ---------------------------------------------------------------------------------- */

enum { FIRST_SMALL_FORMAT = 2 }; /* cbsz and blgp: 6- and 4-bit formats run at twice the rate of 8-bit ones */

static uint16_t clocks_of(gs_arch_t arch, const gs_insn_t *insn, const gs_semantics_t *semantics) {
    bool by_format = strstr(insn->name, "f8f6f4") != NULL;
    if (by_format && insn->cbsz >= FIRST_SMALL_FORMAT && insn->blgp >= FIRST_SMALL_FORMAT) {
        return semantics->mfma_clocks / 2;
    }
    if (arch == GS_GFX950 && strcmp(insn->name, "v_mfma_f64_16x16x4_f64") == 0)
        return semantics->mfma_clocks * 2; /* gfx950 has half of the fp64 rate */
    return semantics->mfma_clocks;
}

bool gs_bind(gs_arch_t arch, gs_insn_t *insn) {
    insn->execute = NULL;
    if (!insn->name) return false;
    insn->class_ = (uint8_t)class_of(insn);
    const gs_semantics_t *semantics = find(insn->name);
    if (!semantics) return false;
    insn->execute = semantics->execute;
    insn->a = semantics->a;
    insn->b = semantics->b;
    insn->traits = semantics->traits;
    insn->plain = !insn->is_dpp && !insn->is_sdwa && !insn->abs && !insn->neg;
    gs_taint_list_registers(insn);
    insn->mfma_clocks = clocks_of(arch, insn, semantics);
    return true;
}
