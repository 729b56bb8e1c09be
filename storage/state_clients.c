/*
 * The client table (R23): what makes a retried request one request.
 *
 * Per client id: its session, the greatest oldest-open number applied, when
 * it was last heard (the seq of the last entry of that session, refused ones
 * too: unique, so it orders the table without a list), and the results of the
 * numbers from oldest-open on. A command of the session, at apply, and only
 * there, meets the first line that fits:
 *
 *   no such id, or another session      UNKNOWN_CLIENT, no effect at all
 *   (from here on: heard; oldest-open grows to the command's, results below
 *    it are forgotten)
 *   number below oldest-open            SUPERSEDED
 *   number at or above oldest-open+256  BUSY, not stored, may be retried
 *   number has a result                 that result
 *   BATCH                               execute, store the result
 *   SETTLE                              store VOID: it never will execute
 *
 * Above LIMIT_CLIENTS sessions, or LIMIT_CLIENT_TABLE bytes, the client
 * least recently heard makes room: so the encoded table always fits into one
 * message. One session's part is far below that limit, so the one that is
 * being heard never makes room for itself.
 *
 * Encoded for checkpoints, snapshots and digests, little endian, least
 * recently heard first: u32 count, then each: id, u64 session, oldest-open,
 * heard, u32 number of results, each u64 number, u32 length, result: u16
 * status, u16 failed, u8 more, u8 count, count times (u16 mutation, u64
 * value).
 */
#include "storage/state_private.h"

#include <assert.h>
#include <string.h>

#define RESULT_HEAD 6u
#define RESULT_VALUE 10u
#define RESULT_MAX (RESULT_HEAD + LIMIT_RESULT_VALUES * RESULT_VALUE)

_Static_assert(RESULT_MAX <= LIMIT_RESULT, "a stored result is bounded");
_Static_assert(LIMIT_CLIENT_WINDOW *(12 + RESULT_MAX) + KIB(1) <
                   LIMIT_CLIENT_TABLE / 16,
               "no session comes near the table's limit");

/* The least recently heard makes room. */
static void clients_trim(struct client_table *t)
{
    while (t->count > LIMIT_CLIENTS || t->bytes + 4 > LIMIT_CLIENT_TABLE) {
        client_table_remove(t, t->oldest);
    }
}

static bool result_get(const struct client *c, uint64_t number,
                       struct applied *out)
{
    const struct stored *s = client_result(c, number);
    if (s == NULL) {
        return false;
    }
    applied_set(out, ST_OK, 0);
    out->r.status = s->status;
    out->r.failed = s->failed;
    out->r.more = s->more;
    out->r.values_count = s->count;
    if (s->count > 0) {
        memcpy(out->values, s->values, s->count * sizeof(*s->values));
    }
    return true;
}

/* ---- R23 ---- */

bool state_begin(struct state *s, const struct command *c, uint64_t seq,
                 struct applied *out)
{
    struct client *k = client_table_find(&s->clients, c->client);
    if (k == NULL || k->session != c->session) {
        applied_set(out, ST_UNKNOWN_CLIENT, 0);
        return false;
    }
    client_table_hear(&s->clients, k, seq);
    if (c->oldest_open > k->oldest_open) {
        client_table_advance(&s->clients, k, c->oldest_open);
    }
    if (c->number < k->oldest_open) {
        applied_set(out, ST_SUPERSEDED, 0);
        return false;
    }
    if (c->number - k->oldest_open >= LIMIT_CLIENT_WINDOW) {
        applied_set(out, ST_BUSY, 0);
        return false;
    }
    return FORGETS(s) || !result_get(k, c->number, out);
}

#ifdef PENN_BUGS
void state_forget_requests(struct state *s)
{
    s->forgets = true;
}
#endif

void state_keep_result(struct state *s, const struct command *c,
                       const struct applied *result)
{
    struct client *k = client_table_find(&s->clients, c->client);
    assert(k != NULL);
    client_table_store_result(&s->clients, k, c->number, &result->r);
    clients_trim(&s->clients);
}

void state_introduce(struct state *s, struct id128 id, uint64_t seq)
{
    struct client *k = client_table_find(&s->clients, id);
    if (k != NULL) {
        client_table_remove(&s->clients, k);
    }
    (void)client_table_add(&s->clients, id, seq, seq);
    clients_trim(&s->clients);
}

/* Only what no entry still under way can change is told: a result, a number
 * below oldest-open (which only grows), and a session that was replaced. */
bool state_stored_result(const struct state *s, const struct command *c,
                         struct applied *out)
{
    if (FORGETS(s) || (c->kind != COMMAND_BATCH && c->kind != COMMAND_SETTLE)) {
        return false;
    }
    const struct client *k = client_table_find(&s->clients, c->client);
    if (k == NULL) {
        return false;
    }
    if (k->session > c->session) {
        applied_set(out, ST_UNKNOWN_CLIENT, 0);
        return true;
    }
    if (k->session != c->session) {
        return false;
    }
    if (c->number < k->oldest_open || c->number < c->oldest_open) {
        applied_set(out, ST_SUPERSEDED, 0);
        return true;
    }
    return result_get(k, c->number, out);
}

/* ---- encoding ---- */

static void result_encode(struct buf *b, const struct stored *r)
{
    buf_put_u64(b, r->number);
    buf_put_u32(b, RESULT_HEAD + r->count * RESULT_VALUE);
    buf_put_u16(b, r->status);
    buf_put_u16(b, r->failed);
    buf_put_u8(b, r->more);
    buf_put_u8(b, r->count);
    for (uint32_t i = 0; i < r->count; i++) {
        buf_put_u16(b, r->values[i].mutation);
        buf_put_u64(b, (uint64_t)r->values[i].value);
    }
}

static void client_encode(const struct client *c, struct buf *out)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < c->cap; i++) {
        count += c->slots[i].number != 0;
    }
    buf_put(out, c->id.b, sizeof(c->id.b));
    buf_put_u64(out, c->session);
    buf_put_u64(out, c->oldest_open);
    buf_put_u64(out, c->heard);
    buf_put_u32(out, count);
    for (uint64_t i = 0; i < c->cap; i++) {
        const struct stored *r = client_result(c, c->oldest_open + i);
        if (r != NULL) {
            result_encode(out, r);
        }
    }
}

void state_encode_clients(const struct state *s, struct buf *out)
{
    size_t before = out->len;
    buf_put_u32(out, s->clients.count);
    for (const struct client *c = s->clients.oldest; c != NULL; c = c->newer) {
        client_encode(c, out);
    }
    assert(out->full || out->len - before == s->clients.bytes + 4);
}

static bool result_decode(struct slice s, struct applied *out)
{
    struct cursor c = cursor_of(s);
    enum status status;
    applied_set(out, ST_OK, 0);
    out->r.status = cursor_u16(&c);
    out->r.failed = cursor_u16(&c);
    out->r.more = cursor_u8(&c);
    out->r.values_count = cursor_u8(&c);
    if (!status_from_wire(out->r.status, &status) ||
        out->r.values_count > LIMIT_RESULT_VALUES) {
        return false;
    }
    for (uint32_t i = 0; i < out->r.values_count; i++) {
        out->values[i].mutation = cursor_u16(&c);
        out->values[i].value = (int64_t)cursor_u64(&c);
    }
    return !c.bad && cursor_left(&c) == 0;
}

static bool load_results(struct state *s, struct client *k, struct cursor *c)
{
    uint32_t count = cursor_u32(c);
    uint64_t last = 0;
    for (uint32_t i = 0; i < count && !c->bad; i++) {
        struct applied r;
        uint64_t number = cursor_u64(c);
        uint32_t len = cursor_u32(c);
        struct slice v = cursor_bytes(c, len);
        if (c->bad || number <= last || number < k->oldest_open ||
            number - k->oldest_open >= LIMIT_CLIENT_WINDOW ||
            !result_decode(v, &r)) {
            return false;
        }
        client_table_store_result(&s->clients, k, number, &r.r);
        last = number;
    }
    return !c->bad;
}

enum status state_load_clients(struct state *s, struct slice encoded,
                               uint64_t applied_seq)
{
    struct cursor c = cursor_of(encoded);
    uint32_t count = cursor_u32(&c);
    uint64_t last = 0;
    assert(s->clients.count == 0);
    if (encoded.len > LIMIT_CLIENT_TABLE || count > LIMIT_CLIENTS) {
        return ST_CORRUPT;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct id128 id;
        struct slice bytes = cursor_bytes(&c, sizeof(id.b));
        uint64_t session = cursor_u64(&c), oldest_open = cursor_u64(&c);
        uint64_t heard = cursor_u64(&c);
        if (c.bad || heard <= last || heard > applied_seq || session > heard ||
            session == 0 || oldest_open == 0 ||
            oldest_open > STATE_NUMBER_MAX) {
            return ST_CORRUPT;
        }
        memcpy(id.b, bytes.data, sizeof(id.b));
        if (client_table_find(&s->clients, id) != NULL) {
            return ST_CORRUPT;
        }
        struct client *k = client_table_add(&s->clients, id, session, heard);
        k->oldest_open = oldest_open;
        if (!load_results(s, k, &c)) {
            return ST_CORRUPT;
        }
        last = heard;
    }
    return c.bad || cursor_left(&c) != 0 ? ST_CORRUPT : ST_OK;
}
