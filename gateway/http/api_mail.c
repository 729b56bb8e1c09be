/*
 * Reading mail: folders, lists, one message, its HTML for the sandboxed
 * frame, its parts, its bytes; and what can be done to messages.
 *
 * Whatever is not the caller's own is not found: every lookup goes through
 * his own partition, so another's uid leads nowhere.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/mailbox.h"
#include "gateway/http/html.h"
#include "gateway/http/json.h"

#define ACTION_UIDS 200

/* ---- folders and lists ---- */

void http_api_folders(struct http_call *c)
{
    struct mailbox_folder *f;
    size_t count;
    enum status s = mailbox_folders(&c->op, c->account.username, &c->req->arena,
                                    &f, &count);
    if (s != ST_OK) {
        http_call_fail(c, s);
        return;
    }
    cJSON *root = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(root, "folders");
    for (size_t i = 0; i < count; i++) {
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "id", f[i].id);
        cJSON_AddStringToObject(o, "name", f[i].name);
        cJSON_AddStringToObject(o, "role", f[i].role);
        cJSON_AddNumberToObject(o, "unread", (double)f[i].unread);
        cJSON_AddNumberToObject(o, "total", (double)f[i].total);
        cJSON_AddItemToArray(list, o);
    }
    http_json_reply(c, 200, root);
}

static void add_entry(cJSON *o, const struct mailbox_entry *e)
{
    cJSON_AddStringToObject(o, "uid", e->uid);
    cJSON_AddStringToObject(o, "from", e->from);
    cJSON_AddStringToObject(o, "to", e->to);
    cJSON_AddStringToObject(o, "subject", e->subject);
    http_json_add_time(o, "date", e->date_ms);
    cJSON_AddStringToObject(o, "snippet", e->snippet);
    cJSON_AddNumberToObject(o, "size", (double)e->size);
    cJSON_AddBoolToObject(o, "read", (e->flags & MAILBOX_READ) != 0);
    cJSON_AddBoolToObject(o, "flagged", (e->flags & MAILBOX_FLAGGED) != 0);
    cJSON_AddBoolToObject(o, "answered", (e->flags & MAILBOX_ANSWERED) != 0);
    cJSON_AddNumberToObject(o, "attachments", e->attachments);
}

/* Query argument "limit": 1..LIMIT_LIST, 50 if absent; 0 if it is bad. */
static unsigned read_limit(struct http_call *c)
{
    const char *text = http_request_query(c->req, "limit");
    if (text == NULL)
        return 50;
    unsigned n = 0;
    for (; *text >= '0' && *text <= '9' && n <= LIMIT_LIST; text++)
        n = n * 10 + (unsigned)(*text - '0');
    return *text == '\0' && n <= LIMIT_LIST ? n : 0;
}

void http_api_list(struct http_call *c)
{
    struct mailbox_query q = {c->account.username, c->req->params[0],
                              read_limit(c),
                              http_request_query(c->req, "before")};
    struct mailbox_page page;
    if (q.limit == 0) {
        http_json_refuse(c, "limit", "must be a number from 1 to 200");
        return;
    }
    if (!mailbox_folder_valid(slice_of(q.folder))) {
        http_call_refuse(c, HTTP_ERROR_NOT_FOUND, NULL);
        return;
    }
    enum status s = mailbox_list(&c->op, &q, &c->req->arena, &page);
    if (s == ST_INVALID) {
        http_json_refuse(c, "before", "is not a cursor");
        return;
    }
    if (s != ST_OK) {
        http_call_fail(c, s);
        return;
    }
    cJSON *root = cJSON_CreateObject();
    cJSON *list = cJSON_AddArrayToObject(root, "messages");
    for (size_t i = 0; i < page.count; i++) {
        cJSON *o = cJSON_CreateObject();
        add_entry(o, &page.entries[i]);
        cJSON_AddItemToArray(list, o);
    }
    if (page.next[0] != '\0')
        cJSON_AddStringToObject(root, "next", page.next);
    else
        cJSON_AddNullToObject(root, "next");
    http_json_reply(c, 200, root);
}

/* ---- one message ---- */

/* A message of the caller's with all its bytes. */
struct loaded {
    struct mailbox_message info;
    struct buf raw;
    struct message *message;
};

static void unload(struct http_call *c, struct loaded *l)
{
    message_free(l->message);
    buf_free(&l->raw);
    buf_free(&l->info.header);
}

/* Loads the message that the path names; false: the call was answered. */
static bool load(struct http_call *c, struct loaded *l)
{
    memset(l, 0, sizeof(*l));
    const char *user = c->account.username, *uid = c->req->params[0];
    enum status s = mailbox_get(&c->op, user, uid, &c->req->arena, &l->info);
    if (s == ST_OK && !http_call_reserve(c, l->info.entry.size))
        s = ST_BUSY;
    if (s == ST_OK)
        s = mailbox_read_raw(&c->op, user, uid, &l->raw);
    if (s == ST_OK) {
        l->message = message_parse(buf_slice(&l->raw));
        return true;
    }
    unload(c, l);
    http_call_fail(c, s);
    return false;
}

/* What one cleaning may decode in all: a mail may name one large picture ten
 * thousand times. */
#define INLINE_IMAGE_MAX MIB(2)
#define INLINE_IMAGES_ENCODED (2 * (size_t)LIMIT_MESSAGE)
#define INLINE_IMAGES_COUNT 500

struct pictures {
    const struct message *message;
    size_t encoded; /* bytes decoded so far, before decoding */
    unsigned count;
};

static const struct message_part *find_picture(const struct message *m,
                                               const char *cid)
{
    static const char *const types[] = {"image/png", "image/gif", "image/jpeg",
                                        "image/webp"};
    const struct message_part *part = NULL;
    for (size_t i = 0; i < message_part_count(m) && part == NULL; i++) {
        const struct message_part *p = message_part_at(m, i);
        if (p->content_id != NULL && strcmp(p->content_id, cid) == 0)
            part = p;
    }
    bool known = false;
    for (size_t i = 0; part != NULL && i < sizeof(types) / sizeof(types[0]);
         i++)
        known |= strcmp(part->type, types[i]) == 0;
    return known && part->size <= INLINE_IMAGE_MAX ? part : NULL;
}

/* data: URI of the picture with a content id, for html_clean(). */
static bool inline_image(void *pictures, const char *cid, struct buf *out)
{
    struct pictures *p = pictures;
    if (p->count == INLINE_IMAGES_COUNT)
        return false;
    p->count++;
    const struct message_part *part = find_picture(p->message, cid);
    if (part == NULL || part->encoded > INLINE_IMAGES_ENCODED - p->encoded)
        return false;
    p->encoded += part->encoded;
    struct buf bytes = {.max = INLINE_IMAGE_MAX};
    bool ok = message_part_decode(p->message, part->number, &bytes) == ST_OK &&
              bytes.len > 0 && !bytes.full;
    if (ok) {
        buf_printf(out, "data:%s;base64,", part->type);
        http_base64_encode(buf_slice(&bytes), out);
    }
    buf_free(&bytes);
    return ok;
}

/* The clean form of M's HTML into OUT. Returns what was not fetched. */
static unsigned clean(const struct message *m, struct slice html,
                      struct buf *out)
{
    struct pictures p = {.message = m};
    struct html_options o = {inline_image, &p};
    unsigned blocked = 0;
    out->max = MIB(8);
    html_clean(html, &o, out, &blocked);
    return blocked;
}

static void add_bodies(cJSON *root, struct message *m)
{
    struct message_body body;
    struct buf cleaned = {0};
    unsigned blocked = 0;
    message_body(m, &body);
    if (body.html.len > 0) {
        blocked = clean(m, buf_slice(&body.html), &cleaned);
        buf_free(&cleaned);
    }
    cJSON_AddStringToObject(root, "text", buf_cstr(&body.text));
    cJSON_AddBoolToObject(root, "has_html", body.html.len > 0);
    cJSON_AddNumberToObject(root, "remote_images", blocked);
    cJSON_AddBoolToObject(root, "body_cut", body.cut);
    message_body_free(&body);
}

void http_api_message(struct http_call *c)
{
    struct loaded l;
    if (!load(c, &l))
        return;
    cJSON *root = cJSON_Parse(buf_cstr(&l.info.header));
    if (!cJSON_IsObject(root)) {
        cJSON_Delete(root);
        unload(c, &l);
        http_call_fail(c, ST_CORRUPT);
        return;
    }
    const struct mailbox_entry *e = &l.info.entry;
    cJSON_AddStringToObject(root, "uid", e->uid);
    cJSON_AddStringToObject(root, "folder", l.info.folder);
    http_json_add_time(root, "received", e->date_ms);
    cJSON_AddBoolToObject(root, "read", (e->flags & MAILBOX_READ) != 0);
    cJSON_AddBoolToObject(root, "flagged", (e->flags & MAILBOX_FLAGGED) != 0);
    cJSON_AddBoolToObject(root, "answered", (e->flags & MAILBOX_ANSWERED) != 0);
    add_bodies(root, l.message);
    unload(c, &l);
    http_json_reply(c, 200, root);
}

/* Nothing of the mail is in this frame but what html_clean() wrote. */
static const char html_head[] =
    "<!doctype html><html><head><meta charset=\"utf-8\"><title>Message</title>"
    "<style>:root{color-scheme:light}html{background:#fff}"
    "body{margin:0;padding:16px 20px;background:#fff;color:#1d2429;"
    "font:15px/1.55 system-ui,-apple-system,'Segoe UI',Roboto,sans-serif;"
    "overflow-wrap:anywhere}img{max-width:100%;height:auto}"
    "table{max-width:100%}pre{white-space:pre-wrap}a{color:#0b6b63}"
    "blockquote{margin:0 0 0 .4em;padding-left:1em;"
    "border-left:3px solid #cfd6d4;color:#55616a}</style></head><body>";

void http_api_html(struct http_call *c)
{
    struct loaded l;
    struct message_body body;
    struct buf cleaned = {0};
    if (!load(c, &l))
        return;
    message_body(l.message, &body);
    if (body.html.len == 0) {
        http_call_refuse(c, HTTP_ERROR_NOT_FOUND, NULL);
    } else {
        (void)clean(l.message, buf_slice(&body.html), &cleaned);
        c->res->policy = HTTP_POLICY_MAIL;
        c->res->content_type = "text/html; charset=utf-8";
        buf_put_text(&c->res->body, html_head);
        buf_put(&c->res->body, cleaned.data, cleaned.len);
        buf_put_text(&c->res->body, "</body></html>");
    }
    buf_free(&cleaned);
    message_body_free(&body);
    unload(c, &l);
}

/* Types that no browser runs, whatever happens to the other walls. */
static const char *harmless_type(const char *type)
{
    static const char *const good[] = {
        "image/png",       "image/jpeg", "image/gif",
        "image/webp",      "text/plain", "application/pdf",
        "application/zip", "text/csv",   "text/calendar"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
        if (strcmp(type, good[i]) == 0)
            return good[i];
    }
    return "application/octet-stream";
}

void http_api_part(struct http_call *c)
{
    struct loaded l;
    if (!load(c, &l))
        return;
    const struct message_part *part = NULL;
    for (size_t i = 0; i < message_part_count(l.message); i++) {
        const struct message_part *p = message_part_at(l.message, i);
        if (strcmp(p->number, c->req->params[1]) == 0)
            part = p;
    }
    enum status s = part == NULL ? ST_NOT_FOUND
                                 : message_part_decode(l.message, part->number,
                                                       &c->res->body);
    if (s != ST_OK) {
        http_call_fail(c, s);
    } else {
        c->res->policy = HTTP_POLICY_ATTACHMENT;
        c->res->content_type = harmless_type(part->type);
        http_response_header(
            c->res, "Content-Disposition",
            http_disposition(c->res, part->name == NULL ? "part" : part->name));
    }
    unload(c, &l);
}

void http_api_raw(struct http_call *c)
{
    struct mailbox_raw raw;
    const char *user = c->account.username, *uid = c->req->params[0];
    enum status s = mailbox_raw_open(&c->op, user, uid, &raw);
    if (s == ST_OK && !http_call_reserve(c, raw.size))
        s = ST_BUSY;
    if (s == ST_OK)
        s = mailbox_read_raw(&c->op, user, uid, &c->res->body);
    if (s != ST_OK) {
        http_call_fail(c, s);
        return;
    }
    char name[64];
    snprintf(name, sizeof(name), "%s.eml", raw.uid);
    c->res->policy = HTTP_POLICY_ATTACHMENT;
    c->res->content_type = "message/rfc822";
    http_response_header(c->res, "Content-Disposition",
                         http_disposition(c->res, name));
}

/* ---- actions ---- */

struct action {
    const char *name;
    unsigned set, clear;
};

static const struct action flag_actions[] = {
    {"read", MAILBOX_READ, 0},
    {"unread", 0, MAILBOX_READ},
    {"flag", MAILBOX_FLAGGED, 0},
    {"unflag", 0, MAILBOX_FLAGGED},
};

static enum status act(struct http_call *c, const char *action,
                       const char *folder, const char *uid)
{
    const char *user = c->account.username;
    if (strcmp(action, "move") == 0)
        return mailbox_move(&c->op, user, uid, folder);
    if (strcmp(action, "delete") == 0)
        return mailbox_delete(&c->op, user, uid);
    for (size_t i = 0; i < sizeof(flag_actions) / sizeof(flag_actions[0]);
         i++) {
        if (strcmp(action, flag_actions[i].name) == 0)
            return mailbox_set_flags(&c->op, user, uid, flag_actions[i].set,
                                     flag_actions[i].clear);
    }
    return ST_INVALID;
}

static bool action_known(const char *action)
{
    bool known = strcmp(action, "move") == 0 || strcmp(action, "delete") == 0;
    for (size_t i = 0; i < sizeof(flag_actions) / sizeof(flag_actions[0]); i++)
        known |= strcmp(action, flag_actions[i].name) == 0;
    return known;
}

/* Does it to each; those that fail are listed. If all did, the first failure
 * is the answer. */
static void act_on_all(struct http_call *c, const char *action,
                       const char *folder, const cJSON *uids)
{
    enum status first = ST_OK;
    int done = 0;
    cJSON *root = cJSON_CreateObject();
    cJSON *failed = cJSON_AddArrayToObject(root, "failed");
    const cJSON *uid;
    cJSON_ArrayForEach(uid, uids)
    {
        enum status s = act(c, action, folder, uid->valuestring);
        done += s == ST_OK;
        if (s == ST_OK)
            continue;
        if (first == ST_OK)
            first = s;
        cJSON *o = cJSON_CreateObject();
        cJSON_AddStringToObject(o, "uid", uid->valuestring);
        cJSON_AddStringToObject(o, "code", http_error_code(http_error_of(s)));
        cJSON_AddItemToArray(failed, o);
    }
    cJSON_AddNumberToObject(root, "done", done);
    if (done > 0) {
        http_json_reply(c, 200, root);
        return;
    }
    cJSON_Delete(root);
    http_call_fail(c, first);
}

static bool check_uids(struct http_call *c, const cJSON *uids)
{
    int n = cJSON_IsArray(uids) ? cJSON_GetArraySize(uids) : 0;
    bool good = n > 0 && n <= ACTION_UIDS;
    const cJSON *uid;
    if (good) {
        cJSON_ArrayForEach(uid, uids)
        {
            good &= cJSON_IsString(uid);
        }
    }
    if (!good)
        http_json_refuse(c, "uids", "must be a list of 1 to 200 uids");
    return good;
}

void http_api_actions(struct http_call *c)
{
    cJSON *o = http_json_body(c);
    if (o == NULL)
        return;
    const cJSON *uids = cJSON_GetObjectItemCaseSensitive(o, "uids");
    const char *action = http_json_text(c, o, "action", 16, NULL);
    const char *folder =
        action == NULL ? NULL : http_json_text(c, o, "folder", 64, "");
    if (folder == NULL || !check_uids(c, uids)) {
        cJSON_Delete(o);
        return;
    }
    if (!action_known(action))
        http_json_refuse(c, "action", "is none that is known");
    else if (strcmp(action, "move") == 0 &&
             !mailbox_folder_valid(slice_of(folder)))
        http_json_refuse(c, "folder", "is not a folder's id");
    else
        act_on_all(c, action, folder, uids);
    cJSON_Delete(o);
}

/* ---- events ---- */

void http_api_events(struct http_call *c)
{
    enum status s =
        http_events_open(http_app_options(c->app)->events, c->account.username,
                         c->cookie, &c->res->stream);
    if (s != ST_OK) {
        http_call_fail(c, s);
        return;
    }
    c->res->content_type = "text/event-stream";
    http_response_header(c->res, "X-Accel-Buffering", "no");
}
