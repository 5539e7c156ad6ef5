/* What the files of the printer share. */
#ifndef GFXSIM_PRINT_H
#define GFXSIM_PRINT_H

#include "encoding.h"

typedef struct gs_text_t {
    char *text;
    int size, length; /* length may exceed size, as with snprintf */
} gs_text_t;

/* print_operand.c */
void gs_put(gs_text_t *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void gs_put_operand(gs_text_t *text, const gs_operand_t *operand);

/* print_scalar.c: simm16 as the row wants it. */
void gs_put_immediate(gs_text_t *text, const gs_insn_t *insn);

/* print_modifiers.c: what follows the operands of a vector instruction. */
void gs_put_modifiers(gs_text_t *text, const gs_insn_t *insn);
void gs_put_swizzle(gs_text_t *text, unsigned offset);

#endif
