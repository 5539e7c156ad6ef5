/* The tables of the ISA documents (CDNA3 and CDNA4: 4.5 "Manually Inserted Wait States" and 7.5 "Dependency Resolution:
 * Required Independent Instructions"), as rules. A rule says what the first instruction is, what the second is, which
 * operand of the second they share, and how many wait states must lie between them. */
#include "hazards.h"

#include <stdlib.h>
#include <string.h>

enum { FARTHEST = 27, MAX_PENDING = 64 }; /* wait states: one more than any rule needs; paths of a search */

/* ---- what an instruction is ------------------------------------------------------------------------------------- */

static bool starts_with(const gs_insn_t *insn, const char *prefix) {
    return insn->name && strncmp(insn->name, prefix, strlen(prefix)) == 0;
}

static bool is(const gs_insn_t *insn, const char *name) { return insn->name && strcmp(insn->name, name) == 0; }

static bool is_scalar(const gs_insn_t *insn) { return insn->format <= GS_SOPP; }
static bool is_mfma(const gs_insn_t *insn) { return insn->class_ == GS_CLASS_MFMA; }
static bool is_vector(const gs_insn_t *insn) { return insn->format >= GS_VOP1 && insn->format <= GS_MFMA; }
static bool is_valu(const gs_insn_t *insn) { return is_vector(insn) && !is_mfma(insn); }
static bool is_vmem(const gs_insn_t *insn) { return insn->class_ == GS_CLASS_VMEM; }
static bool is_memory(const gs_insn_t *insn) { return is_vmem(insn) || insn->class_ == GS_CLASS_LDS; }
static bool is_dot(const gs_insn_t *insn) { return starts_with(insn, "v_dot"); }
static bool is_trans(const gs_insn_t *insn) { return insn->class_ == GS_CLASS_TRANS; }

/* Matrix instructions: of 64-bit floats; of 32-bit floats (SGEMM); all others, which the documents call XDL. */
static bool is_dgemm(const gs_insn_t *insn) { return is_mfma(insn) && starts_with(insn, "v_mfma_f64"); }

static bool is_sgemm(const gs_insn_t *insn) {
    size_t length = insn->name ? strlen(insn->name) : 0;
    return is_mfma(insn) && starts_with(insn, "v_mfma_f32") && strcmp(insn->name + length - 4, "_f32") == 0;
}

static bool is_xdl(const gs_insn_t *insn) { return is_mfma(insn) && !is_dgemm(insn) && !is_sgemm(insn); }

static int passes(const gs_insn_t *insn) {
    if (insn->mfma_clocks) return insn->mfma_clocks / 4;
    return strstr(insn->name, "_16x16x") ? 4 : 8; /* v_smfmac_*, which the executor does not have */
}

static bool is_load_to_lds(const gs_insn_t *insn) {
    return is_vmem(insn) && (insn->lds || (insn->row && insn->row->flags & GS_LDS && insn->format != GS_MUBUF));
}

static bool is_vmem_store(const gs_insn_t *insn) {
    return is_vmem(insn) && (strstr(insn->name, "_store_") || strstr(insn->name, "_atomic_"));
}

static bool reads_lane(const gs_insn_t *insn) {
    return starts_with(insn, "v_readlane") || starts_with(insn, "v_readfirstlane");
}

static bool selects_lane(const gs_insn_t *insn) {
    return starts_with(insn, "v_readlane") || starts_with(insn, "v_writelane");
}

static bool is_permlane_swap(const gs_insn_t *insn) {
    return starts_with(insn, "v_permlane") && strstr(insn->name, "_swap");
}

/* Writes a part of its destination, or shifts what it writes. */
static bool places_result(const gs_insn_t *insn) {
    enum { WHOLE_DWORD = 6 };
    if (!is_valu(insn)) return false;
    if (insn->is_sdwa && insn->dst_count && insn->dst[0].kind == GS_VREG) return insn->sdwa_dst_sel != WHOLE_DWORD;
    if (starts_with(insn, "v_cvt_scalef32")) return true;
    if (starts_with(insn, "v_cvt_sr_")) return insn->op_sel & 0xc;
    return insn->format == GS_VOP3 && insn->op_sel & 8;
}

static int wait_states(const gs_insn_t *insn) { return is(insn, "s_nop") ? insn->imm + 1 : 1; }

/* ---- registers -------------------------------------------------------------------------------------------------- */

static int registers(const gs_operand_t *operand) { return (operand->bits + 31) / 32; }

static bool overlap(const gs_operand_t *a, const gs_operand_t *b) {
    bool same_kind = a->kind == b->kind && (a->kind == GS_VREG || a->kind == GS_SREG);
    return same_kind && a->reg < b->reg + registers(b) && b->reg < a->reg + registers(a);
}

static bool covers(const gs_operand_t *a, const gs_operand_t *b) {
    return overlap(a, b) && a->reg <= b->reg && b->reg + registers(b) <= a->reg + registers(a);
}

static bool same(const gs_operand_t *a, const gs_operand_t *b) {
    return a->kind == b->kind && a->reg == b->reg && registers(a) == registers(b);
}

static const gs_operand_t EXEC_REGISTER = {.kind = GS_SREG, .bits = 64, .reg = GS_EXEC};
static const gs_operand_t VCC_REGISTER = {.kind = GS_SREG, .bits = 64, .reg = GS_VCC};
static const gs_operand_t M0_REGISTER = {.kind = GS_SREG, .bits = 32, .reg = GS_M0};

/* What the instruction writes of the operand. */
static const gs_operand_t *written(const gs_insn_t *insn, const gs_operand_t *operand) {
    for (int k = 0; k < insn->dst_count; k++)
        if (overlap(&insn->dst[k], operand)) return &insn->dst[k];
    if (operand->kind == GS_SREG && overlap(&EXEC_REGISTER, operand) && starts_with(insn, "v_cmpx"))
        return &EXEC_REGISTER;
    return NULL;
}

/* The data of a store, or the third source of a matrix instruction. */
static const gs_operand_t *late_source(const gs_insn_t *insn) {
    if (is_mfma(insn)) return insn->src_count > 2 ? &insn->src[2] : NULL;
    if (!is_vmem_store(insn)) return NULL;
    return &insn->src[insn->format == GS_MUBUF ? 0 : 1];
}

/* ---- the rules -------------------------------------------------------------------------------------------------- */

/* What the two share: an operand of the second, or something that it uses without naming it. */
typedef enum role_t { SOURCE, DESTINATION, EXEC_MASK, M0, VCCZ, HWREG, ORDER } role_t;

typedef struct pair_t {
    gs_arch_t arch;
    const gs_insn_t *first, *second;
    const gs_operand_t *operand; /* of the second */
    role_t role;
    int index; /* of a source */
} pair_t;

#define RULES(X)                                                                                                       \
    X(SETREG, "s_setreg before s_getreg or s_setreg of the same register")                                             \
    X(M0, "SALU writes M0 before an instruction that uses it: load to LDS, add-TID, s_sendmsg, s_movrel")              \
    X(VMEM_SGPR, "VALU writes an SGPR that a vector memory instruction reads")                                         \
    X(LANE_SELECT, "VALU writes an SGPR that selects the lane of v_readlane or v_writelane")                           \
    X(DIV_FMAS, "VALU writes VCC before v_div_fmas")                                                                   \
    X(VCCZ, "VALU writes VCC or EXEC before VCCZ or EXECZ is read as data")                                            \
    X(SGPR, "VALU writes an SGPR or VCC that a VALU reads")                                                            \
    X(EXEC_LANE, "VALU writes EXEC before a lane read, lane write or lane swap")                                       \
    X(EXEC_DPP, "VALU writes EXEC before DPP")                                                                         \
    X(EXEC_MFMA, "VALU writes EXEC before a matrix instruction")                                                       \
    X(DPP, "VALU writes a VGPR that DPP reads")                                                                        \
    X(READLANE, "VALU writes a VGPR that v_readlane or v_readfirstlane reads")                                         \
    X(PERMLANE, "VALU writes a VGPR that a lane swap uses")                                                            \
    X(TRANS, "a transcendental's result used by another VALU")                                                         \
    X(PLACED, "a result placed by op_sel or SDWA used by a VALU")                                                      \
    X(STORE_DATA, "VALU overwrites the data of a store of more than 64 bits")                                          \
    X(VALU_MFMA, "VALU writes a VGPR that a matrix instruction reads")                                                 \
    X(DOT, "the result of v_dot used or overwritten by another VALU")                                                  \
    X(MFMA_SOURCE, "a matrix instruction's result read as A or B of another")                                          \
    X(MFMA_ACCUMULATOR, "a matrix instruction's result read as C of another, not exactly the same registers")          \
    X(MFMA_SAME_ACCUMULATOR, "a matrix instruction's result read as C of another, the same registers")                 \
    X(MFMA_READ, "a matrix instruction's result read by VALU, LDS or memory")                                          \
    X(MFMA_OVERWRITTEN, "a matrix instruction's result overwritten by VALU, LDS or memory")                            \
    X(MFMA_C_OVERWRITTEN, "VALU overwrites C of a matrix instruction")                                                 \
    X(DGEMM_FMA, "a 64-bit matrix instruction before v_fma_f64")

typedef enum rule_t {
#define X(name, text) RULE_##name,
    RULES(X)
#undef X
        RULE_COUNT
} rule_t;

static const char *const TEXTS[] = {
#define X(name, text) text,
    RULES(X)
#undef X
};

const char *gs_hazard_rule(int index) { return index >= 0 && index < RULE_COUNT ? TEXTS[index] : NULL; }

/* What a matrix instruction's result needs before it is used: base 2 of SGEMM, 3 of XDL; gfx950 takes one more pass for
 * XDL instructions of more than two. */
static int xdl_extra(const pair_t *pair) { return pair->arch == GS_GFX950 && passes(pair->first) > 2; }

static int after_mfma(const pair_t *pair) {
    return passes(pair->first) + (is_xdl(pair->first) ? 3 + xdl_extra(pair) : 2);
}

static bool is_small_dgemm(const gs_insn_t *insn) { return strstr(insn->name, "_4x4x4") != NULL; }

static int after_dgemm(const pair_t *pair, int small, int large, int large_on_gfx950) {
    if (is_small_dgemm(pair->first)) return small;
    return pair->arch == GS_GFX950 ? large_on_gfx950 : large;
}

static int mfma_to_mfma(const pair_t *pair, rule_t *rule) {
    const gs_insn_t *first = pair->first, *second = pair->second;
    if (pair->index != 2) {
        *rule = RULE_MFMA_SOURCE;
        return is_dgemm(first) ? after_dgemm(pair, 6, 11, 19) : after_mfma(pair);
    }
    if (same(written(first, pair->operand), pair->operand)) {
        *rule = RULE_MFMA_SAME_ACCUMULATOR;
        if (is_dgemm(first)) return is_small_dgemm(first) && is_dgemm(second) && is_small_dgemm(second) ? 4 : 0;
        return passes(first) == 2 ? 2 : 0;
    }
    *rule = RULE_MFMA_ACCUMULATOR;
    if (is_dgemm(first)) return is_xdl(second) ? 0 : after_dgemm(pair, 4, 9, 17);
    if (is_xdl(second) && !is_xdl(first)) return 0;
    return is_xdl(first) ? passes(first) + 1 + xdl_extra(pair) : passes(first);
}

/* The second uses what the first, a matrix instruction, writes. */
static int after_matrix(const pair_t *pair, rule_t *rule) {
    if (is_mfma(pair->second)) return pair->role == SOURCE ? mfma_to_mfma(pair, rule) : 0;
    if (!is_vector(pair->second) && !is_memory(pair->second)) return 0;
    *rule = pair->role == SOURCE ? RULE_MFMA_READ : RULE_MFMA_OVERWRITTEN;
    if (!is_dgemm(pair->first)) return after_mfma(pair);
    if (pair->role == SOURCE && is_memory(pair->second)) return after_dgemm(pair, 9, 18, 26);
    return after_dgemm(pair, 6, 11, 19);
}

static int after_valu_vector(const pair_t *pair, rule_t *rule) {
    const gs_insn_t *first = pair->first, *second = pair->second;
    bool reads = pair->role == SOURCE, reads_too = reads || places_result(second);
    if (is_mfma(second)) {
        *rule = RULE_VALU_MFMA;
        if (is_dot(first)) return reads ? 3 : 0;
        return reads ? 2 : 0;
    }
    if (is_dot(first) && is_valu(second)) {
        bool accumulates = is(second, first->name) && (pair->index == 2 || !reads);
        *rule = RULE_DOT;
        if (!accumulates) return 3;
    }
    if (is_permlane_swap(second)) {
        *rule = RULE_PERMLANE;
        return 2;
    }
    if (second->is_dpp && reads) {
        *rule = RULE_DPP;
        return 2;
    }
    if (reads_lane(second) && reads) {
        *rule = RULE_READLANE;
        return 1;
    }
    if (is_trans(first) && is_valu(second) && !is_trans(second) && reads) {
        *rule = RULE_TRANS;
        return 1;
    }
    if (places_result(first) && is_valu(second) && reads_too) {
        *rule = RULE_PLACED;
        return 1;
    }
    return 0;
}

static int after_valu_scalar(const pair_t *pair, rule_t *rule) {
    const gs_insn_t *second = pair->second;
    if (pair->role == EXEC_MASK) {
        if (reads_lane(second) || starts_with(second, "v_writelane") || is_permlane_swap(second)) {
            *rule = RULE_EXEC_LANE;
            return 4;
        }
        *rule = second->is_dpp ? RULE_EXEC_DPP : RULE_EXEC_MFMA;
        return second->is_dpp ? 5 : is_mfma(second) ? 4 : 0;
    }
    if (pair->role == VCCZ) {
        *rule = RULE_VCCZ;
        return 5;
    }
    if (pair->role != SOURCE) return 0;
    if (is_vmem(second)) {
        *rule = RULE_VMEM_SGPR;
        return 5;
    }
    if (selects_lane(second) && pair->index == 1) {
        *rule = RULE_LANE_SELECT;
        return 4;
    }
    if (starts_with(second, "v_div_fmas") && pair->operand->reg == GS_VCC) {
        *rule = RULE_DIV_FMAS;
        return 4;
    }
    *rule = RULE_SGPR;
    return is_vector(second) ? 2 : 0;
}

/* Wait states that the pair needs, 0: none. The first writes a part of the operand. */
static int after_write(const pair_t *pair, rule_t *rule) {
    if (is_mfma(pair->first)) return after_matrix(pair, rule);
    if (is_valu(pair->first))
        return pair->operand->kind == GS_VREG ? after_valu_vector(pair, rule) : after_valu_scalar(pair, rule);
    if (pair->role == M0 && is_scalar(pair->first)) {
        *rule = RULE_M0;
        return 1;
    }
    return 0;
}

/* The second overwrites what the first reads late. */
static int after_late_read(const pair_t *pair, rule_t *rule) {
    if (!is_valu(pair->second)) return 0;
    if (is_mfma(pair->first)) {
        *rule = RULE_MFMA_C_OVERWRITTEN;
        return is_dgemm(pair->first) ? 0 : passes(pair->first) - 1;
    }
    const gs_insn_t *first = pair->first;
    bool scalar_offset = first->format == GS_MUBUF && first->src[first->src_count - 1].kind == GS_SREG;
    *rule = RULE_STORE_DATA;
    return late_source(first)->bits > 64 && !scalar_offset ? 2 : 0;
}

static bool is_setreg(const gs_insn_t *insn) { return starts_with(insn, "s_setreg"); }

static int needed(const pair_t *pair, rule_t *rule) {
    enum { REGISTER_ID = 63 };
    if (pair->role == HWREG) {
        *rule = RULE_SETREG;
        bool same_register = ((pair->first->imm ^ pair->second->imm) & REGISTER_ID) == 0;
        return is_setreg(pair->first) && same_register ? 2 : 0;
    }
    if (pair->role == ORDER) {
        *rule = RULE_DGEMM_FMA;
        return is_dgemm(pair->first) ? 2 : 0;
    }
    if (written(pair->first, pair->operand)) return after_write(pair, rule);
    const gs_operand_t *late = pair->role == DESTINATION ? late_source(pair->first) : NULL;
    return late && overlap(late, pair->operand) ? after_late_read(pair, rule) : 0;
}

/* ---- paths ------------------------------------------------------------------------------------------------------ */

typedef struct search_t {
    gs_arch_t arch;
    const gs_insn_t *insns;
    uint32_t low, high;
    uint32_t *previous;             /* [words]: of the instruction that falls through to this one; NONE */
    uint32_t *branch, *next_branch; /* the first branch to a word; of a branch, the next one to the same target */
    uint32_t *visit;                /* stamp << 8 | wait states at the last visit */
    uint32_t stamp;
    gs_hazard_t worst;
} search_t;

enum { NONE = UINT32_MAX };

static bool ends_path(const gs_insn_t *insn) {
    return is(insn, "s_branch") || starts_with(insn, "s_endpgm") || starts_with(insn, "s_setpc");
}

static bool is_branch(const gs_insn_t *insn) {
    return is(insn, "s_branch") || starts_with(insn, "s_cbranch") || is(insn, "s_call_b64");
}

static void find_edges(search_t *search) {
    uint32_t before = NONE;
    for (uint32_t word = search->low; word < search->high;) {
        const gs_insn_t *insn = &search->insns[word];
        uint32_t size = insn->name ? insn->bytes / 4u : 1;
        search->previous[word - search->low] = before;
        before = !insn->name || ends_path(insn) ? NONE : word;
        if (insn->name && is_branch(insn)) {
            uint32_t target = word + size + (uint32_t)insn->imm;
            if (target >= search->low && target < search->high) {
                search->next_branch[word - search->low] = search->branch[target - search->low];
                search->branch[target - search->low] = word;
            }
        }
        word += size;
    }
}

typedef struct step_t {
    uint32_t word;
    int states; /* between it and the second instruction */
} step_t;

static int push_before(const search_t *search, uint32_t word, int states, step_t *steps, int count) {
    uint32_t from = search->previous[word - search->low];
    if (from != NONE && count < MAX_PENDING) steps[count++] = (step_t){from, states};
    for (from = search->branch[word - search->low]; from != NONE && count < MAX_PENDING;) {
        steps[count++] = (step_t){from, states};
        from = search->next_branch[from - search->low];
    }
    return count;
}

/* Goes back from the second instruction on every path until something else has written the operand. */
static void search_back(search_t *search, pair_t pair, uint32_t second, int farthest) {
    step_t steps[MAX_PENDING];
    int count = push_before(search, second, 0, steps, 0);
    search->stamp++;
    while (count > 0) {
        step_t step = steps[--count];
        uint32_t *visit = &search->visit[step.word - search->low];
        if (step.states >= farthest || (*visit >> 8 == search->stamp && (int)(*visit & 255) <= step.states)) continue;
        *visit = search->stamp << 8 | (uint32_t)step.states;
        pair.first = &search->insns[step.word];
        rule_t rule = RULE_COUNT;
        int states = needed(&pair, &rule);
        if (states - step.states > search->worst.needed - search->worst.found)
            search->worst = (gs_hazard_t){step.word, second, states, step.states, TEXTS[rule]};
        const gs_operand_t *write = pair.operand ? written(pair.first, pair.operand) : NULL;
        bool settled = write && (covers(write, pair.operand) || is_mfma(pair.first));
        if (!settled) count = push_before(search, step.word, step.states + wait_states(pair.first), steps, count);
    }
}

static void search_operands(search_t *search, uint32_t second) {
    enum { NEAR = 6 }; /* for rules without a matrix instruction */
    const gs_insn_t *insn = &search->insns[second];
    pair_t pair = {.arch = search->arch, .second = insn};
    bool vector = is_vector(insn) || is_memory(insn);
    for (int k = 0; k < insn->src_count && vector; k++) {
        pair.operand = &insn->src[k];
        pair.role = SOURCE;
        pair.index = k;
        bool z = pair.operand->kind == GS_SREG && (pair.operand->reg == GS_VCCZ || pair.operand->reg == GS_EXECZ);
        if (z) {
            pair.role = VCCZ;
            pair.operand = pair.operand->reg == GS_VCCZ ? &VCC_REGISTER : &EXEC_REGISTER;
        }
        if (pair.operand->kind == GS_VREG) search_back(search, pair, second, FARTHEST);
        else if (pair.operand->kind == GS_SREG) search_back(search, pair, second, NEAR);
    }
    pair.index = 0;
    for (int k = 0; k < insn->dst_count && vector; k++) {
        pair.operand = &insn->dst[k];
        pair.role = DESTINATION;
        if (pair.operand->kind == GS_VREG && !is_mfma(insn)) search_back(search, pair, second, FARTHEST);
    }
    bool lanes = reads_lane(insn) || starts_with(insn, "v_writelane") || is_permlane_swap(insn);
    if (lanes || insn->is_dpp || is_mfma(insn)) {
        pair.operand = &EXEC_REGISTER;
        pair.role = EXEC_MASK;
        search_back(search, pair, second, NEAR);
    }
    bool by_m0 = is_load_to_lds(insn) || starts_with(insn, "s_sendmsg") || starts_with(insn, "s_movrel");
    if (by_m0 || strstr(insn->name, "_addtid")) {
        pair.operand = &M0_REGISTER;
        pair.role = M0;
        search_back(search, pair, second, 2);
    }
    if (starts_with(insn, "v_div_fmas")) {
        pair.operand = &VCC_REGISTER;
        pair.role = SOURCE;
        search_back(search, pair, second, NEAR);
    }
    if (starts_with(insn, "v_fma_f64") || starts_with(insn, "v_fmac_f64")) {
        pair.operand = NULL;
        pair.role = ORDER;
        search_back(search, pair, second, 3);
    }
    if (is_setreg(insn) || is(insn, "s_getreg_b32")) {
        pair.operand = NULL;
        pair.role = HWREG;
        search_back(search, pair, second, 3);
    }
}

static bool allocate(search_t *search) {
    size_t words = search->high - search->low;
    search->previous = malloc(words * sizeof *search->previous);
    search->branch = malloc(words * sizeof *search->branch);
    search->next_branch = malloc(words * sizeof *search->next_branch);
    search->visit = calloc(words, sizeof *search->visit);
    if (!search->previous || !search->branch || !search->next_branch || !search->visit) return false;
    memset(search->previous, 0xff, words * sizeof *search->previous);
    memset(search->branch, 0xff, words * sizeof *search->branch);
    return true;
}

int gs_hazards_find(gs_arch_t arch, const gs_insn_t *insns, uint32_t low, uint32_t high, gs_hazard_t *out, int limit) {
    search_t search = {.arch = arch, .insns = insns, .low = low, .high = high};
    int count = -1;
    if (allocate(&search)) {
        count = 0;
        find_edges(&search);
        for (uint32_t word = low; word < high; word += insns[word].name ? insns[word].bytes / 4u : 1) {
            if (!insns[word].name) continue;
            search.worst = (gs_hazard_t){0};
            search_operands(&search, word);
            if (!search.worst.rule) continue;
            if (count < limit) out[count] = search.worst;
            count++;
        }
    }
    free(search.previous);
    free(search.branch);
    free(search.next_branch);
    free(search.visit);
    return count;
}
