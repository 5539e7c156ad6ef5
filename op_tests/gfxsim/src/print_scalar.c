/* The 16-bit immediates of the scalar formats. */
#include "print.h"

#include <stddef.h>

static void put_waitcnt(gs_text_t *text, unsigned value) {
    unsigned vmcnt = (value & 15) | (value >> 14 & 3) << 4, expcnt = value >> 4 & 7, lgkmcnt = value >> 8 & 15;
    bool all = vmcnt == 63 && expcnt == 7 && lgkmcnt == 15; /* waits for nothing: LLVM names all three then */
    const char *separator = "";
    if (vmcnt != 63 || all) {
        gs_put(text, "vmcnt(%u)", vmcnt);
        separator = " ";
    }
    if (expcnt != 7 || all) {
        gs_put(text, "%sexpcnt(%u)", separator, expcnt);
        separator = " ";
    }
    if (lgkmcnt != 15 || all) gs_put(text, "%slgkmcnt(%u)", separator, lgkmcnt);
}

static void put_hwreg(gs_text_t *text, unsigned value) {
    static const char *const names[] = {
        [1] = "MODE",
        [2] = "STATUS",
        [3] = "TRAPSTS",
        [4] = "HW_ID",
        [5] = "GPR_ALLOC",
        [6] = "LDS_ALLOC",
        [7] = "IB_STS",
        [15] = "SH_MEM_BASES",
        [16] = "TBA_LO",
        [17] = "TBA_HI",
        [18] = "TMA_LO",
        [19] = "TMA_HI",
        [20] = "XCC_ID",
        [21] = "SQ_PERF_SNAPSHOT_DATA",
        [22] = "SQ_PERF_SNAPSHOT_DATA1",
        [23] = "SQ_PERF_SNAPSHOT_PC_LO",
        [24] = "SQ_PERF_SNAPSHOT_PC_HI",
    };
    unsigned id = value & 63, offset = value >> 6 & 31, width = (value >> 11 & 31) + 1;
    const char *name = id < sizeof names / sizeof names[0] ? names[id] : NULL;
    if (name) {
        gs_put(text, "hwreg(HW_REG_%s", name);
    } else {
        gs_put(text, "hwreg(%u", id);
    }
    if (offset != 0 || width != 32) gs_put(text, ", %u, %u", offset, width);
    gs_put(text, ")");
}

static void put_message(gs_text_t *text, unsigned value) {
    enum { MESSAGE_GS = 2, MESSAGE_GS_DONE = 3, MESSAGE_SYSTEM = 15 };
    static const char *const names[] = {
        [1] = "MSG_INTERRUPT",       [2] = "MSG_GS",
        [3] = "MSG_GS_DONE",         [4] = "MSG_SAVEWAVE",
        [5] = "MSG_STALL_WAVE_GEN",  [6] = "MSG_HALT_WAVES",
        [7] = "MSG_ORDERED_PS_DONE", [8] = "MSG_EARLY_PRIM_DEALLOC",
        [9] = "MSG_GS_ALLOC_REQ",    [10] = "MSG_GET_DOORBELL",
        [15] = "MSG_SYSMSG",
    };
    static const char *const gs_operations[] = {"GS_OP_NOP", "GS_OP_CUT", "GS_OP_EMIT", "GS_OP_EMIT_CUT"};
    static const char *const system_operations[] = {
        [1] = "SYSMSG_OP_ECC_ERR_INTERRUPT",
        [2] = "SYSMSG_OP_REG_RD",
        [4] = "SYSMSG_OP_TTRACE_PC",
    };
    unsigned id = value & 15, operation = value >> 4 & 7, stream = value >> 8 & 3;
    bool geometry = id == MESSAGE_GS || id == MESSAGE_GS_DONE;
    const char *name = names[id], *operation_name = NULL;
    bool valid = name != NULL;
    if (geometry) {
        valid = operation < 4 && (id == MESSAGE_GS_DONE || operation != 0) && (operation != 0 || stream == 0);
        if (valid) operation_name = gs_operations[operation];
    } else if (id == MESSAGE_SYSTEM) {
        valid = (operation == 1 || operation == 2 || operation == 4) && stream == 0;
        if (valid) operation_name = system_operations[operation];
    } else {
        valid = valid && operation == 0 && stream == 0;
    }
    if (valid) {
        gs_put(text, "sendmsg(%s", name);
        if (operation_name) gs_put(text, ", %s", operation_name);
        if (geometry && operation != 0) gs_put(text, ", %u", stream);
        gs_put(text, ")");
    } else if ((id | operation << 4 | stream << 8) == value) {
        gs_put(text, "sendmsg(%u, %u, %u)", id, operation, stream);
    } else {
        gs_put(text, "%u", value);
    }
}

static void put_gpr_index(gs_text_t *text, unsigned value) {
    static const char *const names[] = {"SRC0", "SRC1", "SRC2", "DST"};
    const char *separator = "";
    if (value > 15) {
        gs_put(text, "0x%x", value);
        return;
    }
    gs_put(text, "gpr_idx(");
    for (int i = 0; i < 4; i++) {
        if (!(value >> i & 1)) continue;
        gs_put(text, "%s%s", separator, names[i]);
        separator = ",";
    }
    gs_put(text, ")");
}

void gs_put_immediate(gs_text_t *text, const gs_insn_t *insn) {
    unsigned value = (uint16_t)insn->imm;
    switch (insn->row->immediate) {
    case GS_IMM_HEX: gs_put(text, "0x%x", value); break;
    case GS_IMM_DECIMAL:
    case GS_IMM_OPTIONAL: gs_put(text, "%u", value); break;
    case GS_IMM_NUMBER: gs_put(text, value <= 64 ? "%u" : "0x%x", value); break;
    case GS_IMM_WAITCNT: put_waitcnt(text, value); break;
    case GS_IMM_HWREG: put_hwreg(text, value); break;
    case GS_IMM_MESSAGE: put_message(text, value); break;
    case GS_IMM_GPR_IDX: put_gpr_index(text, value); break;
    default: break;
    }
}
