/*
 * Which parts are the body, and what they say: the first inline text/plain
 * and the first inline text/html leaf. A message that is no MIME at all has
 * one leaf, text/plain. For the snippet of a message that has only HTML,
 * tags, styles and scripts are left out by a small scanner; its output is
 * text for a list and is never used as HTML.
 */
#include <string.h>
#include <strings.h>

#include "cloud/charset.h"
#include "cloud/message_inside.h"
#include "cloud/text.h"

#define SNIPPET_RAW KIB(16)

/* Index of the first inline leaf of TYPE, or -1. */
static int find_inline(const struct message *m, const char *type)
{
    for (size_t i = 0; i < m->part_count; i++) {
        if (!m->parts[i].attachment && strcmp(m->parts[i].type, type) == 0)
            return (int)i;
    }
    return -1;
}

/* Part I as UTF-8, at most MAX bytes; false if there was more. */
static bool read_text(const struct message *m, int i, size_t max,
                      struct buf *out)
{
    struct buf bytes = {0};
    bool whole = message_decode(m, (size_t)i, max, &bytes);
    if (!charset_to_utf8(buf_slice(&bytes), m->parts[i].charset, max, out))
        whole = false;
    buf_free(&bytes);
    return whole;
}

void message_body(const struct message *m, struct message_body *out)
{
    *out = (struct message_body){.text_part = "", .html_part = ""};
    int text = find_inline(m, "text/plain");
    int html = find_inline(m, "text/html");
    if (text >= 0) {
        out->text_part = m->parts[text].number;
        out->cut |= !read_text(m, text, LIMIT_MESSAGE_BODY, &out->text);
    }
    if (html >= 0) {
        out->html_part = m->parts[html].number;
        out->cut |= !read_text(m, html, LIMIT_MESSAGE_BODY, &out->html);
    }
}

void message_body_free(struct message_body *b)
{
    buf_free(&b->text);
    buf_free(&b->html);
}

/* ---- snippets ---- */

static const struct {
    const char *name, *text;
} entities[] = {
    {"&amp;", "&"}, {"&lt;", "<"},   {"&gt;", ">"},  {"&quot;", "\""},
    {"&#39;", "'"}, {"&nbsp;", " "}, {"&zwnj;", ""}, {"&shy;", ""},
};

static bool starts_fold(struct slice s, const char *prefix)
{
    size_t n = strlen(prefix);
    return s.len >= n && strncasecmp((const char *)s.data, prefix, n) == 0;
}

static struct slice skip(struct slice s, size_t n)
{
    return slice_make(s.data + n, s.len - n);
}

/* S behind the end tag of NAME, or empty. */
static struct slice skip_element(struct slice s, const char *end_tag)
{
    while (s.len > 0 && !starts_fold(s, end_tag))
        s = skip(s, 1);
    return s;
}

/* S behind the tag, comment or element that begins at its "<". */
static struct slice skip_tag(struct slice s)
{
    if (starts_fold(s, "<style"))
        s = skip_element(s, "</style");
    else if (starts_fold(s, "<script"))
        s = skip_element(s, "</script");
    else if (starts_fold(s, "<title"))
        s = skip_element(s, "</title");
    else if (starts_fold(s, "<!--"))
        s = skip_element(s, "-->");
    while (s.len > 0 && s.data[0] != '>')
        s = skip(s, 1);
    return s.len > 0 ? skip(s, 1) : s;
}

static void strip_html(struct slice s, struct buf *out)
{
    while (s.len > 0) {
        if (s.data[0] == '<') {
            s = skip_tag(s);
            buf_put_u8(out, ' ');
            continue;
        }
        size_t taken = 0;
        for (size_t i = 0; i < sizeof entities / sizeof *entities; i++) {
            if (s.data[0] == '&' && starts_fold(s, entities[i].name)) {
                taken = strlen(entities[i].name);
                buf_put_text(out, entities[i].text);
                break;
            }
        }
        if (taken == 0) {
            buf_put_u8(out, s.data[0]);
            taken = 1;
        }
        s = skip(s, taken);
    }
}

void message_snippet(const struct message *m, char *out, size_t size)
{
    struct buf text = {0}, html = {0};
    int i = find_inline(m, "text/plain");
    if (i >= 0) {
        (void)read_text(m, i, SNIPPET_RAW, &text);
    } else if ((i = find_inline(m, "text/html")) >= 0) {
        (void)read_text(m, i, SNIPPET_RAW, &html);
        strip_html(buf_slice(&html), &text);
    }
    text_line(buf_slice(&text), out, size);
    buf_free(&text);
    buf_free(&html);
}
