/*
 * A tokenizer in the manner of the HTML standard (13.2.5), and a writer that
 * knows only a few elements. Text is escaped, attribute values are decoded,
 * judged and written anew in double quotes, elements are closed in the order
 * in which they were opened; so a browser sees the tree that we saw.
 *
 * Elements whose contents a browser reads in another way (script, style, svg,
 * textarea ...) go with all that is in them, up to their end tag or the end.
 */
#include "gateway/http/html.h"

#include <string.h>
#include <strings.h>

#include "common/limits.h"
#include "gateway/http/html_tables.h"

#define DEPTH_MAX 200
#define NAME_MAX_BYTES 32
#define STYLE_MAX KIB(16)

struct cleaner {
    const uint8_t *at, *end;
    const struct html_options *options;
    struct buf *out;
    unsigned blocked;
    unsigned depth;
    uint8_t open[DEPTH_MAX][NAME_MAX_BYTES]; /* names, NUL terminated */
    struct buf value;                        /* an attribute's, decoded */
};

static bool is_space(uint8_t c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\f' || c == '\r';
}

static bool is_alpha(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_alnum(uint8_t c)
{
    return is_alpha(c) || (c >= '0' && c <= '9');
}

static uint8_t lower(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c - 'A' + 'a') : c;
}

static void skip_past(struct cleaner *c, const char *mark)
{
    size_t len = strlen(mark);
    const uint8_t *found = memmem(c->at, (size_t)(c->end - c->at), mark, len);
    c->at = found == NULL ? c->end : found + len;
}

/* Length of the entity that starts at the '&' at AT, semicolon included; 0 if
 * it is none. */
static size_t entity_length(const uint8_t *at, const uint8_t *end)
{
    const uint8_t *p = at + 1;
    if (p < end && *p == '#')
        p++;
    const uint8_t *first = p;
    while (p < end && p - at < 12 && is_alnum(*p))
        p++;
    return p > first && p < end && *p == ';' ? (size_t)(p - at) + 1 : 0;
}

static void put_escaped(struct buf *out, uint8_t c)
{
    if (c == '&')
        buf_put_text(out, "&amp;");
    else if (c == '<')
        buf_put_text(out, "&lt;");
    else if (c == '>')
        buf_put_text(out, "&gt;");
    else if (c == '"')
        buf_put_text(out, "&quot;");
    else if (c >= ' ' || c == '\n' || c == '\t')
        buf_put_u8(out, c);
}

static void put_text(struct cleaner *c)
{
    size_t entity = *c->at == '&' ? entity_length(c->at, c->end) : 0;
    if (entity > 0) {
        buf_put(c->out, c->at, entity);
        c->at += entity;
        return;
    }
    put_escaped(c->out, *c->at++);
}

static void put_utf8(struct buf *out, uint32_t c)
{
    if (c < 0x80) {
        buf_put_u8(out, (uint8_t)c);
        return;
    }
    if (c < 0x800) {
        buf_put_u8(out, (uint8_t)(0xc0 | c >> 6));
    } else {
        if (c < 0x10000) {
            buf_put_u8(out, (uint8_t)(0xe0 | c >> 12));
        } else {
            buf_put_u8(out, (uint8_t)(0xf0 | c >> 18));
            buf_put_u8(out, (uint8_t)(0x80 | (c >> 12 & 0x3f)));
        }
        buf_put_u8(out, (uint8_t)(0x80 | (c >> 6 & 0x3f)));
    }
    buf_put_u8(out, (uint8_t)(0x80 | (c & 0x3f)));
}

/* Number after "&#", with or without a semicolon, as browsers read it. */
static size_t number_entity(const uint8_t *at, const uint8_t *end,
                            uint32_t *out)
{
    const uint8_t *p = at + 2;
    bool hex = p < end && lower(*p) == 'x';
    p += hex;
    const uint8_t *first = p;
    uint32_t n = 0;
    for (; p < end; p++) {
        uint8_t d = lower(*p);
        uint32_t digit = d >= '0' && d <= '9'          ? d - (uint32_t)'0'
                         : hex && d >= 'a' && d <= 'f' ? d - (uint32_t)'a' + 10
                                                       : 99;
        if (digit == 99)
            break;
        n = n > 0x10ffff ? n : n * (hex ? 16 : 10) + digit;
    }
    if (p == first)
        return 0;
    *out = n;
    return (size_t)(p - at) + (p < end && *p == ';');
}

/* Appends the character that stands at *AT, an entity decoded. */
static void decode_one(struct buf *out, const uint8_t **at, const uint8_t *end)
{
    uint32_t code = 0;
    size_t len = 0;
    if (**at == '&' && *at + 1 < end && (*at)[1] == '#') {
        len = number_entity(*at, end, &code);
        if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
            code = 0xfffd;
    } else if (**at == '&') {
        len = entity_length(*at, end);
        if (len > 0)
            code = html_entity(slice_make(*at + 1, len - 2));
    }
    if (len == 0 || code == 0) {
        buf_put_u8(out, *(*at)++);
        return;
    }
    put_utf8(out, code);
    *at += len;
}

/* Reads a value after '='; what is too long counts as empty. */
static void read_value(struct cleaner *c)
{
    buf_clear(&c->value);
    c->value.full = false;
    while (c->at < c->end && is_space(*c->at))
        c->at++;
    if (c->at == c->end)
        return;
    uint8_t quote = *c->at == '"' || *c->at == '\'' ? *c->at : 0;
    const uint8_t *p = c->at + (quote != 0), *end = p;
    while (end < c->end &&
           (quote != 0 ? *end != quote : !is_space(*end) && *end != '>'))
        end++;
    c->at = end < c->end && quote != 0 ? end + 1 : end;
    while (p < end && !c->value.full)
        decode_one(&c->value, &p, end);
    if (c->value.full)
        buf_clear(&c->value);
}

static void put_attribute(struct cleaner *c, struct slice name,
                          struct slice value)
{
    buf_put_u8(c->out, ' ');
    buf_put(c->out, name.data, name.len);
    buf_put_text(c->out, "=\"");
    for (size_t i = 0; i < value.len; i++)
        put_escaped(c->out, value.data[i]);
    buf_put_u8(c->out, '"');
}

static bool starts_with(struct slice s, const char *prefix)
{
    size_t len = strlen(prefix);
    return s.len >= len && strncasecmp((const char *)s.data, prefix, len) == 0;
}

/* Without spaces and control characters in front, where browsers ignore
 * them. */
static struct slice trimmed(struct slice s)
{
    while (s.len > 0 && s.data[0] <= ' ')
        s = slice_make(s.data + 1, s.len - 1);
    while (s.len > 0 && s.data[s.len - 1] <= ' ')
        s.len--;
    return s;
}

static void put_link(struct cleaner *c, struct slice value)
{
    if (!starts_with(value, "https://") && !starts_with(value, "http://") &&
        !starts_with(value, "mailto:"))
        return;
    put_attribute(c, slice_of("href"), value);
    buf_put_text(c->out, " target=\"_blank\" rel=\"noopener noreferrer\"");
}

/* Images of the mail itself pass; others would tell their server who reads
 * this, and when. */
static void put_image(struct cleaner *c, struct slice value)
{
    static const char *const types[] = {
        "data:image/png;base64,", "data:image/gif;base64,",
        "data:image/jpeg;base64,", "data:image/webp;base64,"};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (starts_with(value, types[i])) {
            put_attribute(c, slice_of("src"), value);
            return;
        }
    }
    if (!starts_with(value, "cid:")) {
        c->blocked++;
        return;
    }
    struct buf cid = {.max = 1024}, uri = {.max = c->out->max};
    buf_put(&cid, value.data + 4, value.len - 4);
    if (!cid.full && c->options->inline_image != NULL &&
        c->options->inline_image(c->options->ctx, buf_cstr(&cid), &uri) &&
        !uri.full)
        put_attribute(c, slice_of("src"), buf_slice(&uri));
    buf_free(&cid);
    buf_free(&uri);
}

static void put_style(struct cleaner *c, struct slice style)
{
    struct buf kept = {.max = STYLE_MAX};
    for (size_t at = 0; at < style.len;) {
        const uint8_t *p = style.data + at;
        const uint8_t *end = memchr(p, ';', style.len - at);
        size_t len = end == NULL ? style.len - at : (size_t)(end - p);
        at += len + 1;
        const uint8_t *colon = memchr(p, ':', len);
        if (colon == NULL)
            continue;
        struct slice name = trimmed(slice_make(p, (size_t)(colon - p)));
        struct slice value =
            trimmed(slice_make(colon + 1, len - (size_t)(colon - p) - 1));
        if (!html_style_allowed(name, value))
            continue;
        buf_put(&kept, name.data, name.len);
        buf_put_u8(&kept, ':');
        buf_put(&kept, value.data, value.len);
        buf_put_u8(&kept, ';');
    }
    if (kept.len > 0 && !kept.full)
        put_attribute(c, slice_of("style"), buf_slice(&kept));
    buf_free(&kept);
}

static void put_one_attribute(struct cleaner *c, struct slice element,
                              struct slice name)
{
    struct slice value = trimmed(buf_slice(&c->value));
    switch (html_attribute_kind(element, name)) {
    case HTML_ATTRIBUTE_DROP:
        break;
    case HTML_ATTRIBUTE_PLAIN:
        put_attribute(c, name, value);
        break;
    case HTML_ATTRIBUTE_STYLE:
        put_style(c, value);
        break;
    case HTML_ATTRIBUTE_LINK:
        put_link(c, value);
        break;
    case HTML_ATTRIBUTE_IMAGE:
        put_image(c, value);
        break;
    case HTML_ATTRIBUTE_REMOTE:
        c->blocked++;
        break;
    }
}

/* Reads attributes up to and past '>'; writes the good ones if KEEP. Each is
 * written once: of two of one name browsers take the first. */
static void read_attributes(struct cleaner *c, struct slice element, bool keep)
{
    uint64_t seen[64];
    size_t seen_count = 0;
    while (c->at < c->end && *c->at != '>') {
        uint8_t name[NAME_MAX_BYTES];
        size_t len = 0, all = 0;
        if (is_space(*c->at) || *c->at == '/') {
            c->at++;
            continue;
        }
        do {
            if (len < sizeof(name))
                name[len++] = lower(*c->at);
            all++;
            c->at++;
        } while (c->at < c->end && !is_space(*c->at) && *c->at != '/' &&
                 *c->at != '>' && *c->at != '=');
        while (c->at < c->end && is_space(*c->at))
            c->at++;
        buf_clear(&c->value);
        if (c->at < c->end && *c->at == '=') {
            c->at++;
            read_value(c);
        }
        bool again = all > sizeof(name) || seen_count == 64;
        uint64_t hash = 0;
        for (size_t i = 0; i < len; i++)
            hash = hash * 257 + name[i];
        for (size_t i = 0; i < seen_count; i++)
            again |= seen[i] == hash;
        if (again || !keep)
            continue;
        seen[seen_count++] = hash;
        put_one_attribute(c, element, slice_make(name, len));
    }
    if (c->at < c->end)
        c->at++;
}

static void close_innermost(struct cleaner *c)
{
    c->depth--;
    buf_printf(c->out, "</%s>", (const char *)c->open[c->depth]);
}

/* Goes on behind the end tag of NAME; to the end if there is none. */
static void swallow(struct cleaner *c, struct slice name)
{
    while (c->at < c->end) {
        const uint8_t *p = memchr(c->at, '<', (size_t)(c->end - c->at));
        if (p == NULL || (size_t)(c->end - p) < name.len + 3) {
            c->at = c->end;
            return;
        }
        c->at = p + 1;
        uint8_t after = p[2 + name.len];
        if (p[1] == '/' &&
            strncasecmp((const char *)p + 2, (const char *)name.data,
                        name.len) == 0 &&
            (is_space(after) || after == '>' || after == '/')) {
            skip_past(c, ">");
            return;
        }
    }
}

static void read_end_tag(struct cleaner *c, struct slice name)
{
    unsigned i = c->depth;
    while (i > 0 && !slice_equal(slice_of((const char *)c->open[i - 1]), name))
        i--;
    if (i == 0)
        return;
    while (c->depth >= i)
        close_innermost(c);
}

static void read_start_tag(struct cleaner *c, struct slice name)
{
    enum html_kind kind = html_element_kind(name);
    bool keep =
        kind == HTML_VOID || (kind == HTML_KEEP && c->depth < DEPTH_MAX);
    if (keep) {
        buf_put_u8(c->out, '<');
        buf_put(c->out, name.data, name.len);
    }
    read_attributes(c, name, keep);
    if (keep)
        buf_put_u8(c->out, '>');
    if (keep && kind == HTML_KEEP) {
        memcpy(c->open[c->depth], name.data, name.len);
        c->open[c->depth++][name.len] = '\0';
    }
    if (kind == HTML_SWALLOW)
        swallow(c, name);
}

static void read_tag(struct cleaner *c)
{
    const uint8_t *p = c->at + 1;
    bool is_end = p < c->end && *p == '/';
    p += is_end;
    if (p >= c->end || !is_alpha(*p)) {
        if (is_end || (p < c->end && (*p == '!' || *p == '?'))) {
            bool comment = c->end - c->at >= 4 && memcmp(c->at, "<!--", 4) == 0;
            c->at += comment ? 2 : 1;
            skip_past(c, comment ? "-->" : ">");
            return;
        }
        put_escaped(c->out, '<');
        c->at++;
        return;
    }
    uint8_t name[NAME_MAX_BYTES];
    size_t len = 0;
    for (; p < c->end && !is_space(*p) && *p != '/' && *p != '>'; p++) {
        if (len < sizeof(name) - 1)
            name[len++] = lower(*p);
    }
    c->at = p;
    struct slice element = slice_make(name, len);
    if (!is_end) {
        read_start_tag(c, element);
        return;
    }
    read_attributes(c, element, false);
    read_end_tag(c, element);
}

void html_clean(struct slice html, const struct html_options *o,
                struct buf *out, unsigned *blocked)
{
    struct cleaner c = {.at = html.data, .options = o, .out = out};
    c.end = html.len == 0 ? html.data : html.data + html.len;
    c.value.max = MIB(4);
    while (c.at < c.end && !out->full) {
        if (*c.at == '<')
            read_tag(&c);
        else
            put_text(&c);
    }
    while (c.depth > 0)
        close_innermost(&c);
    buf_free(&c.value);
    *blocked = c.blocked;
}
