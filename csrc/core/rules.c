/* Tensor rules: parsing a shape's text against a tensor, and the checks that a row stands for. */
#include "rules.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define TEXT 192

/* One dimension of a shape's text. */
typedef struct {
    uint64_t symbol;  /* see ac_symbol; 0: a number alone */
    int64_t constant; /* the number, or what is added to the symbol */
    bool or_more;
} dim_t;

void ac_sizes_init(ac_sizes_t *sizes, const char *op) {
    sizes->op = op;
    sizes->count = 0;
    sizes->leader = NULL;
}

static const char *symbol_text(uint64_t symbol, char text[9]) {
    int length = 0;
    for (int shift = 56; shift >= 0; shift -= 8)
        if (symbol >> shift & 0xff) text[length++] = (char)(symbol >> shift & 0xff);
    text[length] = '\0';
    return text;
}

/* Without room nothing is bound, and the first shape with the symbol is refused. */
static void bind(ac_sizes_t *sizes, uint64_t symbol, int64_t size, const char *origin) {
    int i = ac_size_place(sizes, symbol);
    if (i == AC_MAX_SIZES) return;
    if (i == sizes->count) sizes->count++;
    sizes->sizes[i].symbol = symbol;
    sizes->sizes[i].size = size;
    sizes->sizes[i].origin = origin;
}

void ac_size_bind(ac_sizes_t *sizes, const char *symbol, int64_t size, const char *origin) {
    bind(sizes, ac_symbol(symbol), size, origin);
}

static bool is_digit(char c) { return c >= '0' && c <= '9'; }
static bool is_of_symbol(char c) { return ((c | 32) >= 'a' && (c | 32) <= 'z') || c == '_' || is_digit(c); }

/* Reads one dimension; returns what follows it. */
static inline const char *read_dim(const char *text, dim_t *out_dim) {
    dim_t dim = {0};
    while (*text == ' ') text++;
    if (!is_digit(*text)) {
        dim.symbol = (unsigned char)*text++; /* most are one letter */
        if (*text == ' ' || *text == '\0') {
            *out_dim = dim;
            return text;
        }
        while (is_of_symbol(*text)) dim.symbol = dim.symbol << 8 | (unsigned char)*text++;
    }
    if (*text == '+') text++;
    while (is_digit(*text)) dim.constant = dim.constant * 10 + (*text++ - '0');
    dim.or_more = text[0] == '.';
    *out_dim = dim;
    return dim.or_more ? text + 2 : text;
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
        const int at = ac_size_place(sizes, dim->symbol);
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

/* Whether the dimension may have this size, which a symbol that is seen first takes. */
static inline bool take(ac_sizes_t *sizes, const dim_t *dim, int64_t size, const char *origin) {
    int64_t wanted = dim->constant;
    if (dim->symbol) {
        const int at = ac_size_place(sizes, dim->symbol);
        if (at == sizes->count) {
            if (size < dim->constant || at == AC_MAX_SIZES) return false;
            bind(sizes, dim->symbol, size - dim->constant, origin);
            return true;
        }
        wanted += sizes->sizes[at].size;
    }
    return dim->or_more ? size >= wanted : size == wanted;
}

/* Against the shape at *text, which is moved to what ends it. Where the view does not have it, no symbol is bound, so
 * that a refusal shows what was known beforehand. */
static inline bool matches(ac_sizes_t *sizes, const ac_view_t *view, const char *origin, const char **text) {
    const int count = sizes->count;
    bool all = true;
    int ndim = 0;
    while (**text && **text != '|') {
        dim_t dim;
        *text = read_dim(*text, &dim);
        all = all && ndim < view->ndim && take(sizes, &dim, view->shape[ndim], origin);
        ndim++;
    }
    if (all && ndim == view->ndim) return true;
    sizes->count = count;
    return false;
}

/* Shows the shape of the tensor's rank, or else the first. */
static int fail_shape(ac_arg_t arg, const char *shape, const ac_sizes_t *sizes, ac_error_t *error) {
    dim_t dims[AC_MAX_NDIM], shown[AC_MAX_NDIM];
    int ndim, shown_ndim = -1;
    char expected[TEXT], got[TEXT];
    for (const char *next = shape; next; next = *next ? next + 1 : NULL) {
        next = read_dims(next, dims, &ndim);
        if (sizes->count + ndim > AC_MAX_SIZES) /* a mistake in the op's rows, which its first call shows */
            return ac_fail(error, AC_ERROR_UNSUPPORTED,
                           "%s: %s: expected at most %d symbols in an op's shapes, got more", arg.op, arg.name,
                           AC_MAX_SIZES);
        if (shown_ndim >= 0 && (shown_ndim == arg.view->ndim || ndim != arg.view->ndim)) continue;
        memcpy(shown, dims, sizeof dims);
        shown_ndim = ndim;
    }
    expected_text(sizes, shown, shown_ndim, expected, sizeof expected);
    return ac_fail(error, AC_ERROR_VALUE, "%s: %s: expected shape %s, got %s", arg.op, arg.name, expected,
                   ac_shape_text(arg.view, got, sizeof got));
}

/* Any of the shapes that the row has. */
static int check_shape(ac_arg_t arg, const ac_tensor_rule_t *rule, ac_sizes_t *sizes, ac_error_t *error) {
    const char *text = rule->shape;
    for (;;) {
        if (matches(sizes, arg.view, rule->name, &text)) return 0;
        if (!*text++) return fail_shape(arg, rule->shape, sizes, error);
    }
}

static int check_device(ac_arg_t arg, const ac_tensor_rule_t *rule, ac_sizes_t *sizes, ac_error_t *error) {
    const ac_device_t device = arg.view->device;
    if (!sizes->leader) {
        if (!(rule->flags & AC_LEADS)) return 0;
        sizes->leader = rule->name;
        sizes->device = device;
        return 0;
    }
    if (device.type == sizes->device.type && device.index == sizes->device.index) return 0;
    if ((rule->flags & AC_HOST_TOO) && device.type == AC_DEVICE_CPU) return 0;
    return ac_check_device(arg, sizes->device, sizes->leader, error);
}

/* A tensor of a row. */
typedef struct {
    const ac_tensor_rule_t *rule;
    const ac_view_t *view;
    int number; /* of a sequence: its place; else -1 */
} member_t;

static const void *field_of(const void *args, const ac_tensor_rule_t *rule) {
    return (const char *)args + rule->offset;
}

/* Of a row without AC_EACH; NULL: none. */
static const ac_view_t *view_of(const void *args, const ac_tensor_rule_t *rule) {
    return *(const ac_view_t *const *)field_of(args, rule);
}

static member_t member_of(const ac_tensors_arg_t *tensors, const ac_tensor_rule_t *rule, int i) {
    return (member_t){rule, tensors->views[i], tensors->is_sequence ? i : -1};
}

/* "lse", or "lse[2]" */
static const char *name_of(const member_t *member, char text[AC_MAX_NAME]) {
    if (member->number < 0) return member->rule->name;
    snprintf(text, AC_MAX_NAME, "%s[%d]", member->rule->name, member->number);
    return text;
}

static inline int check_tensor(ac_arg_t arg, const ac_tensor_rule_t *rule, ac_sizes_t *sizes, ac_error_t *error) {
    const unsigned flags = rule->flags;
    if (!arg.view) return flags & AC_MAY_BE_NONE ? 0 : ac_check_given(arg, error);
    if (rule->dtypes && !ac_dtype_in(arg.view->dtype, rule->dtypes)) return ac_check_dtype(arg, rule->dtypes, error);
    if (rule->shape && check_shape(arg, rule, sizes, error) < 0) return -1;
    if ((flags & AC_ONE_ELEMENT) && ac_check_one_element(arg, error) < 0) return -1;
    if ((flags & AC_DENSE_ROWS) && ac_check_dense_rows(arg, error) < 0) return -1;
    if ((flags & AC_CONTIGUOUS) && ac_check_contiguous(arg, error) < 0) return -1;
    if (check_device(arg, rule, sizes, error) < 0) return -1;
    return (flags & AC_WRITTEN) && !(flags & AC_CONTIGUOUS) ? ac_check_output(arg, error) : 0;
}

/* Where there is no tensor, views[0] is NULL. */
static int check_each(const ac_tensors_arg_t *tensors, const ac_tensor_rule_t *rule, ac_sizes_t *sizes,
                      ac_error_t *error) {
    char text[AC_MAX_NAME];
    for (int i = 0; i == 0 || i < tensors->count; i++) {
        const member_t member = member_of(tensors, rule, i);
        if (check_tensor((ac_arg_t){sizes->op, name_of(&member, text), member.view}, rule, sizes, error) < 0) return -1;
    }
    return 0;
}

int ac_check_tensors(const void *args, const ac_tensor_rule_t *rules, int count, ac_sizes_t *sizes, ac_error_t *error) {
    for (const ac_tensor_rule_t *rule = rules; rule < rules + count; rule++) {
        if (rule->flags & AC_EACH) {
            if (check_each(field_of(args, rule), rule, sizes, error) < 0) return -1;
            continue;
        }
        const ac_view_t *view = view_of(args, rule);
        if (!view && (rule->flags & AC_MAY_BE_NONE)) continue;
        if (check_tensor((ac_arg_t){sizes->op, rule->name, view}, rule, sizes, error) < 0) return -1;
    }
    return 0;
}

static bool has_elements(const ac_view_t *view) { return view && view->low < view->high; }

/* Those with elements. */
static int find_memory(const void *args, const ac_tensor_rule_t *rules, int count, member_t *out_members) {
    int found = 0;
    for (const ac_tensor_rule_t *rule = rules; rule < rules + count && found < AC_MAX_TENSORS; rule++) {
        if (!(rule->flags & AC_EACH)) {
            const ac_view_t *view = view_of(args, rule);
            if (has_elements(view)) out_members[found++] = (member_t){rule, view, -1};
            continue;
        }
        const ac_tensors_arg_t *tensors = field_of(args, rule);
        for (int i = 0; i < tensors->count && found < AC_MAX_TENSORS; i++)
            if (has_elements(tensors->views[i])) out_members[found++] = member_of(tensors, rule, i);
    }
    return found;
}

static bool overlap(const ac_view_t *a, const ac_view_t *b) {
    return a->low < b->high && b->low < a->high && a->device.type == b->device.type &&
           a->device.index == b->device.index;
}

/* Whether an output that overlaps another tensor may do so. */
static bool is_in_place(const member_t *output, const member_t *other) {
    if (!(output->rule->flags & AC_IN_PLACE) || other->rule->flags & AC_WRITTEN) return false;
    const bool is_all_parts = other->rule->flags & AC_EACH && other->number < 0;
    const ac_view_t *view = output->view, *input = other->view;
    return is_all_parts ? ac_view_is_part(view, input) : ac_view_is_same(view, input);
}

int ac_check_own_memory(const char *op, const void *args, const ac_tensor_rule_t *rules, int count, ac_error_t *error) {
    member_t members[AC_MAX_TENSORS];
    const int found = find_memory(args, rules, count, members);
    for (int i = 0; i < found; i++) {
        const unsigned flags = members[i].rule->flags;
        if (!(flags & AC_WRITTEN)) continue;
        for (int j = 0; j < found; j++) {
            if (!overlap(members[i].view, members[j].view) || j == i) continue;
            if (j > i && (members[j].rule->flags & AC_WRITTEN)) continue; /* a pair is met once, as the later's fault */
            if (is_in_place(&members[i], &members[j])) continue;
            char name[AC_MAX_NAME], shared[AC_MAX_NAME];
            return ac_fail(error, AC_ERROR_VALUE, "%s: %s: expected memory of its own%s, got memory shared with %s", op,
                           name_of(&members[i], name), flags & AC_IN_PLACE ? " or an input's, element by element" : "",
                           name_of(&members[j], shared));
        }
    }
    return 0;
}
