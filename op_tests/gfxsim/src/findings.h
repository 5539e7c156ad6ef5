/* What the checks found in launches that keep going (option keep_going): one finding per kernel, instruction and kind.
 */
#ifndef GFXSIM_FINDINGS_H
#define GFXSIM_FINDINGS_H

#include "machine.h"

/* An access that is not over, or should not be: by which wave (NULL: it is not known), and the instruction. */
typedef struct gs_access_by_t {
    const gs_wave_t *wave;
    uintptr_t pc;
} gs_access_by_t;

/* As gs_report() for what a wave can go on after: where the launch keeps going it is listed, and this returns. `by`:
 * what was not waited for. */
void gs_found(gs_wave_t *wave, gs_report_kind_t kind, gs_access_by_t by, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

typedef struct gs_finding_t {
    gs_report_kind_t kind;
    uint64_t offset; /* of the instruction, from the start of the code */
    int64_t slack;   /* clocks since what it should have waited for was over, at least; below 0: it was not */
    char kernel[256];
    char text[1024]; /* of the first time */
} gs_finding_t;

#define GS_NO_SLACK INT64_MAX /* not timed */

/* All may be called from any thread. gs_findings_again: whether it is listed; then the least slack counts. */
bool gs_findings_again(const char *kernel, uint64_t offset, gs_report_kind_t kind, int64_t slack);
void gs_findings_add(const char *kernel, uint64_t offset, gs_report_kind_t kind, int64_t slack, const char *text);
bool gs_findings_get(int index, gs_finding_t *finding); /* false: there are not so many */
void gs_findings_clear(void);

#endif
