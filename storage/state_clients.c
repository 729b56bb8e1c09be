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
 * The table is a copy-on-write tree like the cells, of three kinds of pairs
 * (numbers big endian, so that they sort):
 *   'c' id             -> session, oldest-open, heard
 *   'h' heard          -> id
 *   'r' id number      -> result: u16 status, u16 failed, u8 more, u8 count,
 *                         count times (u16 mutation, u64 value)
 * Above LIMIT_CLIENTS sessions, or LIMIT_CLIENT_TABLE bytes, the client
 * least recently heard makes room: so the encoded table always fits into one
 * message. One session's part is far below that limit, so the one that is
 * being heard never makes room for itself.
 *
 * Encoded for checkpoints and snapshots, little endian, least recently heard
 * first: u32 count, then each: id, session, oldest-open, heard, u32 number of
 * results, each u64 number, u32 length, result.
 */
#include "storage/state_private.h"

#include <assert.h>
#include <string.h>

#define RESULT_HEAD 6
#define RESULT_VALUE 10
#define RESULT_MAX (RESULT_HEAD + LIMIT_RESULT_VALUES * RESULT_VALUE)
#define CLIENT_KEY_MAX 25

_Static_assert(RESULT_MAX <= LIMIT_RESULT, "a stored result is bounded");
_Static_assert(LIMIT_CLIENT_WINDOW *(CLIENT_KEY_MAX + RESULT_MAX) + KIB(1) <
                   LIMIT_CLIENT_TABLE / 16,
               "no session comes near the table's limit");

struct client {
    uint64_t session, oldest_open, heard;
};

/* ---- keys and values ---- */

struct client_key {
    uint8_t bytes[CLIENT_KEY_MAX];
    size_t len;
};

static void put_be(struct client_key *k, uint64_t v)
{
    for (int i = 0; i < 8; i++) {
        k->bytes[k->len++] = (uint8_t)(v >> (56 - 8 * i));
    }
}

static uint64_t get_be(const uint8_t *from)
{
    uint64_t v = 0;
    for (int i = 0; i < 8; i++) {
        v = v << 8 | from[i];
    }
    return v;
}

static struct client_key key_of_id(char kind, struct id128 id)
{
    struct client_key k = {.len = 17};
    k.bytes[0] = (uint8_t)kind;
    memcpy(k.bytes + 1, id.b, 16);
    return k;
}

static struct client_key key_of_result(struct id128 id, uint64_t number)
{
    struct client_key k = key_of_id('r', id);
    put_be(&k, number);
    return k;
}

static struct client_key key_of_heard(uint64_t seq)
{
    struct client_key k = {.bytes = {'h'}, .len = 1};
    put_be(&k, seq);
    return k;
}

static struct slice key_bytes(const struct client_key *k)
{
    return slice_make(k->bytes, k->len);
}

static bool client_get(const struct cells *table, struct id128 id,
                       struct client *out)
{
    struct client_key k = key_of_id('c', id);
    struct slice v;
    if (!cells_get(table, key_bytes(&k), &v)) {
        return false;
    }
    struct cursor c = cursor_of(v);
    out->session = cursor_u64(&c);
    out->oldest_open = cursor_u64(&c);
    out->heard = cursor_u64(&c);
    assert(!c.bad);
    return true;
}

static void client_put(struct cells *table, struct id128 id,
                       const struct client *c)
{
    struct client_key by_id = key_of_id('c', id);
    struct client_key by_heard = key_of_heard(c->heard);
    struct buf b = {0};
    buf_put_u64(&b, c->session);
    buf_put_u64(&b, c->oldest_open);
    buf_put_u64(&b, c->heard);
    cells_put(table, key_bytes(&by_id), buf_slice(&b));
    cells_put(table, key_bytes(&by_heard), slice_make(id.b, sizeof(id.b)));
    buf_free(&b);
}

/* Forgets ID's results below NUMBER. */
static void results_drop(struct cells *table, struct id128 id, uint64_t number)
{
    struct client_key first = key_of_id('r', id), k;
    struct tree_iter it;
    for (;;) {
        tree_seek(table->tree, key_bytes(&first), &it);
        if (!tree_valid(&it) ||
            !slice_starts_with(tree_iter_key(&it), key_bytes(&first))) {
            return;
        }
        uint64_t n = get_be(tree_iter_key(&it).data + 17);
        if (n >= number) {
            return;
        }
        k = key_of_result(id, n);
        (void)cells_remove(table, key_bytes(&k));
    }
}

static void client_drop(struct state *s, struct id128 id)
{
    struct client c;
    bool there = client_get(&s->clients, id, &c);
    assert(there);
    struct client_key by_id = key_of_id('c', id);
    struct client_key by_heard = key_of_heard(c.heard);
    (void)cells_remove(&s->clients, key_bytes(&by_id));
    (void)cells_remove(&s->clients, key_bytes(&by_heard));
    results_drop(&s->clients, id, UINT64_MAX);
    s->client_count--;
}

/* The least recently heard makes room. */
static void clients_trim(struct state *s)
{
    while (s->client_count > LIMIT_CLIENTS ||
           s->clients.bytes > LIMIT_CLIENT_TABLE) {
        struct client_key first = key_of_heard(0);
        struct tree_iter it;
        struct id128 id;
        tree_seek(s->clients.tree, key_bytes(&first), &it);
        assert(tree_valid(&it) && tree_iter_key(&it).data[0] == 'h');
        memcpy(id.b, tree_iter_value(&it).bytes.data, sizeof(id.b));
        client_drop(s, id);
    }
}

/* ---- results ---- */

static void result_encode(struct buf *b, const struct result *r)
{
    buf_put_u16(b, r->status);
    buf_put_u16(b, r->failed);
    buf_put_u8(b, r->more);
    buf_put_u8(b, (uint8_t)r->values_count);
    for (uint32_t i = 0; i < r->values_count; i++) {
        buf_put_u16(b, r->values[i].mutation);
        buf_put_u64(b, (uint64_t)r->values[i].value);
    }
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

static bool result_get(const struct cells *table, struct id128 id,
                       uint64_t number, struct applied *out)
{
    struct client_key k = key_of_result(id, number);
    struct slice v;
    if (!cells_get(table, key_bytes(&k), &v)) {
        return false;
    }
    bool good = result_decode(v, out);
    assert(good);
    return true;
}

/* ---- R23 ---- */

bool clients_begin(struct state *s, const struct command *c, uint64_t seq,
                   struct applied *out)
{
    struct client k;
    if (!client_get(&s->clients, c->client, &k) || k.session != c->session) {
        applied_set(out, ST_UNKNOWN_CLIENT, 0);
        return false;
    }
    struct client_key was = key_of_heard(k.heard);
    (void)cells_remove(&s->clients, key_bytes(&was));
    k.heard = seq;
    if (c->oldest_open > k.oldest_open) {
        k.oldest_open = c->oldest_open;
        results_drop(&s->clients, c->client, k.oldest_open);
    }
    client_put(&s->clients, c->client, &k);
    if (c->number < k.oldest_open) {
        applied_set(out, ST_SUPERSEDED, 0);
        return false;
    }
    if (c->number - k.oldest_open >= LIMIT_CLIENT_WINDOW) {
        applied_set(out, ST_BUSY, 0);
        return false;
    }
    return FORGETS(s) || !result_get(&s->clients, c->client, c->number, out);
}

#ifdef PENN_BUGS
void state_forget_requests(struct state *s)
{
    s->forgets = true;
}
#endif

void clients_store(struct state *s, const struct command *c,
                   const struct applied *result)
{
    struct client_key k = key_of_result(c->client, c->number);
    struct buf b = {0};
    result_encode(&b, &result->r);
    cells_put(&s->clients, key_bytes(&k), buf_slice(&b));
    buf_free(&b);
    clients_trim(s);
}

void clients_introduce(struct state *s, struct id128 id, uint64_t seq)
{
    struct client c;
    if (client_get(&s->clients, id, &c)) {
        client_drop(s, id);
    }
    c = (struct client){.session = seq, .oldest_open = 1, .heard = seq};
    client_put(&s->clients, id, &c);
    s->client_count++;
    clients_trim(s);
}

/* Only what no entry still under way can change is told: a result, a number
 * below oldest-open (which only grows), and a session that was replaced. */
bool state_stored_result(const struct state *s, const struct command *c,
                         struct applied *out)
{
    struct client k;
    if (FORGETS(s) || (c->kind != COMMAND_BATCH && c->kind != COMMAND_SETTLE) ||
        !client_get(&s->clients, c->client, &k)) {
        return false;
    }
    if (k.session > c->session) {
        applied_set(out, ST_UNKNOWN_CLIENT, 0);
        return true;
    }
    if (k.session != c->session) {
        return false;
    }
    if (c->number < k.oldest_open || c->number < c->oldest_open) {
        applied_set(out, ST_SUPERSEDED, 0);
        return true;
    }
    return result_get(&s->clients, c->client, c->number, out);
}

/* ---- encoding ---- */

static void client_encode(const struct cells *table, struct id128 id,
                          struct buf *out)
{
    struct client c;
    struct tree_iter it;
    struct client_key first = key_of_id('r', id);
    bool there = client_get(table, id, &c);
    assert(there);
    buf_put(out, id.b, sizeof(id.b));
    buf_put_u64(out, c.session);
    buf_put_u64(out, c.oldest_open);
    buf_put_u64(out, c.heard);
    size_t count_at = out->len;
    uint32_t count = 0;
    buf_put_u32(out, 0);
    for (tree_seek(table->tree, key_bytes(&first), &it);
         tree_valid(&it) &&
         slice_starts_with(tree_iter_key(&it), key_bytes(&first));
         tree_next(&it)) {
        struct slice v = tree_iter_value(&it).bytes;
        buf_put_u64(out, get_be(tree_iter_key(&it).data + 17));
        buf_put_u32(out, (uint32_t)v.len);
        buf_put_slice(out, v);
        count++;
    }
    for (int i = 0; i < 4 && !out->full; i++) {
        out->data[count_at + (size_t)i] = (uint8_t)(count >> (8 * i));
    }
}

void clients_encode(const struct cells *clients, struct buf *out)
{
    struct client_key first = key_of_heard(0);
    struct tree_iter start, it;
    uint32_t count = 0;
    tree_seek(clients->tree, key_bytes(&first), &start);
    for (it = start; tree_valid(&it) && tree_iter_key(&it).data[0] == 'h';
         tree_next(&it)) {
        count++;
    }
    buf_put_u32(out, count);
    for (it = start; tree_valid(&it) && tree_iter_key(&it).data[0] == 'h';
         tree_next(&it)) {
        struct id128 id;
        memcpy(id.b, tree_iter_value(&it).bytes.data, sizeof(id.b));
        client_encode(clients, id, out);
    }
}

static bool load_results(struct state *s, struct id128 id,
                         const struct client *k, struct cursor *c)
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
        struct client_key key = key_of_result(id, number);
        cells_put(&s->clients, key_bytes(&key), v);
        last = number;
    }
    return !c->bad;
}

enum status state_load_clients(struct state *s, struct slice encoded)
{
    struct cursor c = cursor_of(encoded);
    uint32_t count = cursor_u32(&c);
    uint64_t last = 0;
    assert(s->client_count == 0);
    if (encoded.len > LIMIT_CLIENT_TABLE || count > LIMIT_CLIENTS) {
        return ST_CORRUPT;
    }
    for (uint32_t i = 0; i < count; i++) {
        struct id128 id;
        struct client k, old;
        struct slice bytes = cursor_bytes(&c, sizeof(id.b));
        k.session = cursor_u64(&c);
        k.oldest_open = cursor_u64(&c);
        k.heard = cursor_u64(&c);
        if (c.bad || k.heard <= last || k.session > k.heard || k.session == 0 ||
            k.oldest_open == 0 || k.oldest_open > STATE_NUMBER_MAX) {
            return ST_CORRUPT;
        }
        memcpy(id.b, bytes.data, sizeof(id.b));
        if (client_get(&s->clients, id, &old) || !load_results(s, id, &k, &c)) {
            return ST_CORRUPT;
        }
        client_put(&s->clients, id, &k);
        s->client_count++;
        last = k.heard;
    }
    return c.bad || cursor_left(&c) != 0 ? ST_CORRUPT : ST_OK;
}
