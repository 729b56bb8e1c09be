#include "tests/crash/ledger.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "storage/wal.h"

struct key {
    uint64_t tablet, epoch, seq;
};

struct slot {
    bool used;
    struct key key;
    struct id128 what;
};

struct table {
    struct slot *at;
    size_t count, cap; /* a power of two */
};

struct ledger {
    struct table entries, states;
    struct trace_value *values;
    size_t value_count, value_cap;
    uint64_t term;
    struct trace_identity identity;
    struct promised tablets[LEDGER_TABLETS];
};

/* ---- tables ---- */

static struct slot *place(const struct table *t, const struct key *k)
{
    size_t i = (size_t)XXH3_64bits(k, sizeof(*k)) & (t->cap - 1);
    while (t->at[i].used && memcmp(&t->at[i].key, k, sizeof(*k)) != 0) {
        i = (i + 1) & (t->cap - 1);
    }
    return &t->at[i];
}

static void grow(struct table *t)
{
    struct table bigger = {.count = t->count,
                           .cap = t->cap == 0 ? 1024 : 2 * t->cap};
    bigger.at = xcalloc(bigger.cap, sizeof(*bigger.at));
    for (size_t i = 0; i < t->cap; i++) {
        if (t->at[i].used) {
            *place(&bigger, &t->at[i].key) = t->at[i];
        }
    }
    free(t->at);
    *t = bigger;
}

static struct key key_of(uint32_t tablet, struct name name)
{
    return (struct key){tablet, name.epoch, name.seq};
}

/* Names are for ever: one that comes again has the same contents. */
static void learn(struct table *t, struct key k, struct id128 what,
                  const char *of)
{
    if (2 * t->count >= t->cap) {
        grow(t);
    }
    struct slot *s = place(t, &k);
    if (s->used && memcmp(&s->what, &what, sizeof(what)) != 0) {
        fprintf(stderr, "tablet %llu: two %s are named (%llu, %llu)\n",
                (unsigned long long)k.tablet, of, (unsigned long long)k.epoch,
                (unsigned long long)k.seq);
        exit(1);
    }
    t->count += !s->used;
    *s = (struct slot){true, k, what};
}

static bool look(const struct table *t, struct key k, struct id128 *out)
{
    const struct slot *s = t->cap == 0 ? NULL : place(t, &k);
    if (s == NULL || !s->used) {
        return false;
    }
    *out = s->what;
    return true;
}

/* ---- what there was ---- */

static void learn_append(struct ledger *l, const struct trace_record *r)
{
    struct trace_append a;
    struct id128 what = {{0}};
    trace_get(r, &a, sizeof(a));
    if (a.kind == WAL_ENTRY) {
        memcpy(what.b, &a.hash, sizeof(a.hash));
        learn(&l->entries, key_of(a.tablet, a.name), what, "entries");
    }
}

static void learn_value(struct ledger *l, const struct trace_record *r)
{
    if (l->value_count == l->value_cap) {
        l->value_cap = l->value_cap == 0 ? 64 : 2 * l->value_cap;
        l->values = xrealloc(l->values, l->value_cap * sizeof(*l->values));
    }
    trace_get(r, &l->values[l->value_count++], sizeof(*l->values));
}

void ledger_learn(struct ledger *l, const struct trace *t)
{
    for (size_t i = 0; i < t->count; i++) {
        const struct trace_record *r = &t->at[i];
        struct trace_state s;
        if (r->h.kind == TRACE_APPEND) {
            learn_append(l, r);
        } else if (r->h.kind == TRACE_STATE) {
            trace_get(r, &s, sizeof(s));
            learn(&l->states, key_of(s.tablet, s.name), s.digest, "states");
        } else if (r->h.kind == TRACE_VALUE) {
            learn_value(l, r);
        }
    }
}

bool ledger_entry(const struct ledger *l, uint32_t tablet, struct name name,
                  uint64_t *hash)
{
    struct id128 what;
    if (!look(&l->entries, key_of(tablet, name), &what)) {
        return false;
    }
    memcpy(hash, what.b, sizeof(*hash));
    return true;
}

bool ledger_state(const struct ledger *l, uint32_t tablet, struct name name,
                  struct id128 *digest)
{
    return look(&l->states, key_of(tablet, name), digest);
}

bool ledger_value(const struct ledger *l, const struct trace_value *v)
{
    for (size_t i = 0; i < l->value_count; i++) {
        if (memcmp(&l->values[i], v, sizeof(*v)) == 0) {
            return true;
        }
    }
    return false;
}

/* ---- what was promised ---- */

/* A cut takes back what lies beyond it, whoever had been told (R12 d); a
 * replica that is filled anew has promised nothing yet (R17). */
static void on_append(struct ledger *l, const struct trace_record *r)
{
    static const struct name none;
    struct trace_append a;
    trace_get(r, &a, sizeof(a));
    assert(a.tablet < LEDGER_TABLETS);
    struct promised *p = &l->tablets[a.tablet];
    if (a.kind == WAL_CUT && p->name.seq > a.name.seq) {
        p->name = a.name;
    } else if (a.kind == WAL_RESET) {
        p->name = none;
    } else if (a.kind == WAL_DROP) {
        *p = (struct promised){none, 0};
    }
}

static void on_promise(struct ledger *l, const struct trace_record *r)
{
    struct trace_promise t;
    trace_get(r, &t, sizeof(t));
    assert(t.tablet < LEDGER_TABLETS);
    struct promised *p = &l->tablets[t.tablet];
    p->epoch = t.epoch > p->epoch ? t.epoch : p->epoch;
    p->name = t.name.seq > p->name.seq ? t.name : p->name;
}

static void on_told(struct ledger *l, const struct trace_record *r)
{
    struct trace_value v;
    trace_get(r, &v, sizeof(v));
    l->term = v.promised > l->term ? v.promised : l->term;
}

void ledger_step(struct ledger *l, const struct trace_record *r)
{
    switch (r->h.kind) {
    case TRACE_IDENTITY:
        trace_get(r, &l->identity, sizeof(l->identity));
        return;
    case TRACE_APPEND:
        on_append(l, r);
        return;
    case TRACE_PROMISE:
        on_promise(l, r);
        return;
    case TRACE_TOLD:
        on_told(l, r);
        return;
    default:
        return;
    }
}

const struct promised *ledger_promised(const struct ledger *l, uint32_t tablet)
{
    assert(tablet < LEDGER_TABLETS);
    return &l->tablets[tablet];
}

const struct trace_identity *ledger_identity(const struct ledger *l)
{
    return &l->identity;
}

uint64_t ledger_term(const struct ledger *l)
{
    return l->term;
}

struct ledger *ledger_new(void)
{
    return xcalloc(1, sizeof(struct ledger));
}

void ledger_free(struct ledger *l)
{
    free(l->entries.at);
    free(l->states.at);
    free(l->values);
    free(l);
}
