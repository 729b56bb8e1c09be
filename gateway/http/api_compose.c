/*
 * Writing mail: send, and keep a draft.
 *
 * Everything is checked before anything is done: fields, then recipients, so
 * a refusal has no effect. Then all local recipients and the writer's own copy
 * in "sent" get the mail by one delivery (cloud/delivery.h), which is all or
 * nothing. His copy is a second one where he is a recipient himself, as a
 * delivery reaches each mailbox once, and where it differs, by its Bcc field.
 *
 * No field that becomes a header may hold CR, LF or NUL: json.c refuses every
 * control character there.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cloud/compose.h"
#include "cloud/delivery.h"
#include "cloud/mail_address.h"
#include "gateway/http/json.h"

#define SUBJECT_MAX 900
#define ADDRESSES_MAX KIB(32)
#define FILES_MAX 50
/* What a store that is slow, but not away, writes at least; and how much
 * longer than other calls a send may take: well below what our own pages wait
 * (web/api.js). */
#define WRITE_BYTES_PER_MS KIB(2)
#define WRITE_MORE_MS 90000

/* A mail as it came in, and what becomes of it. */
struct writing {
    struct http_call *call;
    cJSON *json;
    struct compose mail;
    struct compose_attachment files[FILES_MAX];
    struct buf file_data[FILES_MAX];
    char from[MAIL_ADDRESS_MAX + 1];
    char message_id[ULID_SIZE + MAIL_ADDRESS_DOMAIN_MAX + 2];
    struct buf references, raw;
    char answers[ULID_SIZE]; /* uid of the mail that this one answers, or "" */
    struct delivery_recipient to[DELIVERY_RECIPIENTS_MAX + 1];
    char names[DELIVERY_RECIPIENTS_MAX][ACCOUNT_NAME_MAX + 1];
    size_t to_count;
};

/* ---- fields ---- */

static bool take_mailboxes(struct writing *w, const char *name,
                           struct compose_mailboxes *out)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(w->json, name);
    const cJSON *one = cJSON_IsArray(v) ? v->child : v;
    enum status s = ST_OK;
    for (; one != NULL && s == ST_OK;
         one = cJSON_IsArray(v) ? one->next : NULL) {
        const char *text = cJSON_GetStringValue(one);
        if (text == NULL || strlen(text) > ADDRESSES_MAX ||
            !http_text_is_line(text))
            s = ST_INVALID;
        else
            s = compose_parse_mailboxes(text, DELIVERY_RECIPIENTS_MAX,
                                        &w->call->req->arena, out);
    }
    if (s == ST_TOO_LARGE)
        http_json_refuse(w->call, name, "has too many addresses");
    else if (s != ST_OK)
        http_json_refuse(w->call, name, "must be a list of mail addresses");
    return s == ST_OK;
}

/* The body: lines end in LF; a NUL cannot be there any more (json.c). */
static bool take_text(struct writing *w)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(w->json, "text");
    char *text = v == NULL ? arena_alloc(&w->call->req->arena, 1)
                           : cJSON_GetStringValue(v);
    if (text == NULL) {
        http_json_refuse(w->call, "text", "must be a text");
        return false;
    }
    w->mail.text = text;
    for (char *from = text;; from++) {
        if (*from == '\r') {
            *text++ = '\n';
            from += from[1] == '\n';
            continue;
        }
        *text = *from;
        if (*text++ == '\0')
            return true;
    }
}

static bool type_is_sane(const char *type)
{
    const char *slash = strchr(type, '/');
    return slash != NULL && slash != type && slash[1] != '\0' &&
           strspn(type, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                        "0123456789!#$&-^_.+/") == strlen(type) &&
           strchr(slash + 1, '/') == NULL;
}

static bool take_file(struct writing *w, const cJSON *o)
{
    struct http_call *c = w->call;
    size_t i = w->mail.attachments_count;
    const char *data =
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, "data"));
    const char *name = http_json_text(c, o, "name", 255, NULL);
    if (name == NULL)
        return false;
    const char *type =
        http_json_text(c, o, "content_type", 100, "application/octet-stream");
    if (type == NULL)
        return false;
    if (!type_is_sane(type))
        type = "application/octet-stream";
    w->file_data[i].max = LIMIT_HTTP_COMPOSE;
    if (data == NULL || !http_base64_decode(data, &w->file_data[i])) {
        http_json_refuse(c, "data", "must be base64");
        return false;
    }
    w->files[i] =
        (struct compose_attachment){name, type, buf_slice(&w->file_data[i])};
    w->mail.attachments_count++;
    return true;
}

static bool take_files(struct writing *w)
{
    const cJSON *list =
        cJSON_GetObjectItemCaseSensitive(w->json, "attachments");
    w->mail.attachments = w->files;
    if (list == NULL)
        return true;
    if (!cJSON_IsArray(list) || cJSON_GetArraySize(list) > FILES_MAX) {
        http_json_refuse(w->call, "attachments",
                         "must be a list of at most 50 files");
        return false;
    }
    const cJSON *o;
    cJSON_ArrayForEach(o, list)
    {
        if (!cJSON_IsObject(o)) {
            http_json_refuse(w->call, "attachments", "must be objects");
            return false;
        }
        if (!take_file(w, o))
            return false;
    }
    return true;
}

/* ---- threads ---- */

static void put_references(struct writing *w, const cJSON *list)
{
    int count = cJSON_GetArraySize(list), skip = count > 20 ? count - 20 : 0;
    w->references.max = KIB(16);
    for (int i = skip; i < count; i++) {
        const char *one = cJSON_GetStringValue(cJSON_GetArrayItem(list, i));
        if (one != NULL && http_text_is_line(one))
            buf_printf(&w->references, "%s<%s>", i == skip ? "" : " ", one);
    }
}

/* The new mail's thread: it answers message ID, which has LIST behind it. */
static void set_thread(struct writing *w, const cJSON *list, const char *id,
                       bool add)
{
    if (id == NULL || id[0] == '\0' || !http_text_is_line(id))
        return;
    put_references(w, list);
    if (add)
        buf_printf(&w->references, "%s<%s>", w->references.len > 0 ? " " : "",
                   id);
    if (w->references.full)
        return;
    w->mail.references =
        w->references.len > 0 ? buf_cstr(&w->references) : NULL;
    w->mail.in_reply_to = arena_copy(&w->call->req->arena, id, strlen(id) + 1);
}

/* From the header of the mail that is answered, or of the draft that is taken
 * up again, which has the fields already. */
static void take_thread(struct writing *w, const cJSON *header, bool is_draft)
{
    const char *member = is_draft ? "in_reply_to" : "message_id";
    set_thread(
        w, cJSON_GetObjectItemCaseSensitive(header, "references"),
        cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(header, member)),
        !is_draft);
}

/* Members "in_reply_to" and "draft": uids of the writer's own messages. */
static bool take_answered(struct writing *w)
{
    struct http_call *c = w->call;
    const char *answered = http_json_text(c, w->json, "in_reply_to", 64, "");
    const char *draft =
        answered == NULL ? NULL : http_json_text(c, w->json, "draft", 64, "");
    if (draft == NULL)
        return false;
    bool is_draft = answered[0] == '\0';
    const char *uid = is_draft ? draft : answered;
    if (uid[0] == '\0')
        return true;
    struct mailbox_message m = {0};
    enum status s =
        mailbox_get(&c->op, c->account.username, uid, &c->req->arena, &m);
    /* It may have been deleted meanwhile: the mail goes out all the same. */
    if (s == ST_NOT_FOUND)
        return true;
    if (s != ST_OK) {
        http_call_fail(c, s);
        return false;
    }
    cJSON *header = cJSON_Parse(buf_cstr(&m.header));
    take_thread(w, header, is_draft);
    if (!is_draft)
        snprintf(w->answers, sizeof(w->answers), "%s", m.entry.uid);
    cJSON_Delete(header);
    buf_free(&m.header);
    return true;
}

/* ---- the whole ---- */

static void sign(struct writing *w)
{
    struct http_call *c = w->call;
    char uid[ULID_SIZE];
    const char *domain = cloud_main_domain(c->op.cloud);
    w->mail.date_ms = cloud_wall_ms(c->op.cloud);
    ulid_make(w->mail.date_ms, uid);
    snprintf(w->message_id, sizeof(w->message_id), "%s@%s", uid, domain);
    snprintf(w->from, sizeof(w->from), "%s@%s", c->account.username, domain);
    w->mail.message_id = w->message_id;
    w->mail.from.address = w->from;
    w->mail.from.name =
        c->account.display_name[0] == '\0' ? NULL : c->account.display_name;
}

static bool take_fields(struct writing *w)
{
    if (!http_call_reserve(w->call, 3 * w->call->req->body.len)) {
        http_call_refuse(w->call, HTTP_ERROR_BUSY, NULL);
        return false;
    }
    w->json = http_json_body(w->call);
    if (w->json == NULL)
        return false;
    w->mail.subject =
        http_json_text(w->call, w->json, "subject", SUBJECT_MAX, "");
    return w->mail.subject != NULL && take_mailboxes(w, "to", &w->mail.to) &&
           take_mailboxes(w, "cc", &w->mail.cc) &&
           take_mailboxes(w, "bcc", &w->mail.bcc) && take_text(w) &&
           take_files(w) && take_answered(w);
}

static void build(struct writing *w)
{
    sign(w);
    compose_build(&w->mail, &w->raw);
}

static void end_writing(struct writing *w)
{
    for (size_t i = 0; i < FILES_MAX; i++)
        buf_free(&w->file_data[i]);
    buf_free(&w->references);
    buf_free(&w->raw);
    cJSON_Delete(w->json);
    memset(w, 0, sizeof(*w));
}

/* ---- recipients ---- */

static void refuse_recipient(struct writing *w, enum http_error e,
                             const char *address)
{
    char text[400];
    snprintf(text, sizeof(text), "%.256s: %s", address, http_error_message(e));
    http_call_refuse(w->call, e, text);
}

static void add_recipient(struct writing *w, const char *username)
{
    for (size_t i = 0; i < w->to_count; i++) {
        if (strcmp(w->names[i], username) == 0)
            return;
    }
    size_t i = w->to_count++;
    snprintf(w->names[i], sizeof(w->names[i]), "%s", username);
    w->to[i] =
        (struct delivery_recipient){.username = w->names[i], .folder = "inbox"};
}

static bool resolve(struct writing *w, const char *text)
{
    struct mail_address a;
    char username[ACCOUNT_NAME_MAX + 1];
    enum status s = mail_address_parse(slice_of(text), &a);
    if (s != ST_OK) {
        refuse_recipient(w, HTTP_ERROR_BAD_FIELD, text);
        return false;
    }
    s = mail_address_resolve(&w->call->op, &a, username);
    if (s == ST_OK) {
        add_recipient(w, username);
        return true;
    }
    if (s == ST_DENIED)
        refuse_recipient(w, HTTP_ERROR_FOREIGN_RECIPIENT, text);
    else if (s == ST_NOT_FOUND)
        refuse_recipient(w, HTTP_ERROR_UNKNOWN_RECIPIENT, text);
    else
        http_call_fail(w->call, s);
    return false;
}

static bool resolve_all(struct writing *w)
{
    const struct compose_mailboxes *lists[] = {&w->mail.to, &w->mail.cc,
                                               &w->mail.bcc};
    size_t all = w->mail.to.count + w->mail.cc.count + w->mail.bcc.count;
    if (all == 0 || all > DELIVERY_RECIPIENTS_MAX) {
        http_json_refuse(w->call, "to",
                         all == 0 ? "names nobody" : "has too many addresses");
        return false;
    }
    for (size_t i = 0; i < 3; i++) {
        for (size_t k = 0; k < lists[i]->count; k++) {
            if (!resolve(w, lists[i]->items[k].address))
                return false;
        }
    }
    return true;
}

/* ---- sending ---- */

/* Trace fields for the recipients (RFC 5321 4.4, RFC 3848 has no word for
 * HTTP, so the protocol is a comment). */
static void make_head(struct writing *w, struct buf *out)
{
    char date[64];
    time_t now = (time_t)(w->mail.date_ms / 1000);
    struct tm t;
    gmtime_r(&now, &t);
    strftime(date, sizeof(date), "%a, %d %b %Y %H:%M:%S +0000", &t);
    buf_printf(out,
               "Return-Path: <%s>\r\nReceived: by %s (PennCloud, webmail);\r\n"
               "\t%s\r\n",
               w->from, cloud_main_domain(w->call->op.cloud), date);
}

/* A large mail to many is a lot to write. */
static void give_time(struct writing *w, size_t copies)
{
    uint64_t ms = (uint64_t)w->raw.len * copies / WRITE_BYTES_PER_MS;
    w->call->op.deadline_ms += ms < WRITE_MORE_MS ? (int64_t)ms : WRITE_MORE_MS;
}

/* The writer's copy, alone. */
static enum status deliver_own(struct writing *w, const char *folder,
                               char uid[ULID_SIZE])
{
    struct delivery_recipient own = {.username = w->call->account.username,
                                     .folder = folder,
                                     .flags = MAILBOX_READ};
    struct buf raw = {.max = LIMIT_MESSAGE + KIB(64)};
    compose_bcc(&w->mail, &raw);
    buf_put(&raw, w->raw.data, w->raw.len);
    enum status s = raw.full
                        ? ST_TOO_LARGE
                        : delivery_run(&w->call->op, buf_slice(&raw), &own, 1);
    buf_free(&raw);
    if (s == ST_OK)
        snprintf(uid, ULID_SIZE, "%s", own.uid);
    return s;
}

/* Delivers; *COPY is the writer's own copy's uid, "" if only that failed. */
static enum status deliver(struct writing *w, struct slice head,
                           char copy[ULID_SIZE])
{
    const char *self = w->call->account.username;
    bool together = w->mail.bcc.count == 0;
    for (size_t i = 0; i < w->to_count; i++) {
        w->to[i].head = head;
        together &= strcmp(w->to[i].username, self) != 0;
    }
    w->to[w->to_count] = (struct delivery_recipient){
        .username = self, .folder = "sent", .flags = MAILBOX_READ};
    enum status s = delivery_run(&w->call->op, buf_slice(&w->raw), w->to,
                                 w->to_count + together);
    if (s == ST_OK && together)
        snprintf(copy, ULID_SIZE, "%s", w->to[w->to_count].uid);
    else if (s == ST_OK && deliver_own(w, "sent", copy) != ST_OK)
        log_warn(http_app_options(w->call->app)->log, "http", "no-sent-copy",
                 "message_id=%s", w->message_id);
    return s;
}

/* What a good send leaves to do; that it failed is no reason to say that the
 * mail was not sent. */
static void tidy_up(struct writing *w)
{
    struct http_call *c = w->call;
    const char *user = c->account.username;
    enum status s = ST_OK;
    if (w->answers[0] != '\0')
        s = mailbox_set_flags(&c->op, user, w->answers, MAILBOX_ANSWERED, 0);
    const char *draft = cJSON_GetStringValue(
        cJSON_GetObjectItemCaseSensitive(w->json, "draft"));
    if (draft != NULL) {
        enum status gone = mailbox_delete(&c->op, user, draft);
        s = s == ST_OK && gone != ST_NOT_FOUND ? gone : s;
    }
    if (s != ST_OK)
        log_warn(http_app_options(c->app)->log, "http", "after-send",
                 "status=%s", status_name(s));
}

static void reply_sent(struct writing *w, const char *copy)
{
    cJSON *o = cJSON_CreateObject();
    cJSON_AddStringToObject(o, "message_id", w->message_id);
    if (copy[0] != '\0')
        cJSON_AddStringToObject(o, "uid", copy);
    else
        cJSON_AddNullToObject(o, "uid");
    http_json_reply(w->call, 201, o);
}

static void send_mail(struct writing *w)
{
    struct buf head = {.max = KIB(4)};
    char copy[ULID_SIZE] = "";
    build(w);
    give_time(w, w->to_count + 1);
    make_head(w, &head);
    enum status s = w->raw.len > LIMIT_MESSAGE
                        ? ST_TOO_LARGE
                        : deliver(w, buf_slice(&head), copy);
    if (s == ST_OK) {
        tidy_up(w);
        reply_sent(w, copy);
    } else {
        http_call_fail(w->call, s);
    }
    buf_free(&head);
}

void http_api_send(struct http_call *c)
{
    struct writing *w = xcalloc(1, sizeof(*w));
    w->call = c;
    if (take_fields(w) && resolve_all(w))
        send_mail(w);
    end_writing(w);
    free(w);
}

/* ---- drafts ---- */

static void keep_draft(struct writing *w)
{
    char uid[ULID_SIZE] = "";
    build(w);
    give_time(w, 1);
    enum status s = deliver_own(w, "drafts", uid);
    if (s != ST_OK) {
        http_call_fail(w->call, s);
        return;
    }
    w->answers[0] = '\0';
    tidy_up(w);
    reply_sent(w, uid);
}

void http_api_draft(struct http_call *c)
{
    struct writing *w = xcalloc(1, sizeof(*w));
    w->call = c;
    if (take_fields(w))
        keep_draft(w);
    end_writing(w);
    free(w);
}
