/*
 * A message's parts and their contents: see the header.
 */
#include "cloud/message.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cloud/message_inside.h"
#include "cloud/text.h"

#define DECODE_STEP 8192
#define NAME_MAX_BYTES 255

void message_init(void)
{
    g_mime_init();
}

/* ---- transfer encodings ---- */

static GMimeContentEncoding encoding_of(const struct mime_node *n)
{
    struct arena arena = {0};
    const char *value =
        mime_field(n->head, "Content-Transfer-Encoding", 0, &arena);
    GMimeContentEncoding e = value != NULL
                                 ? g_mime_content_encoding_from_string(value)
                                 : GMIME_CONTENT_ENCODING_DEFAULT;
    arena_free(&arena);
    return e;
}

static bool is_identity(GMimeContentEncoding e)
{
    return e != GMIME_CONTENT_ENCODING_BASE64 &&
           e != GMIME_CONTENT_ENCODING_QUOTEDPRINTABLE &&
           e != GMIME_CONTENT_ENCODING_UUENCODE;
}

/* Gives the decoded bytes to FN piece by piece until it answers false. */
static void decode(struct slice body, GMimeContentEncoding e,
                   bool (*fn)(void *ctx, struct slice piece), void *ctx)
{
    if (is_identity(e)) {
        (void)fn(ctx, body);
        return;
    }
    GMimeEncoding state;
    g_mime_encoding_init_decode(&state, e);
    size_t room = g_mime_encoding_outlen(&state, DECODE_STEP) + 64;
    char *out = xmalloc(room);
    bool go = true;
    while (body.len > 0 && go) {
        size_t n = body.len < DECODE_STEP ? body.len : DECODE_STEP;
        size_t got =
            g_mime_encoding_step(&state, (const char *)body.data, n, out);
        assert(got <= room);
        body = slice_make(body.data + n, body.len - n);
        go = fn(ctx, slice_make(out, got));
    }
    if (go) {
        size_t got = g_mime_encoding_flush(&state, "", 0, out);
        assert(got <= room);
        (void)fn(ctx, slice_make(out, got));
    }
    free(out);
}

static bool count_bytes(void *ctx, struct slice piece)
{
    *(uint64_t *)ctx += piece.len;
    return true;
}

struct bounded {
    struct buf *out;
    size_t left;
    bool more;
};

static bool put_bounded(void *ctx, struct slice piece)
{
    struct bounded *b = ctx;
    size_t n = piece.len < b->left ? piece.len : b->left;
    buf_put(b->out, piece.data, n);
    b->left -= n;
    b->more = n < piece.len;
    return !b->more;
}

bool message_decode(const struct message *m, size_t i, size_t max,
                    struct buf *out)
{
    const struct mime_node *n = &m->tree.nodes[m->nodes[i]];
    struct bounded b = {.out = out, .left = max};
    decode(n->body, encoding_of(n), put_bounded, &b);
    return !b.more;
}

/* ---- parts ---- */

static const char *keep(struct message *m, const char *text)
{
    return arena_copy(&m->tree.arena, text, strlen(text) + 1);
}

/* The disposition and the file name that it or the type gives. */
static void read_disposition(struct message *m, const struct mime_node *n,
                             struct message_part *p, const char *type_name)
{
    const char *name = type_name;
    struct arena arena = {0};
    const char *value =
        mime_typed_field(&m->tree, n->head, "Content-Disposition", &arena);
    GMimeContentDisposition *d = NULL;
    if (value != NULL)
        d = g_mime_content_disposition_parse(NULL, value);
    if (d != NULL) {
        const char *kind = g_mime_content_disposition_get_disposition(d);
        p->attachment = kind != NULL && strcasecmp(kind, "inline") != 0;
        const char *own =
            g_mime_content_disposition_get_parameter(d, "filename");
        if (own != NULL)
            name = own;
    }
    if (name != NULL && *name != '\0') {
        char clean[NAME_MAX_BYTES + 1];
        text_file_name(slice_of(name), clean, sizeof clean);
        p->name = keep(m, clean);
    }
    if (d != NULL)
        g_object_unref(d);
    arena_free(&arena);
}

/* A charset's name is a token; anything else is not told. */
static const char *clean_charset(struct message *m, const char *charset)
{
    if (charset == NULL || strlen(charset) > 40 ||
        charset[strspn(charset, "abcdefghijklmnopqrstuvwxyz"
                                "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:+")])
        return NULL;
    return keep(m, charset);
}

static const char *read_content_id(struct message *m, const struct mime_node *n)
{
    struct arena arena = {0};
    const char *value = mime_field(n->head, "Content-ID", 0, &arena);
    char *id = value != NULL ? g_mime_utils_decode_message_id(value) : NULL;
    char clean[256] = "";
    if (id != NULL)
        text_line(slice_of(id), clean, sizeof clean);
    g_free(id);
    arena_free(&arena);
    return *clean != '\0' ? keep(m, clean) : NULL;
}

static void read_part(struct message *m, size_t i)
{
    const struct mime_node *n = &m->tree.nodes[m->nodes[i]];
    struct message_part *p = &m->parts[i];
    p->number = n->number;
    p->type = n->type;
    p->encoded = n->body.len;
    struct arena arena = {0};
    const char *value =
        mime_typed_field(&m->tree, n->head, "Content-Type", &arena);
    GMimeContentType *ct =
        value != NULL ? g_mime_content_type_parse(NULL, value) : NULL;
    const char *name = NULL;
    if (ct != NULL) {
        name = g_mime_content_type_get_parameter(ct, "name");
        p->charset =
            clean_charset(m, g_mime_content_type_get_parameter(ct, "charset"));
    }
    read_disposition(m, n, p, name);
    if (ct != NULL)
        g_object_unref(ct);
    arena_free(&arena);
    p->content_id = read_content_id(m, n);
    bool text = strncmp(p->type, "text/", 5) == 0;
    bool image = strncmp(p->type, "image/", 6) == 0 && p->content_id != NULL;
    if (!text && !image)
        p->attachment = true;
    decode(n->body, encoding_of(n), count_bytes, &p->size);
}

struct message *message_parse(struct slice raw)
{
    struct message *m = xcalloc(1, sizeof *m);
    /* An empty message may have no address; the scanner wants one. */
    m->raw = raw.data != NULL ? raw : slice_of("");
    mime_scan(m->raw, &m->tree);
    struct mime_tree *t = &m->tree;
    m->parts = arena_alloc(&t->arena, t->count * sizeof *m->parts);
    m->nodes = arena_alloc(&t->arena, t->count * sizeof *m->nodes);
    for (size_t i = 0; i < t->count; i++) {
        if (t->nodes[i].multipart)
            continue;
        m->nodes[m->part_count] = i;
        read_part(m, m->part_count++);
    }
    message_summarize(m);
    return m;
}

void message_free(struct message *m)
{
    if (m == NULL)
        return;
    mime_tree_free(&m->tree);
    free(m);
}

size_t message_part_count(const struct message *m)
{
    return m->part_count;
}

const struct message_part *message_part_at(const struct message *m, size_t i)
{
    assert(i < m->part_count);
    return &m->parts[i];
}

const struct message_summary *message_summary(const struct message *m)
{
    return &m->summary;
}

enum status message_part_decode(const struct message *m, const char *number,
                                struct buf *out)
{
    for (size_t i = 0; i < m->part_count; i++) {
        if (strcmp(m->parts[i].number, number) == 0) {
            (void)message_decode(m, i, SIZE_MAX, out);
            return ST_OK;
        }
    }
    return ST_NOT_FOUND;
}

unsigned message_count_received(struct slice raw, unsigned max)
{
    size_t at = 0;
    unsigned n = 0;
    struct slice line;
    while (n < max && mime_next_line(raw, &at, &line) && line.len > 0) {
        if (line.len >= 9 &&
            strncasecmp((const char *)line.data, "Received:", 9) == 0)
            n++;
    }
    return n;
}
