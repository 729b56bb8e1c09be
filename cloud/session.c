/*
 * Sessions: see the header. Two cells a session:
 *
 *   session:<hash>, column user     {"username","generation","created",
 *                                    "last_seen","address","agent"}
 *   <username>:sessions, <hash>     "{}": to list and end them
 *
 * The list's cell is written first and removed last, so a session that works
 * can always be found and ended. A dangling list cell is dropped when met.
 */
#include "cloud/session.h"

#include <stdio.h>
#include <string.h>

#include <sodium.h>

#include "cloud/context.h"
#include "cloud/json.h"
#include "cloud/store.h"
#include "cloud/text.h"

#define TOUCH_MS (5 * 60 * 1000)

/* Column and row name of the session with this cookie; false if it cannot be
 * one of ours. */
static bool hash_cookie(struct slice cookie, char out[SESSION_HASH_TEXT + 1])
{
    uint8_t hash[SESSION_HASH_TEXT / 2];
    if (cookie.len != SESSION_UID_TEXT)
        return false;
    crypto_generichash(hash, sizeof hash, cookie.data, cookie.len, NULL, 0);
    sodium_bin2hex(out, SESSION_HASH_TEXT + 1, hash, sizeof hash);
    return true;
}

static bool hash_valid(struct slice hash)
{
    if (hash.len != SESSION_HASH_TEXT)
        return false;
    for (size_t i = 0; i < hash.len; i++) {
        uint8_t c = hash.data[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
            return false;
    }
    return true;
}

static struct store_name session_row(const char *hash)
{
    return store_name("session:%s", hash);
}

static void write_session(const struct session *s, uint64_t generation,
                          struct buf *out)
{
    cJSON *o = cJSON_CreateObject();
    json_add_text(o, "username", s->username);
    json_add_int(o, "generation", (int64_t)generation);
    json_add_int(o, "created", s->created_ms);
    json_add_int(o, "last_seen", s->last_seen_ms);
    json_add_text(o, "address", s->address);
    json_add_text(o, "agent", s->agent);
    json_write_take(o, out);
}

/* False if VALUE is not what write_session() writes. */
static bool parse_session(struct slice value, struct session *out,
                          uint64_t *generation)
{
    cJSON *o = json_parse_object(value);
    const char *username = json_text(o, "username");
    const char *address = json_text(o, "address");
    const char *agent = json_text(o, "agent");
    bool good = username != NULL && account_name_valid(slice_of(username));
    if (good) {
        snprintf(out->username, sizeof out->username, "%s", username);
        text_line(slice_of(address != NULL ? address : ""), out->address,
                  sizeof out->address);
        text_line(slice_of(agent != NULL ? agent : ""), out->agent,
                  sizeof out->agent);
        out->created_ms = json_int(o, "created", 0);
        out->last_seen_ms = json_int(o, "last_seen", 0);
        *generation = (uint64_t)json_int(o, "generation", 0);
    }
    cJSON_Delete(o);
    return good;
}

enum status session_create(const struct cloud_op *op,
                           const struct account *account,
                           const struct session_origin *origin,
                           struct session_uid *uid)
{
    uint8_t random[SESSION_UID_TEXT / 2];
    struct session_uid fresh;
    struct session s = {0};
    randombytes_buf(random, sizeof random);
    sodium_bin2hex(fresh.text, sizeof fresh.text, random, sizeof random);
    sodium_memzero(random, sizeof random);
    (void)hash_cookie(slice_of(fresh.text), s.hash);
    snprintf(s.username, sizeof s.username, "%s", account->username);
    s.created_ms = s.last_seen_ms = cloud_wall_ms(op->cloud);
    text_line(slice_of(origin->address), s.address, sizeof s.address);
    text_line(slice_of(origin->agent != NULL ? origin->agent : ""), s.agent,
              sizeof s.agent);

    struct buf value = {0};
    write_session(&s, account->generation, &value);
    struct store_name row = session_row(s.hash);
    enum status st = store_put_always(
        op, s.username, store_name("%s:sessions", s.username).text, s.hash,
        slice_of("{}"));
    if (st == ST_OK)
        st =
            store_put_always(op, row.text, row.text, "user", buf_slice(&value));
    buf_free(&value);
    if (st == ST_OK)
        *uid = fresh;
    return st;
}

/* Removes both cells, the list's last. */
static enum status remove_session(const struct cloud_op *op,
                                  const char *username, const char *hash)
{
    struct store_name row = session_row(hash);
    enum status st = store_delete(op, row.text, row.text, "user");
    if (st == ST_OK || st == ST_NOT_FOUND)
        st = store_delete(op, username,
                          store_name("%s:sessions", username).text, hash);
    return st == ST_NOT_FOUND ? ST_OK : st;
}

/* Notes the time of use, if the cell is still as it was read: an ended
 * session is not brought back. It may fail; then the session only ages. */
static void touch(const struct cloud_op *op, struct session *s,
                  uint64_t generation, struct slice seen)
{
    int64_t now_ms = cloud_wall_ms(op->cloud);
    if (now_ms - s->last_seen_ms < TOUCH_MS)
        return;
    struct session fresh = *s;
    fresh.last_seen_ms = now_ms;
    struct buf value = {0};
    write_session(&fresh, generation, &value);
    struct store_name row = session_row(s->hash);
    struct kv_batch *b = kv_batch_new(slice_of(row.text));
    kv_batch_require_equal(b, row.text, "user", seen);
    kv_batch_put(b, row.text, "user", buf_slice(&value));
    if (store_run(op, b, NULL) == ST_OK)
        s->last_seen_ms = now_ms;
    kv_batch_free(b);
    buf_free(&value);
}

static bool too_old(const struct cloud_op *op, const struct session *s)
{
    int64_t now_ms = cloud_wall_ms(op->cloud);
    return now_ms - s->created_ms >= op->cloud->o.session_end_ms ||
           now_ms - s->last_seen_ms >= op->cloud->o.session_idle_ms;
}

/* Reads the session HASH and the account; VALUE gets the cell. A session that
 * has ended is ST_UNAUTHENTICATED. */
static enum status read_session(const struct cloud_op *op, const char *hash,
                                struct session *s, struct account *a,
                                struct buf *value)
{
    struct store_name row = session_row(hash);
    enum status st = store_get(op, row.text, row.text, "user", value);
    if (st != ST_OK)
        return st == ST_NOT_FOUND ? ST_UNAUTHENTICATED : st;
    uint64_t generation = 0;
    if (!parse_session(buf_slice(value), s, &generation))
        return ST_CORRUPT;
    memcpy(s->hash, hash, sizeof s->hash);
    st = account_get(op, s->username, a);
    if (st != ST_OK && st != ST_NOT_FOUND)
        return st;
    if (st == ST_NOT_FOUND || a->state != ACCOUNT_ACTIVE ||
        a->generation != generation || too_old(op, s))
        return ST_UNAUTHENTICATED;
    return ST_OK;
}

enum status session_look_up(const struct cloud_op *op, struct slice cookie,
                            struct session *out, struct account *account)
{
    char hash[SESSION_HASH_TEXT + 1];
    if (!hash_cookie(cookie, hash))
        return ST_UNAUTHENTICATED;
    struct session s = {0};
    struct account a;
    struct buf value = {0};
    enum status st = read_session(op, hash, &s, &a, &value);
    if (st == ST_OK) {
        touch(op, &s, a.generation, buf_slice(&value));
        *out = s;
        if (account != NULL)
            *account = a;
    } else if (st == ST_UNAUTHENTICATED && s.username[0] != '\0') {
        /* Tidying; what fails here is met again. */
        if (remove_session(op, s.username, hash) != ST_OK)
            log_debug(cloud_log(op->cloud), "session", "not_removed", "user=%s",
                      s.username);
    }
    buf_free(&value);
    return st;
}

enum status session_end(const struct cloud_op *op, struct slice cookie)
{
    char hash[SESSION_HASH_TEXT + 1];
    if (!hash_cookie(cookie, hash))
        return ST_OK;
    struct store_name row = session_row(hash);
    struct session s = {0};
    uint64_t generation = 0;
    struct buf value = {0};
    enum status st = store_get(op, row.text, row.text, "user", &value);
    if (st == ST_OK && !parse_session(buf_slice(&value), &s, &generation))
        st = ST_CORRUPT;
    buf_free(&value);
    if (st != ST_OK)
        return st == ST_NOT_FOUND ? ST_OK : st;
    return remove_session(op, s.username, hash);
}

/* A page of the hashes in USERNAME's list; AFTER is moved on. */
static enum status list_hashes(const struct cloud_op *op, const char *username,
                               struct arena *arena, struct cell **cells,
                               size_t *count)
{
    struct store_name row = store_name("%s:sessions", username);
    struct kv_scan scan = {.partition = slice_of(username),
                           .row = slice_of(row.text),
                           .row_exact = true};
    bool more = false;
    enum status st = kv_scan_page(cloud_kv(op->cloud), &scan, cloud_op_left(op),
                                  arena, cells, count, &more);
    if (st == ST_NOT_FOUND) {
        *count = 0;
        st = ST_OK;
    }
    return st;
}

static void copy_hash(const struct cell *cell, char out[SESSION_HASH_TEXT + 1])
{
    memcpy(out, cell->column.data, SESSION_HASH_TEXT);
    out[SESSION_HASH_TEXT] = '\0';
}

enum status session_end_one(const struct cloud_op *op, const char *username,
                            struct slice hash)
{
    if (!hash_valid(hash))
        return ST_NOT_FOUND;
    char text[SESSION_HASH_TEXT + 1];
    memcpy(text, hash.data, SESSION_HASH_TEXT);
    text[SESSION_HASH_TEXT] = '\0';
    struct buf value = {0};
    enum status st = store_get(
        op, username, store_name("%s:sessions", username).text, text, &value);
    buf_free(&value);
    return st == ST_OK ? remove_session(op, username, text) : st;
}

enum status session_end_all(const struct cloud_op *op, const char *username)
{
    enum status st;
    size_t count;
    /* Each round removes a page; the next begins with what is left. */
    do {
        struct arena arena = {0};
        struct cell *cells = NULL;
        count = 0;
        st = list_hashes(op, username, &arena, &cells, &count);
        for (size_t i = 0; st == ST_OK && i < count; i++) {
            if (!hash_valid(cells[i].column)) {
                st = ST_CORRUPT;
                break;
            }
            char hash[SESSION_HASH_TEXT + 1];
            copy_hash(&cells[i], hash);
            st = remove_session(op, username, hash);
        }
        arena_free(&arena);
    } while (st == ST_OK && count > 0);
    return st;
}

enum status session_list(const struct cloud_op *op, const char *username,
                         struct arena *arena, struct session **out,
                         size_t *count)
{
    struct cell *cells = NULL;
    size_t cell_count = 0, n = 0;
    enum status st = list_hashes(op, username, arena, &cells, &cell_count);
    if (st != ST_OK)
        return st;
    struct session *list = arena_alloc(arena, (cell_count + 1) * sizeof *list);
    for (size_t i = 0; i < cell_count; i++) {
        if (!hash_valid(cells[i].column))
            return ST_CORRUPT;
        char hash[SESSION_HASH_TEXT + 1];
        copy_hash(&cells[i], hash);
        struct buf value = {0};
        struct account a;
        st = read_session(op, hash, &list[n], &a, &value);
        buf_free(&value);
        if (st == ST_OK)
            n++;
        else if (st == ST_UNAUTHENTICATED)
            list[n] = (struct session){0};
        else
            return st;
    }
    *out = list;
    *count = n;
    return ST_OK;
}

void session_csrf_token(struct slice cookie, char out[33])
{
    static const char purpose[] = "penncloud csrf token";
    uint8_t token[16];
    /* Keyed by the purpose, so that it shares nothing with the stored hash. */
    crypto_generichash(token, sizeof token, cookie.data, cookie.len,
                       (const uint8_t *)purpose, sizeof purpose - 1);
    sodium_bin2hex(out, 33, token, sizeof token);
}

bool session_csrf_matches(struct slice cookie, struct slice token)
{
    char expected[33];
    session_csrf_token(cookie, expected);
    return token.len == 32 && sodium_memcmp(token.data, expected, 32) == 0;
}
