#include "findings.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUCKETS = 1024 };

typedef struct node_t {
    gs_finding_t finding;
    struct node_t *next; /* in the bucket */
} node_t;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static node_t *buckets[BUCKETS];
static node_t **list; /* in the order of finding */
static int count, room;

static node_t **bucket_of(uint64_t offset, gs_report_kind_t kind) {
    return &buckets[(offset / 4 * 5 + (unsigned)kind) % BUCKETS];
}

static node_t *find(const char *kernel, uint64_t offset, gs_report_kind_t kind) {
    for (node_t *node = *bucket_of(offset, kind); node; node = node->next) {
        const gs_finding_t *have = &node->finding;
        bool same = have->offset == offset && have->kind == kind;
        if (same && strncmp(have->kernel, kernel, sizeof have->kernel - 1) == 0) return node;
    }
    return NULL;
}

static bool make_room(void) {
    if (count < room) return true;
    int more = room ? 2 * room : 64;
    node_t **grown = realloc(list, (size_t)more * sizeof *list);
    if (!grown) return false;
    list = grown;
    room = more;
    return true;
}

bool gs_findings_again(const char *kernel, uint64_t offset, gs_report_kind_t kind, int64_t slack) {
    pthread_mutex_lock(&lock);
    node_t *node = find(kernel, offset, kind);
    if (node && slack < node->finding.slack) node->finding.slack = slack;
    pthread_mutex_unlock(&lock);
    return node != NULL;
}

void gs_findings_add(const char *kernel, uint64_t offset, gs_report_kind_t kind, int64_t slack, const char *text) {
    pthread_mutex_lock(&lock);
    node_t *node = !find(kernel, offset, kind) && make_room() ? calloc(1, sizeof *node) : NULL;
    if (node) {
        node_t **bucket = bucket_of(offset, kind);
        node->finding.kind = kind;
        node->finding.offset = offset;
        node->finding.slack = slack;
        snprintf(node->finding.kernel, sizeof node->finding.kernel, "%s", kernel);
        snprintf(node->finding.text, sizeof node->finding.text, "%s", text);
        node->next = *bucket;
        *bucket = list[count++] = node;
    }
    pthread_mutex_unlock(&lock);
}

bool gs_findings_get(int index, gs_finding_t *finding) {
    pthread_mutex_lock(&lock);
    bool known = index >= 0 && index < count;
    if (known) *finding = list[index]->finding;
    pthread_mutex_unlock(&lock);
    return known;
}

void gs_findings_clear(void) {
    pthread_mutex_lock(&lock);
    for (int i = 0; i < count; i++) free(list[i]);
    free(list);
    list = NULL;
    count = room = 0;
    memset(buckets, 0, sizeof buckets);
    pthread_mutex_unlock(&lock);
}
