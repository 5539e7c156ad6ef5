/* Reads machine words, prints instructions: for the decoder's tests, and to look at a few words by hand.
 *
 *   disassemble ARCH < LINES              one instruction per line, as hexadecimal words; answers "BYTES<TAB>TEXT" per
 *                                         line, 0 bytes for what is not an instruction of the tables
 *   disassemble ARCH --operands < LINES   answers the decoded operands instead: what the executor gets
 *   disassemble ARCH --rows               the tables: "FORMAT<TAB>OPCODE<TAB>NAME" per line */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "encoding.h"

enum { MAX_WORDS = 4 };

static const char *const format_names[GS_FORMAT_COUNT] = {
    "SOP1", "SOP2", "SOPK", "SOPC", "SOPP", "SMEM", "VOP1", "VOP2", "VOPC",
    "VOP3", "VOP3P", "MFMA", "DS", "FLAT", "GLOBAL", "SCRATCH", "MUBUF",
};

static void print_rows(gs_arch_t arch) {
    const gs_row_t *row;
    for (int i = 0; (row = gs_row_at(i)); i++) {
        if (!(row->archs >> arch & 1)) continue;
        printf("%s\t%d\t%s\n", format_names[row->format], row->opcode, row->name);
    }
}

/* "v5:32", "s106:64", "a0:128" (an AGPR), "0x3c00:16" (a constant), "none". */
static void print_operand(const gs_operand_t *operand) {
    switch (operand->kind) {
    case GS_NONE: printf(" none"); break;
    case GS_SREG: printf(" s%d:%d", operand->reg, operand->bits); break;
    case GS_CONST: printf(" 0x%" PRIx64 ":%d", operand->value, operand->bits); break;
    default:
        printf(operand->reg < GS_FIRST_AGPR ? " v%d:%d" : " a%d:%d", operand->reg % GS_FIRST_AGPR, operand->bits);
    }
}

static void print_operands(const gs_insn_t *insn) {
    printf("%s %s", format_names[insn->format], insn->name);
    for (int i = 0; i < insn->dst_count; i++) print_operand(&insn->dst[i]);
    printf(" <-");
    for (int i = 0; i < insn->src_count; i++) print_operand(&insn->src[i]);
    printf("\n");
}

static void disassemble_line(gs_arch_t arch, char *line, bool operands) {
    uint32_t words[MAX_WORDS];
    int count = 0;
    for (char *word = strtok(line, " \n"); word && count < MAX_WORDS; word = strtok(NULL, " \n")) {
        words[count++] = (uint32_t)strtoul(word, NULL, 16);
    }
    gs_insn_t insn;
    char text[256] = "";
    int bytes = gs_decode(arch, words, count, &insn);
    if (bytes && operands) {
        print_operands(&insn);
        return;
    }
    if (bytes) gs_print(arch, &insn, 0, text, sizeof text);
    printf("%d\t%s\n", bytes, text);
}

int main(int argc, char **argv) {
    if (argc < 2 || (strcmp(argv[1], "gfx942") != 0 && strcmp(argv[1], "gfx950") != 0)) {
        fprintf(stderr, "usage: disassemble gfx942|gfx950 [--operands | --rows]\n");
        return 2;
    }
    gs_arch_t arch = strcmp(argv[1], "gfx942") == 0 ? GS_GFX942 : GS_GFX950;
    const char *option = argc > 2 ? argv[2] : "";
    if (strcmp(option, "--rows") == 0) {
        print_rows(arch);
        return 0;
    }
    char line[256];
    while (fgets(line, sizeof line, stdin)) disassemble_line(arch, line, strcmp(option, "--operands") == 0);
    return 0;
}
