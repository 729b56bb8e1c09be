/*
 * The search for an order that explains a key's history.
 *
 * The asked-answered list holds two entries an operation, by time; one that
 * has no certain answer has none to the right. From the left, each operation
 * before the first answer may come next; it is lifted out if the state allows
 * it and (set of operations done, state) was not seen before. Meeting an
 * answer means that its operation must have come already: the last choice is
 * undone. It ends well when no answered operation is left: those of unknown
 * outcome may stay undone.
 *
 * The set is not kept but its hash: each operation has 128 random bits, the
 * set's hash is their sum by exclusive or. Two sets look equal by chance once
 * in 2^100 searches.
 */
#include "tests/sim/history.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#define STATES_MAX (UINT32_C(1) << 21)

struct op {
    struct history_ask ask;
    enum history_outcome outcome;
    int64_t value;
    uint64_t asked, answered; /* order of events; answered 0: not */
    int64_t answered_us;
};

struct history {
    struct op *ops;
    uint32_t count, cap;
    uint32_t keys;
    uint64_t events;
};

struct history *history_new(void)
{
    return xcalloc(1, sizeof(struct history));
}

void history_free(struct history *h)
{
    if (h != NULL) {
        free(h->ops);
        free(h);
    }
}

uint32_t history_invoke(struct history *h, const struct history_ask *ask)
{
    if (h->count == h->cap) {
        h->cap = h->cap == 0 ? 256 : 2 * h->cap;
        h->ops = xrealloc(h->ops, h->cap * sizeof(*h->ops));
    }
    struct op *op = &h->ops[h->count];
    memset(op, 0, sizeof(*op));
    op->ask = *ask;
    op->asked = ++h->events;
    h->keys = ask->key >= h->keys ? ask->key + 1 : h->keys;
    return h->count++;
}

void history_return(struct history *h, uint32_t id,
                    enum history_outcome outcome, int64_t value,
                    int64_t time_us)
{
    assert(id < h->count && h->ops[id].answered == 0);
    struct op *op = &h->ops[id];
    op->outcome = outcome;
    op->value = value;
    op->answered = ++h->events;
    op->answered_us = time_us;
}

uint32_t history_keys(const struct history *h)
{
    return h->keys;
}

uint32_t history_length(const struct history *h)
{
    return h->count;
}

void history_sum(const struct history *h, uint32_t key, int64_t *certain,
                 int64_t *most)
{
    *certain = *most = 0;
    for (uint32_t i = 0; i < h->count; i++) {
        const struct op *op = &h->ops[i];
        if (op->ask.key != key || op->ask.kind != HISTORY_INCREMENT) {
            continue;
        }
        *certain += op->outcome == HISTORY_OK ? op->ask.argument : 0;
        *most += op->outcome != HISTORY_REFUSED ? op->ask.argument : 0;
    }
}

static bool list_wrong(struct buf *why, uint32_t key, uint32_t id,
                       const char *what)
{
    buf_printf(why, "P1: list of key %u: operation %u %s\n", key, id, what);
    return false;
}

bool history_check_list(const struct history *h, uint32_t key,
                        const uint32_t *ids, uint32_t count, struct buf *why)
{
    uint32_t *place = xcalloc((size_t)h->count + 1, sizeof(*place));
    bool good = true;
    for (uint32_t i = 0; i < count && good; i++) {
        if (ids[i] >= h->count || h->ops[ids[i]].ask.key != key) {
            good = list_wrong(why, key, ids[i], "was never asked");
        } else if (place[ids[i]] != 0) {
            good = list_wrong(why, key, ids[i], "is there twice");
        } else {
            place[ids[i]] = i + 1;
        }
    }
    for (uint32_t i = 0; i < h->count && good; i++) {
        const struct op *op = &h->ops[i];
        if (op->ask.key != key || op->ask.kind != HISTORY_INCREMENT) {
            continue;
        }
        if (op->outcome == HISTORY_OK && place[i] != op->value) {
            good = list_wrong(why, key, i,
                              place[i] == 0 ? "is lost" : "is elsewhere");
        } else if (op->outcome == HISTORY_REFUSED && place[i] != 0) {
            good = list_wrong(why, key, i, "was refused and is there");
        }
    }
    free(place);
    return good;
}

/* ---- one operation ---- */

static bool is_certain(const struct op *op)
{
    return op->outcome == HISTORY_OK || op->outcome == HISTORY_CONFLICT;
}

/* True if OP may happen in STATE; *NEXT is the state after. */
static bool op_apply(const struct op *op, int64_t state, int64_t *next)
{
    bool known = is_certain(op);
    *next = state;
    switch (op->ask.kind) {
    case HISTORY_GET:
        return !known || op->value == state;
    case HISTORY_PUT:
        *next = op->ask.argument;
        return true;
    case HISTORY_CPUT:
        if (op->outcome == HISTORY_CONFLICT) {
            return state != op->ask.expected;
        }
        *next = op->ask.argument;
        return state == op->ask.expected;
    case HISTORY_DELETE:
        *next = HISTORY_ABSENT;
        return true;
    case HISTORY_INCREMENT:
        *next = (state == HISTORY_ABSENT ? 0 : state) + op->ask.argument;
        return !known || *next == op->value;
    }
    return false;
}

/* ---- states seen ---- */

struct seen {
    uint64_t (*slots)[2];
    uint32_t mask, count;
};

static bool seen_slot(struct seen *s, const uint64_t k[2], uint64_t (**out)[2])
{
    for (uint32_t i = (uint32_t)k[0] & s->mask;; i = (i + 1) & s->mask) {
        if (s->slots[i][0] == 0 && s->slots[i][1] == 0) {
            *out = &s->slots[i];
            return false;
        }
        if (s->slots[i][0] == k[0] && s->slots[i][1] == k[1]) {
            return true;
        }
    }
}

static void seen_grow(struct seen *s)
{
    struct seen bigger = {.mask = s->mask == 0 ? 1023 : 2 * s->mask + 1,
                          .count = s->count};
    bigger.slots = xcalloc(bigger.mask + 1, sizeof(*bigger.slots));
    for (uint32_t i = 0; s->slots != NULL && i <= s->mask; i++) {
        uint64_t(*to)[2];
        if (s->slots[i][0] == 0 && s->slots[i][1] == 0) {
            continue;
        }
        bool there = seen_slot(&bigger, s->slots[i], &to);
        assert(!there);
        memcpy(*to, s->slots[i], sizeof(*to));
    }
    free(s->slots);
    *s = bigger;
}

/* True if K was not there yet. */
static bool seen_add(struct seen *s, const uint64_t k[2])
{
    if (s->slots == NULL || s->count >= s->mask / 2) {
        seen_grow(s);
    }
    uint64_t(*to)[2];
    if (seen_slot(s, k, &to)) {
        return false;
    }
    memcpy(*to, k, sizeof(*to));
    s->count++;
    return true;
}

/* ---- the search ---- */

/* An entry of the asked-answered list. */
struct entry {
    uint32_t op;
    uint32_t prev, next;
    uint32_t partner; /* the other entry of OP; 0: none */
    bool answer;
    uint64_t order;
};

struct search {
    const struct history *h;
    struct entry *list; /* 0 is the head and the end */
    uint32_t count;
    uint32_t answers; /* answered operations not yet done */
    struct {
        uint32_t entry;
        int64_t state;
    } * done;
    uint32_t depth;
    uint64_t hash[2];
    struct seen seen;
};

static uint64_t mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static void toggle(struct search *s, uint32_t op)
{
    s->hash[0] ^= mix(op * UINT64_C(2) + 1);
    s->hash[1] ^= mix((op * UINT64_C(2) + 1) ^ UINT64_C(0x5bd1e9955bd1e995));
}

static void unlink_entry(struct search *s, uint32_t e)
{
    s->list[s->list[e].prev].next = s->list[e].next;
    s->list[s->list[e].next].prev = s->list[e].prev;
}

static void relink_entry(struct search *s, uint32_t e)
{
    s->list[s->list[e].prev].next = e;
    s->list[s->list[e].next].prev = e;
}

static void lift(struct search *s, uint32_t e)
{
    unlink_entry(s, e);
    if (s->list[e].partner != 0) {
        unlink_entry(s, s->list[e].partner);
        s->answers--;
    }
    toggle(s, s->list[e].op);
}

static void unlift(struct search *s, uint32_t e)
{
    if (s->list[e].partner != 0) {
        relink_entry(s, s->list[e].partner);
        s->answers++;
    }
    relink_entry(s, e);
    toggle(s, s->list[e].op);
}

static int by_order(const void *a, const void *b)
{
    const struct entry *x = a, *y = b;
    return x->order < y->order ? -1 : x->order > y->order;
}

/* An unknown put whose value nobody read explains nothing but a conflict; an
 * unknown read explains nothing at all. Fewer of them, less to search. */
static bool matters(const struct history *h, const struct op *op)
{
    if (is_certain(op)) {
        return true;
    }
    if (op->outcome == HISTORY_REFUSED || op->ask.kind == HISTORY_GET) {
        return false;
    }
    if (op->ask.kind != HISTORY_PUT && op->ask.kind != HISTORY_CPUT) {
        return true;
    }
    for (uint32_t i = 0; i < h->count; i++) {
        const struct op *o = &h->ops[i];
        if (o->ask.key != op->ask.key ||
            (is_certain(o) && o->answered < op->asked)) {
            continue;
        }
        if (o->outcome == HISTORY_CONFLICT ||
            (o->ask.kind == HISTORY_GET && o->value == op->ask.argument) ||
            (o->ask.kind == HISTORY_CPUT &&
             o->ask.expected == op->ask.argument)) {
            return true;
        }
    }
    return false;
}

static void search_init(struct search *s, const struct history *h, uint32_t key)
{
    memset(s, 0, sizeof(*s));
    s->h = h;
    s->list = xcalloc(2 * (size_t)h->count + 1, sizeof(*s->list));
    s->done = xcalloc((size_t)h->count + 1, sizeof(*s->done));
    for (uint32_t i = 0; i < h->count; i++) {
        const struct op *op = &h->ops[i];
        if (op->ask.key != key || !matters(h, op)) {
            continue;
        }
        s->list[++s->count] = (struct entry){.op = i, .order = op->asked};
        if (is_certain(op)) {
            s->list[++s->count] =
                (struct entry){.op = i, .answer = true, .order = op->answered};
            s->answers++;
        }
    }
    qsort(s->list + 1, s->count, sizeof(*s->list), by_order);
    uint32_t *asked = xcalloc((size_t)h->count + 1, sizeof(*asked));
    for (uint32_t i = 0; i <= s->count; i++) {
        struct entry *e = &s->list[i];
        e->prev = i == 0 ? s->count : i - 1;
        e->next = i == s->count ? 0 : i + 1;
        if (i > 0 && !e->answer) {
            asked[e->op] = i;
        } else if (i > 0) {
            e->partner = asked[e->op];
            s->list[e->partner].partner = i;
        }
    }
    free(asked);
}

static void search_fini(struct search *s)
{
    free(s->list);
    free(s->done);
    free(s->seen.slots);
}

/* Tries to let entry AT come next in *STATE; true if it did. */
static bool search_forward(struct search *s, uint32_t at, int64_t *state)
{
    int64_t next;
    if (!op_apply(&s->h->ops[s->list[at].op], *state, &next)) {
        return false;
    }
    toggle(s, s->list[at].op);
    uint64_t k[2] = {s->hash[0] ^ mix((uint64_t)next + 1), s->hash[1]};
    toggle(s, s->list[at].op);
    if (!seen_add(&s->seen, k)) {
        return false;
    }
    s->done[s->depth].entry = at;
    s->done[s->depth++].state = *state;
    lift(s, at);
    *state = next;
    return true;
}

static enum history_verdict search_run(struct search *s)
{
    int64_t state = HISTORY_ABSENT;
    uint32_t at = s->list[0].next;
    while (s->answers > 0) {
        if (s->seen.count > STATES_MAX) {
            return HISTORY_UNDECIDED;
        }
        if (at != 0 && !s->list[at].answer) {
            at = search_forward(s, at, &state) ? s->list[0].next
                                               : s->list[at].next;
            continue;
        }
        if (s->depth == 0) {
            return HISTORY_BAD;
        }
        s->depth--;
        uint32_t last = s->done[s->depth].entry;
        state = s->done[s->depth].state;
        unlift(s, last);
        at = s->list[last].next;
    }
    return HISTORY_GOOD;
}

enum history_verdict history_check_key(const struct history *h, uint32_t key)
{
    struct search s;
    search_init(&s, h, key);
    enum history_verdict verdict = search_run(&s);
    search_fini(&s);
    return verdict;
}

enum history_verdict history_check(const struct history *h, struct buf *why)
{
    enum history_verdict verdict = HISTORY_GOOD;
    for (uint32_t key = 0; key < h->keys; key++) {
        enum history_verdict v = history_check_key(h, key);
        if (v == HISTORY_BAD) {
            buf_printf(why, "I3: no order explains key %u:\n", key);
            history_print(h, key, why);
            return v;
        }
        verdict = v == HISTORY_UNDECIDED ? v : verdict;
    }
    return verdict;
}

/* ---- for people ---- */

static void print_value(struct buf *out, int64_t v)
{
    if (v == HISTORY_ABSENT) {
        buf_put_text(out, "absent");
    } else {
        buf_printf(out, "%lld", (long long)v);
    }
}

void history_print(const struct history *h, uint32_t key, struct buf *out)
{
    static const char *const kinds[] = {"get", "put", "cput", "delete",
                                        "increment"};
    static const char *const outcomes[] = {"open", "ok", "conflict", "refused",
                                           "unknown"};
    for (uint32_t i = 0; i < h->count; i++) {
        const struct op *op = &h->ops[i];
        if (op->ask.key != key) {
            continue;
        }
        buf_printf(out, "  %10lld .. %10lld  client %u %s",
                   (long long)op->ask.time_us, (long long)op->answered_us,
                   op->ask.client, kinds[op->ask.kind]);
        if (op->ask.kind == HISTORY_CPUT) {
            buf_put_text(out, " ");
            print_value(out, op->ask.expected);
            buf_put_text(out, " ->");
        }
        if (op->ask.kind != HISTORY_GET && op->ask.kind != HISTORY_DELETE) {
            buf_put_text(out, " ");
            print_value(out, op->ask.argument);
        }
        buf_printf(out, ": %s", outcomes[op->outcome]);
        if (op->outcome == HISTORY_OK && (op->ask.kind == HISTORY_GET ||
                                          op->ask.kind == HISTORY_INCREMENT)) {
            buf_put_text(out, " ");
            print_value(out, op->value);
        }
        buf_put_text(out, "\n");
    }
}
