/* Tensor rules: parsing a shape's text against a tensor, and the checks that a row stands for. */
#include "rules.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define TEXT 192

/* One dimension of a shape's text. A symbol is kept as the number that its characters, at most 8, make. */
typedef struct {
    uint64_t symbol;  /* 0: a number alone */
    int64_t constant; /* the number, or what is added to the symbol */
    bool or_more;
} dim_t;

void ac_sizes_init(ac_sizes_t *sizes, const char *op) {
    sizes->op = op;
    sizes->count = 0;
    sizes->leader = NULL;
}

static uint64_t symbol_of(const char *text) {
    uint64_t symbol = 0;
    while (*text) symbol = symbol << 8 | (unsigned char)*text++;
    return symbol;
}

static const char *symbol_text(uint64_t symbol, char text[9]) {
    int length = 0;
    for (int shift = 56; shift >= 0; shift -= 8)
        if (symbol >> shift & 0xff) text[length++] = (char)(symbol >> shift & 0xff);
    text[length] = '\0';
    return text;
}

/* The place of a symbol, or the number of symbols. */
static int find(const ac_sizes_t *sizes, uint64_t symbol) {
    int i = 0;
    while (i < sizes->count && sizes->sizes[i].symbol != symbol) i++;
    return i;
}

/* check_shape sees to it that there is room. */
static void bind(ac_sizes_t *sizes, uint64_t symbol, int64_t size, const char *origin) {
    int i = find(sizes, symbol);
    if (i == AC_MAX_SIZES) return;
    if (i == sizes->count) sizes->count++;
    sizes->sizes[i].symbol = symbol;
    sizes->sizes[i].size = size;
    sizes->sizes[i].origin = origin;
}

void ac_size_bind(ac_sizes_t *sizes, const char *symbol, int64_t size, const char *origin) {
    bind(sizes, symbol_of(symbol), size, origin);
}

int64_t ac_size(const ac_sizes_t *sizes, const char *symbol) {
    int i = find(sizes, symbol_of(symbol));
    return i < sizes->count ? sizes->sizes[i].size : -1;
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }

/* Reads one dimension; returns what follows it. */
static const char *read_dim(const char *text, dim_t *out_dim) {
    while (*text == ' ') text++;
    out_dim->symbol = 0;
    if (!is_digit(*text))
        while (*text && !strchr(" +.|", *text)) out_dim->symbol = out_dim->symbol << 8 | (unsigned char)*text++;
    out_dim->constant = 0;
    if (*text == '+') text++;
    while (is_digit(*text)) out_dim->constant = out_dim->constant * 10 + (*text++ - '0');
    out_dim->or_more = text[0] == '.';
    return out_dim->or_more ? text + 2 : text;
}

/* Reads the dimensions of one shape; returns what ends it. */
static const char *read_dims(const char *text, dim_t *out_dims, int *out_count) {
    *out_count = 0;
    while (*text && *text != '|' && *out_count < AC_MAX_NDIM) text = read_dim(text, &out_dims[(*out_count)++]);
    return text;
}

/* "[T=3 (of q), H, 576]" */
static void expected_text(const ac_sizes_t *sizes, const dim_t *dims, int ndim, char *text, size_t size) {
    size_t used = (size_t)snprintf(text, size, "[");
    for (int i = 0; i < ndim && used < size; i++) {
        const dim_t *dim = &dims[i];
        const int at = find(sizes, dim->symbol);
        char symbol[9];
        used += (size_t)snprintf(text + used, size - used, "%s%s%s", i ? ", " : "", dim->or_more ? "at least " : "",
                                 symbol_text(dim->symbol, symbol));
        if (used < size && (!dim->symbol || dim->constant))
            used += (size_t)snprintf(text + used, size - used, "%s%" PRId64, dim->symbol ? "+" : "", dim->constant);
        if (used < size && dim->symbol && at < sizes->count)
            used += (size_t)snprintf(text + used, size - used, "=%" PRId64 " (of %s)",
                                     sizes->sizes[at].size + dim->constant, sizes->sizes[at].origin);
    }
    if (used < size) snprintf(text + used, size - used, "]");
}

static bool fits(const ac_sizes_t *sizes, const dim_t *dim, int64_t size) {
    const int at = dim->symbol ? find(sizes, dim->symbol) : sizes->count;
    if (dim->symbol && at == sizes->count) return size >= dim->constant; /* seen first: it takes this size */
    const int64_t wanted = dim->constant + (dim->symbol ? sizes->sizes[at].size : 0);
    return dim->or_more ? size >= wanted : size == wanted;
}

/* All dimensions are compared before one is bound, so that a refusal shows what was known beforehand. */
static bool matches(const ac_view_t *view, const dim_t *dims, int ndim, const char *origin, ac_sizes_t *sizes) {
    bool all = view->ndim == ndim;
    for (int i = 0; all && i < ndim; i++) all = fits(sizes, &dims[i], view->shape[i]);
    for (int i = 0; all && i < ndim; i++)
        if (dims[i].symbol && find(sizes, dims[i].symbol) == sizes->count)
            bind(sizes, dims[i].symbol, view->shape[i] - dims[i].constant, origin);
        else if (dims[i].symbol) all &= fits(sizes, &dims[i], view->shape[i]); /* "N N": seen twice in one shape */
    return all;
}

/* Any of the shapes that the row has. */
static int check_shape(ac_arg_t arg, const ac_tensor_rule_t *rule, ac_sizes_t *sizes, ac_error_t *error) {
    dim_t dims[AC_MAX_NDIM], shown[AC_MAX_NDIM];
    int ndim, shown_ndim = -1;
    for (const char *next = rule->shape; next; next = *next ? next + 1 : NULL) {
        next = read_dims(next, dims, &ndim);
        if (sizes->count + ndim > AC_MAX_SIZES) /* a mistake in the op's rows, which its first call shows */
            return ac_fail(error, AC_ERROR_UNSUPPORTED,
                           "%s: %s: expected at most %d symbols in an op's shapes, got more", arg.op, arg.name,
                           AC_MAX_SIZES);
        if (matches(arg.view, dims, ndim, rule->name, sizes)) return 0;
        if (shown_ndim >= 0 && (shown_ndim == arg.view->ndim || ndim != arg.view->ndim)) continue;
        memcpy(shown, dims, sizeof dims);
        shown_ndim = ndim;
    }
    char expected[TEXT], got[TEXT];
    expected_text(sizes, shown, shown_ndim, expected, sizeof expected);
    return ac_fail(error, AC_ERROR_VALUE, "%s: %s: expected shape %s, got %s", arg.op, arg.name, expected,
                   ac_shape_text(arg.view, got, sizeof got));
}

static int check_device(ac_arg_t arg, const ac_tensor_rule_t *rule, ac_sizes_t *sizes, ac_error_t *error) {
    if ((rule->flags & AC_LEADS) && !sizes->leader) {
        sizes->leader = rule->name;
        sizes->device = arg.view->device;
        return 0;
    }
    if ((rule->flags & AC_HOST_TOO) && arg.view->device.type == AC_DEVICE_CPU) return 0;
    return sizes->leader ? ac_check_device(arg, sizes->device, sizes->leader, error) : 0;
}

/* One tensor of a row. */
typedef struct {
    const ac_tensor_rule_t *rule;
    const ac_view_t *view;
    int number; /* of a sequence: its place; else -1 */
} member_t;

/* Tensors of a row: 1 where there is none, with NULL. */
static int member_count(const void *args, const ac_tensor_rule_t *rule) {
    if (!(rule->flags & AC_EACH)) return 1;
    const int count = ((const ac_tensors_arg_t *)(const void *)((const char *)args + rule->offset))->count;
    return count ? count : 1;
}

static member_t member_of(const void *args, const ac_tensor_rule_t *rule, int i) {
    const void *field = (const char *)args + rule->offset;
    if (!(rule->flags & AC_EACH)) return (member_t){rule, *(const ac_view_t *const *)field, -1};
    const ac_tensors_arg_t *tensors = field;
    return (member_t){rule, tensors->views[i], tensors->is_sequence ? i : -1};
}

/* "lse", or "lse[2]" */
static const char *name_of(const member_t *member, char text[AC_MAX_NAME]) {
    if (member->number < 0) return member->rule->name;
    snprintf(text, AC_MAX_NAME, "%s[%d]", member->rule->name, member->number);
    return text;
}

static int check_tensor(ac_arg_t arg, const ac_tensor_rule_t *rule, ac_sizes_t *sizes, ac_error_t *error) {
    if (!arg.view && (rule->flags & AC_MAY_BE_NONE)) return 0;
    if (ac_check_given(arg, error) < 0) return -1;
    if (rule->dtypes && ac_check_dtype(arg, rule->dtypes, error) < 0) return -1;
    if (rule->shape && check_shape(arg, rule, sizes, error) < 0) return -1;
    if ((rule->flags & AC_ONE_ELEMENT) && ac_check_one_element(arg, error) < 0) return -1;
    if ((rule->flags & AC_DENSE_ROWS) && ac_check_dense_rows(arg, error) < 0) return -1;
    if ((rule->flags & AC_CONTIGUOUS) && ac_check_contiguous(arg, error) < 0) return -1;
    if (check_device(arg, rule, sizes, error) < 0) return -1;
    return rule->flags & AC_WRITTEN ? ac_check_output(arg, error) : 0;
}

int ac_check_tensors(const void *args, const ac_tensor_rule_t *rules, int count, ac_sizes_t *sizes, ac_error_t *error) {
    char text[AC_MAX_NAME];
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < member_count(args, &rules[i]); k++) {
            const member_t member = member_of(args, &rules[i], k);
            const ac_arg_t arg = {sizes->op, name_of(&member, text), member.view};
            if (check_tensor(arg, &rules[i], sizes, error) < 0) return -1;
        }
    }
    return 0;
}

/* A tensor, and where its memory is; none: low == high. */
typedef struct {
    member_t member;
    uintptr_t low, high;
} extent_t;

static int find_extents(const void *args, const ac_tensor_rule_t *rules, int count, extent_t *out_extents) {
    int found = 0;
    for (int i = 0; i < count; i++) {
        for (int k = 0; k < member_count(args, &rules[i]) && found < AC_MAX_TENSORS; k++) {
            extent_t *extent = &out_extents[found];
            extent->member = member_of(args, &rules[i], k);
            if (!extent->member.view) continue;
            ac_view_extent(extent->member.view, &extent->low, &extent->high);
            found++;
        }
    }
    return found;
}

static bool overlap(const extent_t *a, const extent_t *b) {
    const ac_device_t on = a->member.view->device, other = b->member.view->device;
    return a->low < a->high && b->low < b->high && a->low < b->high && b->low < a->high && on.type == other.type &&
           on.index == other.index;
}

/* Whether an output that overlaps another tensor may do so. */
static bool is_in_place(const extent_t *output, const extent_t *other) {
    if (!(output->member.rule->flags & AC_IN_PLACE) || other->member.rule->flags & AC_WRITTEN) return false;
    const bool is_all_parts = other->member.rule->flags & AC_EACH && other->member.number < 0;
    const ac_view_t *view = output->member.view, *input = other->member.view;
    return is_all_parts ? ac_view_is_part(view, input) : ac_view_is_same(view, input);
}

int ac_check_own_memory(const char *op, const void *args, const ac_tensor_rule_t *rules, int count, ac_error_t *error) {
    extent_t extents[AC_MAX_TENSORS];
    const int found = find_extents(args, rules, count, extents);
    for (int i = 0; i < found; i++) {
        const unsigned flags = extents[i].member.rule->flags;
        if (!(flags & AC_WRITTEN) || extents[i].low == extents[i].high) continue;
        for (int j = 0; j < found; j++) {
            if (j == i || (j > i && (extents[j].member.rule->flags & AC_WRITTEN))) continue; /* a pair is met once */
            if (!overlap(&extents[i], &extents[j]) || is_in_place(&extents[i], &extents[j])) continue;
            char name[AC_MAX_NAME], shared[AC_MAX_NAME];
            return ac_fail(error, AC_ERROR_VALUE, "%s: %s: expected memory of its own%s, got memory shared with %s", op,
                           name_of(&extents[i].member, name),
                           flags & AC_IN_PLACE ? " or an input's, element by element" : "",
                           name_of(&extents[j].member, shared));
        }
    }
    return 0;
}
