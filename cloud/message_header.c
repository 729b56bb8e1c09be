/*
 * Header fields: decoded by GMime, cleaned, as JSON and as the summary that a
 * folder's list shows. Lists are cut at ADDRESSES_MAX and REFERENCES_MAX
 * entries, so a cell stays far below the store's limit.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cloud/json.h"
#include "cloud/message_inside.h"
#include "cloud/text.h"

#define ADDRESSES_MAX 200
#define GROUP_DEPTH_MAX 4
#define COLONS_MAX 64
#define REFERENCES_MAX 100
#define FIELD_TEXT 1000

/* Field NAME of the message's own header, unfolded into A; NULL if absent. */
static const char *field(const struct message *m, const char *name,
                         struct arena *a)
{
    return mime_field(m->tree.nodes[0].head, name, 0, a);
}

/* ---- addresses ---- */

struct address_sink {
    void (*fn)(void *ctx, const char *name, const char *address);
    void *ctx;
    size_t left;
};

static void walk_addresses(InternetAddressList *list, struct address_sink *sink,
                           int depth)
{
    int n = internet_address_list_length(list);
    for (int i = 0; i < n && sink->left > 0; i++) {
        InternetAddress *ia = internet_address_list_get_address(list, i);
        if (INTERNET_ADDRESS_IS_GROUP(ia)) {
            InternetAddressList *members =
                internet_address_group_get_members(INTERNET_ADDRESS_GROUP(ia));
            if (members != NULL && depth < GROUP_DEPTH_MAX)
                walk_addresses(members, sink, depth + 1);
            continue;
        }
        const char *name = internet_address_get_name(ia);
        const char *address =
            internet_address_mailbox_get_addr(INTERNET_ADDRESS_MAILBOX(ia));
        char clean_name[300], clean_address[330];
        text_line(slice_of(name != NULL ? name : ""), clean_name,
                  sizeof clean_name);
        text_line(slice_of(address != NULL ? address : ""), clean_address,
                  sizeof clean_address);
        sink->left--;
        sink->fn(sink->ctx, clean_name, clean_address);
    }
}

/* GMime goes one call deeper for each group inside a group, without a bound,
 * and the stack of a session's thread is small: so only so many colons are
 * let through. */
static char *bound_groups(const char *value, struct arena *arena)
{
    char *copy = arena_copy(arena, value, strlen(value) + 1);
    unsigned colons = 0;
    for (char *p = copy; *p != '\0'; p++) {
        if (*p == ':' && ++colons > COLONS_MAX)
            *p = ' ';
    }
    return copy;
}

static void each_address(const struct message *m, const char *name, size_t max,
                         void (*fn)(void *, const char *, const char *),
                         void *ctx)
{
    struct arena arena = {0};
    const char *value = field(m, name, &arena);
    InternetAddressList *list = NULL;
    if (value != NULL)
        list = internet_address_list_parse(NULL, bound_groups(value, &arena));
    struct address_sink sink = {.fn = fn, .ctx = ctx, .left = max};
    if (list != NULL) {
        walk_addresses(list, &sink, 0);
        g_object_unref(list);
    }
    arena_free(&arena);
}

static void add_address(void *ctx, const char *name, const char *address)
{
    cJSON *o = cJSON_CreateObject();
    json_add_text(o, "name", name);
    json_add_text(o, "address", address);
    cJSON_AddItemToArray(ctx, o);
}

static void add_addresses(const struct message *m, cJSON *o, const char *member,
                          const char *name)
{
    each_address(m, name, ADDRESSES_MAX, add_address,
                 cJSON_AddArrayToObject(o, member));
}

/* ---- other fields ---- */

static void decode_text(const struct message *m, const char *name, char *out,
                        size_t size)
{
    struct arena arena = {0};
    const char *value = field(m, name, &arena);
    char *text =
        value != NULL ? g_mime_utils_header_decode_text(NULL, value) : NULL;
    text_line(slice_of(text != NULL ? text : ""), out, size);
    g_free(text);
    arena_free(&arena);
}

/* Milliseconds since 1970; 0 if the field is absent or makes no sense. */
static int64_t decode_date(const struct message *m)
{
    struct arena arena = {0};
    const char *value = field(m, "Date", &arena);
    GDateTime *date =
        value != NULL ? g_mime_utils_header_decode_date(value) : NULL;
    arena_free(&arena);
    if (date == NULL)
        return 0;
    int64_t s = g_date_time_to_unix(date);
    g_date_time_unref(date);
    return s > 0 && s < 253402300800 ? s * 1000 : 0;
}

static void add_date(cJSON *o, int64_t ms)
{
    if (ms == 0) {
        cJSON_AddNullToObject(o, "date");
        return;
    }
    char text[32];
    time_t s = (time_t)(ms / 1000);
    struct tm tm;
    gmtime_r(&s, &tm);
    strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    json_add_text(o, "date", text);
}

static void add_message_ids(const struct message *m, cJSON *o,
                            const char *member, const char *name, bool array)
{
    struct arena arena = {0};
    const char *value = field(m, name, &arena);
    GMimeReferences *refs =
        value != NULL ? g_mime_references_parse(NULL, value) : NULL;
    arena_free(&arena);
    int n = refs != NULL ? g_mime_references_length(refs) : 0;
    char id[FIELD_TEXT] = "";
    if (!array) {
        if (n > 0)
            text_line(slice_of(g_mime_references_get_message_id(refs, 0)), id,
                      sizeof id);
        json_add_text(o, member, id);
    } else {
        cJSON *list = cJSON_AddArrayToObject(o, member);
        for (int i = n > REFERENCES_MAX ? n - REFERENCES_MAX : 0; i < n; i++) {
            text_line(slice_of(g_mime_references_get_message_id(refs, i)), id,
                      sizeof id);
            cJSON_AddItemToArray(list, cJSON_CreateString(id));
        }
    }
    if (refs != NULL)
        g_mime_references_free(refs);
}

static void add_part(cJSON *list, const struct message_part *p)
{
    cJSON *o = cJSON_CreateObject();
    json_add_text(o, "number", p->number);
    json_add_text(o, "type", p->type);
    if (p->name != NULL)
        json_add_text(o, "name", p->name);
    if (p->charset != NULL)
        json_add_text(o, "charset", p->charset);
    if (p->content_id != NULL)
        json_add_text(o, "content_id", p->content_id);
    json_add_int(o, "size", (int64_t)p->size);
    cJSON_AddBoolToObject(o, "attachment", p->attachment);
    cJSON_AddItemToArray(list, o);
}

void message_header_json(const struct message *m, uint64_t size,
                         struct buf *out)
{
    char subject[FIELD_TEXT];
    cJSON *o = cJSON_CreateObject();
    add_addresses(m, o, "from", "From");
    add_addresses(m, o, "to", "To");
    add_addresses(m, o, "cc", "Cc");
    add_addresses(m, o, "bcc", "Bcc");
    add_addresses(m, o, "reply_to", "Reply-To");
    decode_text(m, "Subject", subject, sizeof subject);
    json_add_text(o, "subject", subject);
    add_date(o, m->summary.date_ms);
    add_message_ids(m, o, "message_id", "Message-ID", false);
    add_message_ids(m, o, "in_reply_to", "In-Reply-To", false);
    add_message_ids(m, o, "references", "References", true);
    json_add_int(o, "size", (int64_t)size);
    cJSON_AddBoolToObject(o, "truncated", m->tree.truncated);
    cJSON *parts = cJSON_AddArrayToObject(o, "parts");
    for (size_t i = 0; i < m->part_count; i++)
        add_part(parts, &m->parts[i]);
    json_write_take(o, out);
}

/* ---- the summary ---- */

struct joined {
    char *out;
    size_t size;
};

static void join_address(void *ctx, const char *name, const char *address)
{
    struct joined *j = ctx;
    char one[700], all[1400];
    if (*name != '\0')
        snprintf(one, sizeof one, "%s <%s>", name, address);
    else
        snprintf(one, sizeof one, "%s", address);
    snprintf(all, sizeof all, "%s%s%s", j->out, *j->out != '\0' ? ", " : "",
             one);
    text_line(slice_of(all), j->out, j->size);
}

void message_summarize(struct message *m)
{
    struct message_summary *s = &m->summary;
    struct joined from = {s->from, sizeof s->from};
    struct joined to = {s->to, sizeof s->to};
    each_address(m, "From", 2, join_address, &from);
    each_address(m, "To", 5, join_address, &to);
    decode_text(m, "Subject", s->subject, sizeof s->subject);
    s->date_ms = decode_date(m);
    s->truncated = m->tree.truncated;
    for (size_t i = 0; i < m->part_count; i++)
        s->attachments += m->parts[i].attachment ? 1 : 0;
    message_snippet(m, s->snippet, sizeof s->snippet);
}
