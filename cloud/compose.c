/*
 * GMime makes header fields and parts; we choose. Text goes as it is where it
 * is plain ASCII in short lines, else quoted-printable; files go as base64. So
 * no byte of a mail that we make has its high bit set, and no server on its
 * way has a reason to change it. Line ends become CRLF in one pass at the end.
 */
#include "cloud/compose.h"

#include <string.h>

#include <gmime/gmime.h>

#define LINE_MAX_PLAIN 900

static void add_mailboxes(GMimeMessage *m, GMimeAddressType kind,
                          const struct compose_mailboxes *list)
{
    for (size_t i = 0; i < list->count; i++)
        g_mime_message_add_mailbox(m, kind, list->items[i].name,
                                   list->items[i].address);
}

static void set_date(GMimeMessage *m, int64_t date_ms)
{
    GDateTime *date = g_date_time_new_from_unix_utc(date_ms / 1000);
    g_mime_message_set_date(m, date);
    g_date_time_unref(date);
}

static void set_header(GMimeMessage *m, const char *name, const char *value)
{
    g_mime_object_set_header(GMIME_OBJECT(m), name, value, "utf-8");
}

static bool is_plain(const char *text)
{
    size_t line = 0;
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text >= 0x80 || ++line > LINE_MAX_PLAIN)
            return false;
        if (*text == '\n')
            line = 0;
    }
    return true;
}

static GMimeObject *make_text(const char *text)
{
    GMimeTextPart *part = g_mime_text_part_new_with_subtype("plain");
    g_mime_text_part_set_charset(part, "utf-8");
    g_mime_text_part_set_text(part, text);
    g_mime_part_set_content_encoding(
        GMIME_PART(part), is_plain(text)
                              ? GMIME_CONTENT_ENCODING_7BIT
                              : GMIME_CONTENT_ENCODING_QUOTEDPRINTABLE);
    return GMIME_OBJECT(part);
}

static GMimeObject *make_file(const struct compose_attachment *a)
{
    GMimeContentType *type = g_mime_content_type_parse(NULL, a->type);
    GMimePart *part =
        g_mime_part_new_with_type(g_mime_content_type_get_media_type(type),
                                  g_mime_content_type_get_media_subtype(type));
    GMimeStream *bytes = g_mime_stream_mem_new_with_buffer(
        a->data.len > 0 ? (const char *)a->data.data : "", a->data.len);
    GMimeDataWrapper *content = g_mime_data_wrapper_new_with_stream(
        bytes, GMIME_CONTENT_ENCODING_DEFAULT);
    g_mime_part_set_content(part, content);
    g_mime_part_set_content_encoding(part, GMIME_CONTENT_ENCODING_BASE64);
    g_mime_object_set_disposition(GMIME_OBJECT(part), "attachment");
    g_mime_part_set_filename(part, a->name);
    g_object_unref(content);
    g_object_unref(bytes);
    g_object_unref(type);
    return GMIME_OBJECT(part);
}

static void set_content(GMimeMessage *m, const struct compose *c)
{
    GMimeObject *root = make_text(c->text);
    if (c->attachments_count > 0) {
        GMimeMultipart *mixed = g_mime_multipart_new_with_subtype("mixed");
        g_mime_multipart_add(mixed, root);
        g_object_unref(root);
        for (size_t i = 0; i < c->attachments_count; i++) {
            GMimeObject *file = make_file(&c->attachments[i]);
            g_mime_multipart_add(mixed, file);
            g_object_unref(file);
        }
        root = GMIME_OBJECT(mixed);
    }
    g_mime_message_set_mime_part(m, root);
    g_object_unref(root);
}

static void put_with_crlf(struct buf *out, const uint8_t *data, size_t len)
{
    size_t from = 0;
    for (size_t i = 0; i < len; i++) {
        if (data[i] != '\n' || (i > 0 && data[i - 1] == '\r'))
            continue;
        buf_put(out, data + from, i - from);
        buf_put_text(out, "\r\n");
        from = i + 1;
    }
    buf_put(out, data + from, len - from);
}

static void write_message(GMimeMessage *m, struct buf *out)
{
    GMimeStream *stream = g_mime_stream_mem_new();
    g_mime_object_write_to_stream(GMIME_OBJECT(m), NULL, stream);
    GByteArray *bytes =
        g_mime_stream_mem_get_byte_array(GMIME_STREAM_MEM(stream));
    put_with_crlf(out, bytes->data, bytes->len);
    g_object_unref(stream);
}

void compose_build(const struct compose *c, struct buf *out)
{
    struct compose_mailboxes from = {
        &(struct compose_mailbox){c->from.name, c->from.address}, 1};
    GMimeMessage *m = g_mime_message_new(TRUE);
    set_date(m, c->date_ms);
    add_mailboxes(m, GMIME_ADDRESS_TYPE_FROM, &from);
    add_mailboxes(m, GMIME_ADDRESS_TYPE_TO, &c->to);
    add_mailboxes(m, GMIME_ADDRESS_TYPE_CC, &c->cc);
    g_mime_message_set_subject(m, c->subject, "utf-8");
    g_mime_message_set_message_id(m, c->message_id);
    if (c->in_reply_to != NULL) {
        char *id = g_strdup_printf("<%s>", c->in_reply_to);
        set_header(m, "In-Reply-To", id);
        g_free(id);
    }
    if (c->references != NULL)
        set_header(m, "References", c->references);
    set_content(m, c);
    write_message(m, out);
    g_object_unref(m);
}

void compose_bcc(const struct compose *c, struct buf *out)
{
    for (size_t i = 0; i < c->bcc.count; i++)
        buf_printf(out, "%s%s", i == 0 ? "Bcc: " : ",\r\n ",
                   c->bcc.items[i].address);
    if (c->bcc.count > 0)
        buf_put_text(out, "\r\n");
}

/* ---- reading addresses ---- */

struct reader {
    const char *at;
    struct arena *arena;
};

static void skip_space(struct reader *r)
{
    r->at += strspn(r->at, " \t");
}

static char *copy(struct arena *a, const char *text, size_t len)
{
    while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t'))
        len--;
    char *out = arena_alloc(a, len + 1);
    memcpy(out, text, len);
    return out;
}

/* A quoted name; the quotes and their escapes go. */
static bool read_quoted(struct reader *r, char **name)
{
    char *out = arena_alloc(r->arena, strlen(r->at) + 1);
    size_t n = 0;
    for (r->at++; *r->at != '"'; r->at++) {
        if (*r->at == '\\' && r->at[1] != '\0')
            r->at++;
        if (*r->at == '\0')
            return false;
        out[n++] = *r->at;
    }
    r->at++;
    *name = out;
    return true;
}

/* Length of the text up to one of ENDS, what is quoted in it taken as a whole.
 * False: a quote does not end. */
static bool span(const char *text, const char *ends, size_t *out)
{
    size_t i = 0;
    bool quoted = false;
    for (; text[i] != '\0'; i++) {
        if (text[i] == '"')
            quoted = !quoted;
        else if (text[i] == '\\' && quoted && text[i + 1] != '\0')
            i++;
        else if (!quoted && strchr(ends, text[i]) != NULL)
            break;
    }
    *out = i;
    return !quoted;
}

static bool read_mailbox(struct reader *r, struct compose_mailbox *out)
{
    struct compose_mailbox m = {NULL, NULL};
    size_t whole;
    if (!span(r->at, ",;<", &whole))
        return false;
    const char *after = r->at + whole;
    if (*after == '<' && *r->at == '"') {
        if (!read_quoted(r, &m.name))
            return false;
        skip_space(r);
    } else if (*after == '<') {
        m.name = copy(r->arena, r->at, whole);
        r->at = after;
    }
    if (*after == '<') {
        if (*r->at != '<')
            return false;
        r->at++;
        skip_space(r);
        if (!span(r->at, ">", &whole) || r->at[whole] != '>')
            return false;
    }
    m.address = copy(r->arena, r->at, whole);
    r->at += whole + (r->at[whole] == '>');
    skip_space(r);
    if (m.address[0] == '\0' ||
        (*r->at != '\0' && strchr(",;", *r->at) == NULL))
        return false;
    if (m.name != NULL && m.name[0] == '\0')
        m.name = NULL;
    *out = m;
    return true;
}

static void append(struct arena *arena, struct compose_mailboxes *list,
                   struct compose_mailbox m)
{
    if (list->count % 8 == 0) {
        struct compose_mailbox *more =
            arena_alloc(arena, (list->count + 8) * sizeof(*more));
        if (list->count > 0)
            memcpy(more, list->items, list->count * sizeof(*more));
        list->items = more;
    }
    list->items[list->count++] = m;
}

enum status compose_parse_mailboxes(const char *text, size_t max,
                                    struct arena *arena,
                                    struct compose_mailboxes *list)
{
    struct reader r = {text, arena};
    for (;;) {
        struct compose_mailbox m;
        r.at += strspn(r.at, " \t,;");
        if (*r.at == '\0')
            return ST_OK;
        if (!read_mailbox(&r, &m))
            return ST_INVALID;
        if (list->count == max)
            return ST_TOO_LARGE;
        append(arena, list, m);
    }
}
