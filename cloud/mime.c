/*
 * Finding the structure: see the header.
 *
 * The scanner holds a stack of open multiparts. A line that begins with "--"
 * is hashed once and compared with the delimiters of the stack from the top
 * down; a match closes what is above it. Between delimiters an entity is in
 * its header or in its body. Memory is one node a part.
 */
#include "cloud/mime.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <xxhash.h>

#define BOUNDARY_MAX 250
#define TYPE_MAX 250 /* of a type, or disposition, without parameters */

struct open_multipart {
    size_t node;
    uint64_t delimiter, closing; /* hashes of "--b" and "--b--" */
};

struct scanner {
    struct slice raw;
    struct mime_tree *tree;
    size_t capacity;
    struct open_multipart stack[LIMIT_MIME_DEPTH];
    size_t depth; /* of the stack */
    bool open;    /* nodes[count - 1] is being read ... */
    bool in_head; /* ... its header still */
    size_t head_start;
};

bool mime_next_line(struct slice s, size_t *at, struct slice *line)
{
    if (*at >= s.len)
        return false;
    const uint8_t *start = s.data + *at;
    const uint8_t *lf = memchr(start, '\n', s.len - *at);
    size_t len = lf != NULL ? (size_t)(lf - start) : s.len - *at;
    *at += len + (lf != NULL ? 1 : 0);
    if (lf != NULL && len > 0 && start[len - 1] == '\r')
        len--;
    *line = slice_make(start, len);
    return true;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || c == '\t';
}

/* "Name:" at the start of LINE; the name's length, or 0. */
static size_t field_name_length(struct slice line)
{
    size_t n = 0;
    while (n < line.len && line.data[n] > 0x20 && line.data[n] < 0x7f &&
           line.data[n] != ':')
        n++;
    size_t end = n;
    while (end < line.len && is_blank(line.data[end]))
        end++;
    return n > 0 && end < line.len && line.data[end] == ':' ? n : 0;
}

/* Appends LINE's text with NULs made spaces, at most LIMIT_MESSAGE_FIELD. */
static void append_text(struct buf *b, struct slice line)
{
    for (size_t i = 0; i < line.len && b->len < LIMIT_MESSAGE_FIELD; i++)
        buf_put_u8(b, line.data[i] == 0 ? ' ' : line.data[i]);
}

/* The field's value from LINE on; AT is behind LINE. */
static char *unfold(struct slice head, size_t at, struct slice line,
                    struct arena *arena)
{
    struct buf value = {0};
    const uint8_t *colon = memchr(line.data, ':', line.len);
    size_t skip = (size_t)(colon - line.data) + 1;
    append_text(&value, slice_make(line.data + skip, line.len - skip));
    while (mime_next_line(head, &at, &line) && line.len > 0 &&
           is_blank(line.data[0]))
        append_text(&value, line);
    size_t from = 0;
    while (from < value.len && is_blank(value.data[from]))
        from++;
    while (value.len > from && is_blank(value.data[value.len - 1]))
        value.len--;
    char *text = arena_alloc(arena, value.len - from + 1);
    if (value.len > from)
        memcpy(text, value.data + from, value.len - from);
    buf_free(&value);
    return text;
}

static char *find_field(struct slice head, const char *name, unsigned n,
                        struct arena *arena)
{
    if (head.len > LIMIT_MESSAGE_HEADER)
        head.len = LIMIT_MESSAGE_HEADER;
    size_t at = 0, want = strlen(name);
    struct slice line;
    while (mime_next_line(head, &at, &line)) {
        if (field_name_length(line) == want &&
            strncasecmp((const char *)line.data, name, want) == 0 && n-- == 0)
            return unfold(head, at, line, arena);
    }
    return NULL;
}

const char *mime_field(struct slice head, const char *name, unsigned n,
                       struct arena *arena)
{
    return find_field(head, name, n, arena);
}

const char *mime_typed_field(struct mime_tree *t, struct slice head,
                             const char *name, struct arena *arena)
{
    char *value = find_field(head, name, 0, arena);
    size_t len = value != NULL ? strlen(value) : 0;
    if (len > LIMIT_MIME_PARAMETERS - t->typed) {
        t->truncated = true;
        len = strcspn(value, ";");
        value[len < TYPE_MAX ? len : TYPE_MAX] = '\0';
        return value;
    }
    t->typed += len;
    return value;
}

/* ---- nodes ---- */

static size_t offset_of(const struct scanner *s, const uint8_t *p)
{
    return (size_t)(p - s->raw.data);
}

/* False when there are too many. */
static bool add_node(struct scanner *s, size_t at)
{
    struct mime_tree *t = s->tree;
    if (t->count == LIMIT_MIME_PARTS) {
        t->truncated = true;
        return false;
    }
    if (t->count == s->capacity) {
        s->capacity = s->capacity == 0 ? 8 : 2 * s->capacity;
        t->nodes = xrealloc(t->nodes, s->capacity * sizeof *t->nodes);
    }
    struct mime_node *n = &t->nodes[t->count];
    *n = (struct mime_node){.number = "", .type = "text/plain"};
    if (s->depth > 0) {
        n->parent = s->stack[s->depth - 1].node;
        struct mime_node *parent = &t->nodes[n->parent];
        n->depth = parent->depth + 1;
        parent->children++;
        char number[16 * LIMIT_MIME_DEPTH];
        int len =
            snprintf(number, sizeof number, "%s%s%u", parent->number,
                     *parent->number != '\0' ? "." : "", parent->children);
        n->number = arena_copy(&t->arena, number, (size_t)len + 1);
        if (strcmp(parent->type, "multipart/digest") == 0)
            n->type = "message/rfc822";
    }
    t->count++;
    s->open = s->in_head = true;
    s->head_start = at;
    return true;
}

/* type/subtype in lower case, if both are well-formed tokens. */
static const char *type_name(GMimeContentType *ct, struct arena *arena)
{
    const char *type = g_mime_content_type_get_media_type(ct);
    const char *sub = g_mime_content_type_get_media_subtype(ct);
    if (type == NULL || sub == NULL || strlen(type) + strlen(sub) > 120)
        return "application/octet-stream";
    char text[256];
    snprintf(text, sizeof text, "%s/%s", type, sub);
    for (char *p = text; *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) && strchr("/-+._!#$&^", *p) == NULL)
            return "application/octet-stream";
        *p = (char)tolower((unsigned char)*p);
    }
    return arena_copy(arena, text, strlen(text) + 1);
}

static void push(struct scanner *s, struct mime_node *n, const char *boundary)
{
    size_t len = strlen(boundary);
    while (len > 0 && is_blank((uint8_t)boundary[len - 1]))
        len--;
    if (len == 0 || len > BOUNDARY_MAX)
        return;
    if (s->depth == LIMIT_MIME_DEPTH) {
        s->tree->truncated = true;
        n->type = "application/octet-stream";
        return;
    }
    char line[BOUNDARY_MAX + 8];
    int n2 = snprintf(line, sizeof line, "--%.*s--", (int)len, boundary);
    s->stack[s->depth++] =
        (struct open_multipart){.node = s->tree->count - 1,
                                .delimiter = XXH3_64bits(line, (size_t)n2 - 2),
                                .closing = XXH3_64bits(line, (size_t)n2)};
    n->multipart = true;
    s->open = false; /* what follows is the preamble */
}

/* The header of the open node ends at HEAD_END, its body begins at BODY. */
static void end_head(struct scanner *s, size_t head_end, size_t body)
{
    struct mime_node *n = &s->tree->nodes[s->tree->count - 1];
    n->head = slice_make(s->raw.data + s->head_start, head_end - s->head_start);
    n->body = slice_make(s->raw.data + body, 0);
    s->in_head = false;
    struct arena arena = {0};
    const char *value =
        mime_typed_field(s->tree, n->head, "Content-Type", &arena);
    if (value == NULL)
        return;
    GMimeContentType *ct = g_mime_content_type_parse(NULL, value);
    arena_free(&arena);
    n->type = type_name(ct, &s->tree->arena);
    const char *boundary = g_mime_content_type_get_parameter(ct, "boundary");
    if (strncmp(n->type, "multipart/", 10) == 0 && boundary != NULL)
        push(s, n, boundary);
    g_object_unref(ct);
}

/* The open node ends at AT, where a line begins; the line end before it
 * belongs to the delimiter. */
static void end_node(struct scanner *s, size_t at, bool delimiter)
{
    if (!s->open)
        return;
    if (s->in_head)
        end_head(s, at, at);
    s->open = false;
    struct mime_node *n = &s->tree->nodes[s->tree->count - 1];
    size_t body = offset_of(s, n->body.data);
    if (delimiter && at > body && s->raw.data[at - 1] == '\n')
        at--;
    if (delimiter && at > body && s->raw.data[at - 1] == '\r')
        at--;
    n->body.len = at - body;
}

/* ---- lines ---- */

/* Index of the open multipart that LINE delimits, or -1. */
static int match_delimiter(const struct scanner *s, struct slice line,
                           bool *closing)
{
    if (s->depth == 0 || line.len < 3 || line.data[0] != '-' ||
        line.data[1] != '-')
        return -1;
    while (line.len > 0 && is_blank(line.data[line.len - 1]))
        line.len--;
    if (line.len > BOUNDARY_MAX + 4)
        return -1;
    uint64_t hash = XXH3_64bits(line.data, line.len);
    for (size_t i = s->depth; i-- > 0;) {
        *closing = hash == s->stack[i].closing;
        if (*closing || hash == s->stack[i].delimiter)
            return (int)i;
    }
    return -1;
}

/* A line of a header; AT is behind it. */
static void on_head_line(struct scanner *s, struct slice line, size_t start,
                         size_t at)
{
    if (line.len == 0) {
        end_head(s, start, at);
        return;
    }
    /* The message's own header may begin in its midst, as a store puts trace
     * fields before it: so whatever is borne with in its first line, a
     * mailbox's "From " or a fold, is so in every line. */
    bool root = s->tree->count == 1, first = start == s->head_start;
    bool field = field_name_length(line) > 0 ||
                 ((root || !first) && is_blank(line.data[0])) ||
                 (root && slice_starts_with(line, slice_of("From ")));
    if (!field)
        end_head(s, start, start);
}

/* Multiparts that turned out to have no parts are shown as text. */
static void finish(struct scanner *s)
{
    struct mime_tree *t = s->tree;
    for (size_t i = 0; i < t->count; i++) {
        struct mime_node *n = &t->nodes[i];
        if (n->multipart && n->children == 0) {
            n->multipart = false;
            n->type = "text/plain";
            n->body.len = s->raw.len - offset_of(s, n->body.data);
            if (i + 1 < t->count)
                n->body.len = 0;
        }
    }
    if (!t->nodes[0].multipart)
        t->nodes[0].number = "1";
}

void mime_scan(struct slice raw, struct mime_tree *out)
{
    *out = (struct mime_tree){0};
    struct scanner s = {.raw = raw, .tree = out};
    (void)add_node(&s, 0);
    size_t at = 0, start = 0;
    struct slice line;
    for (; mime_next_line(raw, &at, &line); start = at) {
        bool closing = false;
        int level = match_delimiter(&s, line, &closing);
        if (level >= 0) {
            end_node(&s, start, true);
            s.depth = (size_t)level + (closing ? 0 : 1);
            if (!closing && !add_node(&s, at))
                break;
        } else if (s.open && s.in_head) {
            on_head_line(&s, line, start, at);
        }
    }
    end_node(&s, start, false);
    finish(&s);
}

void mime_tree_free(struct mime_tree *t)
{
    free(t->nodes);
    arena_free(&t->arena);
    *t = (struct mime_tree){0};
}
