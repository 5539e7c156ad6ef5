/* Choosing a kernel: the rows of one family against the numbers of a request. */
#include "kernel.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

const char *ac_feature_name(unsigned feature) {
    switch (feature) {
    case AC_WRITES_FINAL: return "writes_output";
    case AC_WRITES_PARTIALS: return "writes_partials";
    case AC_WRITES_LSE: return "writes_lse";
    case AC_WORK_LIST: return "work_list";
    case AC_SECOND_CACHE: return "second_cache";
    case AC_SINK: return "sink";
    case AC_ONE_ITEM: return "one_item";
    case AC_TAKES_TURNS: return "takes_turns";
    case AC_STARTS_EARLY: return "starts_early";
    default: return "?";
    }
}

const ac_kernel_t *ac_kernel(int number) {
    for (int i = 0; i < ac_kernel_family_count; number -= ac_kernel_families[i++]->kernel_count)
        if (number < ac_kernel_families[i]->kernel_count) return &ac_kernel_families[i]->kernels[number];
    return NULL;
}

int ac_kernel_number(const ac_kernel_t *kernel) {
    int first = 0;
    for (int i = 0; ac_kernel_families[i] != kernel->family; i++) first += ac_kernel_families[i]->kernel_count;
    return first + (int)(kernel - kernel->family->kernels);
}

static inline int matches(ac_match_t match, int64_t row, int64_t number) {
    if (number == AC_ANY_KEY) return 1;
    switch (match) {
    case AC_ONE_OF: return number < 64 && row >> number & 1;
    case AC_AT_MOST: return number <= row;
    case AC_MULTIPLE_OF: return number % row == 0;
    default: return 1;
    }
}

/* How many columns match before the first that does not; features that are needed follow the columns. */
static int matching_columns(const ac_kernel_t *kernel, const ac_kernel_request_t *request) {
    const ac_kernel_family_t *family = request->family;
    for (int i = 0; i < family->column_count; i++)
        if (!matches(family->columns[i].match, kernel->keys[i], request->keys[i])) return i;
    return family->column_count + ((request->features & ~kernel->features) == 0);
}

/* "q_dtype (bfloat16 or float16)": the column that does not match, and what the kernel takes; or a missing feature. */
static void misfit_text(const ac_kernel_t *kernel, const ac_kernel_request_t *request, int at, char *text, int size) {
    if (at >= request->family->column_count) {
        const unsigned missing = request->features & ~kernel->features;
        snprintf(text, (size_t)size, "%s", ac_feature_name(missing & (~missing + 1))); /* the lowest bit */
        return;
    }
    const ac_column_t *column = &request->family->columns[at];
    const int64_t set = kernel->keys[at];
    int used = snprintf(text, (size_t)size, "%s (", column->name);
    if (column->match != AC_ONE_OF && used < size)
        used += snprintf(text + used, (size_t)(size - used), "%s %" PRId64,
                         column->match == AC_AT_MOST ? "at most" : "a multiple of", set);
    for (int i = 0, first = used; column->match == AC_ONE_OF && i < 63 && used < size; i++) {
        if (!(set >> i & 1)) continue;
        const char *join = used == first ? "" : set >> (i + 1) ? ", " : " or ";
        if (column->text) used += snprintf(text + used, (size_t)(size - used), "%s%s", join, column->text(i));
        else used += snprintf(text + used, (size_t)(size - used), "%s%d", join, i);
    }
    if (used < size) snprintf(text + used, (size_t)(size - used), ")");
}

/* Fewer tiles, then less of a tile that no row fills. */
static int is_better(const ac_kernel_t *kernel, const ac_kernel_t *than, int64_t rows) {
    int64_t tiles = ac_kernel_tiles(kernel, rows), other = ac_kernel_tiles(than, rows);
    return tiles != other ? tiles < other : kernel->tile_rows < than->tile_rows;
}

/* "q_dtype int8, kv_dtype bfloat16, o_dtype any" */
static void request_text(const ac_kernel_request_t *request, char *text, int size) {
    int used = 0;
    text[0] = 0;
    for (int i = 0; i < request->family->column_count && used < size; i++) {
        const ac_column_t *column = &request->family->columns[i];
        int64_t number = request->keys[i];
        if (column->match == AC_FACT) continue;
        used += snprintf(text + used, (size_t)(size - used), "%s%s ", used ? ", " : "", column->name);
        if (used >= size) return;
        if (number == AC_ANY_KEY) used += snprintf(text + used, (size_t)(size - used), "any");
        else if (column->text) used += snprintf(text + used, (size_t)(size - used), "%s", column->text(number));
        else used += snprintf(text + used, (size_t)(size - used), "%" PRId64, number);
    }
}

/* Of the highest architecture that has one. *out_nearest: where none fits, the kernel with the most matching columns,
 * and of several such one of the highest architecture. */
static const ac_kernel_t *search(const ac_kernel_request_t *request, ac_arch_t arch, const ac_kernel_t **out_nearest,
                                 int *out_nearest_columns) {
    const int complete = request->family->column_count + 1, lowest = (int)ac_arch_lowest(arch);
    const ac_kernel_t *nearest = NULL, *best = NULL;
    int nearest_columns = -1;
    for (int i = 0; i < request->family->kernel_count; i++) {
        const ac_kernel_t *kernel = &request->family->kernels[i];
        const int of = (int)kernel->arch;
        if (of > (int)arch || of < lowest || (best && of < (int)best->arch)) continue;
        const int columns = matching_columns(kernel, request);
        if (columns == complete) {
            if (!best || of > (int)best->arch || is_better(kernel, best, request->rows)) best = kernel;
        } else if (columns > nearest_columns || (columns == nearest_columns && of > (int)nearest->arch)) {
            nearest = kernel;
            nearest_columns = columns;
        }
    }
    *out_nearest = nearest;
    *out_nearest_columns = nearest_columns;
    return best;
}

/* Calls repeat, and the choice depends on nothing but the request: each thread keeps its last ones. */
typedef struct {
    const ac_kernel_t *kernel; /* NULL: none yet */
    const ac_kernel_family_t *family;
    int64_t keys[AC_MAX_KEYS], rows;
    unsigned features;
    ac_arch_t arch;
} choice_t;
#define CHOICES 4 /* a plan takes two */

static bool is_choice_of(const choice_t *choice, const ac_kernel_request_t *request, ac_arch_t arch) {
    bool same = choice->kernel && choice->family == request->family && choice->rows == request->rows &&
                choice->features == request->features && choice->arch == arch;
    for (int i = 0; same && i < request->family->column_count; i++) same = choice->keys[i] == request->keys[i];
    return same;
}

const ac_kernel_t *ac_choose_kernel(const ac_kernel_request_t *request, ac_arch_t arch, ac_error_t *error) {
    static _Thread_local choice_t choices[CHOICES];
    static _Thread_local int next;
    const ac_kernel_t *nearest;
    int nearest_columns;
    for (int i = 0; i < CHOICES; i++)
        if (is_choice_of(&choices[i], request, arch)) return choices[i].kernel;
    const ac_kernel_t *best = search(request, arch, &nearest, &nearest_columns);
    if (best) {
        choice_t *choice = &choices[next];
        next = (next + 1) % CHOICES;
        *choice = (choice_t){best, request->family, {0}, request->rows, request->features, arch};
        memcpy(choice->keys, request->keys, sizeof choice->keys);
        return best;
    }
    char wanted[256], misfit[128];
    request_text(request, wanted, sizeof wanted);
    if (nearest) misfit_text(nearest, request, nearest_columns, misfit, sizeof misfit);
    if (nearest)
        ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: no kernel on %s for %s; the nearest is %s, which differs in %s",
                request->op, ac_arch_name(arch), wanted, nearest->name, misfit);
    else ac_fail(error, AC_ERROR_UNSUPPORTED, "%s: no kernel on %s, got %s", request->op, ac_arch_name(arch), wanted);
    return NULL;
}
