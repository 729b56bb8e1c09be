/*
 * pennctl check: are all replicas alike, and does what they hold fit
 * together?
 *
 * Digests: every member of a tablet's in-sync set is asked for the digest of
 * its state. Digests of different seqs say nothing, so on a busy tablet all
 * are asked again until they tell of the same entry. Then the schema: each
 * tablet is read from its primary as of one pinned instant (SCAN_TABLET), and
 * given to cloud/check.h.
 *
 * Exit status 1: something differs or does not fit; 3: something could not be
 * looked at before the deadline.
 */
#include "admin/ctl.h"

#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#include "cloud/check.h"

#define AGAIN_MS 20 /* between two rounds of questions to a busy tablet */

struct check {
    struct ctl *c;
    int64_t deadline_ms;
    cJSON *problems; /* NULL: printed */
    uint32_t tablets, unchecked, replicas;
    uint64_t differences;
    struct cloud_check_counts counts;
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Nothing tells when a replica has applied the next entry. */
static bool again(const struct check *k)
{
    if (now_ms() + AGAIN_MS >= k->deadline_ms) {
        return false;
    }
    (void)poll(NULL, 0, AGAIN_MS);
    return true;
}

/* As ctl_ask(), but never beyond the deadline of the whole. */
static enum status ask(struct check *k, uint32_t node, struct buf *request_take,
                       enum msg_type type, struct arena *arena,
                       struct wire_msg *answer)
{
    int64_t left = k->deadline_ms - now_ms();
    int usual = k->c->timeout_ms;
    if (left <= 0) {
        buf_free(request_take);
        return ST_TIMEOUT;
    }
    k->c->timeout_ms = left < usual ? (int)left : usual;
    enum status s = ctl_ask(k->c, node, request_take, type, arena, answer);
    k->c->timeout_ms = usual;
    return s;
}

static void say(void *ctx, const char *text)
{
    struct check *k = ctx;
    if (k->problems != NULL) {
        cJSON_AddItemToArray(k->problems, cJSON_CreateString(text));
    } else {
        (void)printf("%s\n", text);
    }
}

/* ---- digests ---- */

static const struct tablet_config *config_of(struct check *k, uint32_t tablet,
                                             struct arena *a)
{
    const struct msg_map *m = kv_map(k->c->kv, a);
    for (uint32_t i = 0; m != NULL && i < m->tablets_count; i++) {
        if (m->tablets[i].tablet == tablet) {
            return &m->tablets[i];
        }
    }
    return NULL;
}

static enum status ask_digest(struct check *k, uint32_t node, uint32_t tablet,
                              struct msg_digest *out)
{
    struct buf request = {0};
    struct arena a = {0};
    struct wire_msg m;
    struct msg_digest_ask question = {.tablet = tablet};
    wire_put_digest_ask(&request, 0, &question);
    enum status s = ask(k, node, &request, MSG_DIGEST, &a, &m);
    if (s == ST_OK) {
        *out = m.u.digest;
    }
    arena_free(&a);
    return s;
}

static void tell_difference(struct check *k, const struct tablet_config *t,
                            const struct msg_digest *d)
{
    char text[256], digest[33];
    k->differences++;
    for (uint32_t i = 0; i < t->in_sync_count; i++) {
        id128_format(d[i].digest, digest);
        (void)snprintf(text, sizeof(text),
                       "tablet %u: node %u at %" PRIu64 ".%" PRIu64
                       ": digest %s, %" PRIu64 " cells, %" PRIu64 " bytes",
                       (unsigned)t->tablet, (unsigned)t->in_sync[i].node,
                       d[i].applied.epoch, d[i].applied.seq, digest, d[i].cells,
                       d[i].bytes);
        say(k, text);
    }
}

/* Asks all once. ST_OK: compared; ST_BUSY: they were not at the same entry. */
static enum status compare_once(struct check *k, uint32_t tablet)
{
    struct arena a = {0};
    struct msg_digest d[LIMIT_REPLICAS];
    const struct tablet_config *t = config_of(k, tablet, &a);
    enum status s = t != NULL && t->in_sync_count > 0 ? ST_OK : ST_UNREACHABLE;
    bool alike = true;
    for (uint32_t i = 0; s == ST_OK && i < t->in_sync_count; i++) {
        s = ask_digest(k, t->in_sync[i].node, tablet, &d[i]);
        if (s == ST_OK && !name_equal(d[i].applied, d[0].applied)) {
            s = ST_BUSY;
        }
        alike = alike && s == ST_OK && id128_equal(d[i].digest, d[0].digest) &&
                d[i].cells == d[0].cells && d[i].bytes == d[0].bytes;
    }
    if (s == ST_OK) {
        k->replicas += t->in_sync_count;
        if (!alike) {
            tell_difference(k, t, d);
        }
    }
    arena_free(&a);
    return s;
}

static void not_checked(struct check *k, uint32_t tablet, enum status s)
{
    char text[128];
    (void)snprintf(text, sizeof(text), "tablet %u: not checked: %s",
                   (unsigned)tablet,
                   s == ST_BUSY ? "its replicas were never seen at the same "
                                  "entry"
                                : status_text(s));
    k->unchecked++;
    say(k, text);
}

static void check_digests(struct check *k, const struct msg_map *m)
{
    for (uint32_t i = 0; i < m->tablets_count; i++) {
        enum status s;
        do {
            s = compare_once(k, m->tablets[i].tablet);
        } while (s != ST_OK && again(k));
        if (s != ST_OK) {
            not_checked(k, m->tablets[i].tablet, s);
        }
    }
}

/* ---- the schema ---- */

/* One page after the key in FROM, into ARENA. */
static enum status ask_page(struct check *k, uint32_t node,
                            const struct msg_scan_tablet *from,
                            struct arena *arena, struct msg_tablet_page *out)
{
    struct buf request = {0};
    struct wire_msg m;
    wire_put_scan_tablet(&request, 0, from);
    enum status s = ask(k, node, &request, MSG_TABLET_PAGE, arena, &m);
    if (s == ST_OK) {
        *out = m.u.tablet_page;
    }
    return s;
}

static void release(struct check *k, uint32_t node,
                    struct msg_scan_tablet *from)
{
    struct arena a = {0};
    struct msg_tablet_page page;
    from->release = 1;
    /* If it fails, the snapshot goes by itself after a while. */
    enum status s = ask_page(k, node, from, &a, &page);
    (void)s;
    arena_free(&a);
}

/* Reads TABLET at one instant from NODE. */
static enum status read_tablet(struct check *k, uint32_t tablet, uint32_t node,
                               struct cloud_check *schema)
{
    struct msg_scan_tablet from = {.tablet = tablet, .snapshot = SNAPSHOT_NEW};
    struct arena last = {0}; /* holds the cursor */
    enum status s = ST_OK;
    bool more = true;
    while (s == ST_OK && more) {
        struct arena arena = {0};
        struct msg_tablet_page page = {0};
        s = ask_page(k, node, &from, &arena, &page);
        for (uint32_t i = 0; s == ST_OK && i < page.cells_count; i++) {
            cloud_check_cell(schema, &page.cells[i]);
            from.has_after = 1;
            from.after_partition = page.cells[i].partition;
            from.after_row = page.cells[i].row;
            from.after_column = page.cells[i].column;
        }
        more = page.more != 0 && page.cells_count > 0;
        from.snapshot = page.snapshot;
        if (page.cells_count > 0) { /* FROM points into it now */
            arena_free(&last);
            last = arena;
        } else {
            arena_free(&arena);
        }
    }
    if (s == ST_OK) {
        release(k, node, &from);
    }
    arena_free(&last);
    return s;
}

/* What is said about a tablet is kept back until it was read to its end. */
struct heard {
    struct buf lines; /* each ends with NUL */
};

static void keep(void *ctx, const char *text)
{
    struct heard *h = ctx;
    buf_put(&h->lines, text, strlen(text) + 1);
}

static void pass_on(struct check *k, const struct heard *h)
{
    size_t at = 0;
    while (at < h->lines.len) {
        const char *text = (const char *)h->lines.data + at;
        say(k, text);
        at += strlen(text) + 1;
    }
}

static enum status check_tablet(struct check *k, uint32_t tablet)
{
    struct arena a = {0};
    struct heard heard = {{0}};
    struct cloud_check_counts n;
    const struct tablet_config *t = config_of(k, tablet, &a);
    enum status s = ST_UNREACHABLE;
    struct cloud_check *schema = cloud_check_new(keep, &heard);
    if (t != NULL && t->primary.node != 0) {
        s = read_tablet(k, tablet, t->primary.node, schema);
    }
    if (s == ST_OK) {
        cloud_check_finish(schema, &n);
        k->counts.cells += n.cells;
        k->counts.accounts += n.accounts;
        k->counts.folders += n.folders;
        k->counts.messages += n.messages;
        k->counts.problems += n.problems;
        pass_on(k, &heard);
    }
    cloud_check_free(schema);
    buf_free(&heard.lines);
    arena_free(&a);
    return s;
}

static void check_schema(struct check *k, const struct msg_map *m)
{
    for (uint32_t i = 0; i < m->tablets_count; i++) {
        enum status s;
        do {
            s = check_tablet(k, m->tablets[i].tablet);
        } while (s != ST_OK && again(k));
        if (s != ST_OK) {
            not_checked(k, m->tablets[i].tablet, s);
        }
    }
}

/* ---- the command ---- */

static void report(const struct check *k, cJSON *root)
{
    if (root == NULL) {
        (void)printf("%u tablets, %u replicas compared: %" PRIu64
                     " differ, %u not checked\n"
                     "%" PRIu64 " cells, %" PRIu64 " accounts, %" PRIu64
                     " messages: %" PRIu64 " problems\n",
                     (unsigned)k->tablets, (unsigned)k->replicas,
                     k->differences, (unsigned)k->unchecked, k->counts.cells,
                     k->counts.accounts, k->counts.messages,
                     k->counts.problems);
        return;
    }
    cJSON_AddNumberToObject(root, "tablets", k->tablets);
    cJSON_AddNumberToObject(root, "replicas", k->replicas);
    cJSON_AddNumberToObject(root, "differences", (double)k->differences);
    cJSON_AddNumberToObject(root, "unchecked", k->unchecked);
    cJSON_AddNumberToObject(root, "cells", (double)k->counts.cells);
    cJSON_AddNumberToObject(root, "accounts", (double)k->counts.accounts);
    cJSON_AddNumberToObject(root, "messages", (double)k->counts.messages);
    cJSON_AddNumberToObject(root, "schema_problems",
                            (double)k->counts.problems);
    ctl_print_take(root);
}

int ctl_cmd_check(struct ctl *c, int argc, char **argv)
{
    const char *text;
    long long wait_s = 60;
    bool digests_only = ctl_take_flag(&argc, argv, "--digests-only");
    if ((ctl_take_option(&argc, argv, "--wait", &text) &&
         !ctl_parse_number(text, 1, 86400, &wait_s)) ||
        !ctl_end_options(&argc, argv) || argc != 0) {
        return ctl_misuse("check");
    }
    struct check k = {.c = c, .deadline_ms = now_ms() + wait_s * 1000};
    struct arena a = {0};
    cJSON *root = c->json ? cJSON_CreateObject() : NULL;
    k.problems = c->json ? cJSON_AddArrayToObject(root, "problems") : NULL;
    const struct msg_map *m = kv_map(c->kv, &a);
    k.tablets = m != NULL ? m->tablets_count : 0;
    if (m != NULL) {
        check_digests(&k, m);
        if (!digests_only) {
            check_schema(&k, m);
        }
    }
    arena_free(&a);
    report(&k, root);
    if (k.differences + k.counts.problems > 0) {
        return CTL_NO;
    }
    return k.unchecked > 0 || k.tablets == 0 ? CTL_UNREACHABLE : CTL_DONE;
}
