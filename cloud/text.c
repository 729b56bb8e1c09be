/*
 * Cleaning text: see the header. One loop takes characters, and a small
 * classification says what becomes of each.
 */
#include "cloud/text.h"

#include <assert.h>
#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd"

size_t text_utf8_step(struct slice s, uint32_t *code)
{
    static const uint32_t lowest[5] = {0, 0, 0x80, 0x800, 0x10000};
    if (s.len == 0)
        return 0;
    uint8_t c = s.data[0];
    size_t n = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
    if (n == 0 || c > 0xf4 || s.len < n)
        return 0;
    uint32_t v = n == 1 ? c : (uint32_t)(c & (0xff >> (n + 1)));
    for (size_t i = 1; i < n; i++) {
        if ((s.data[i] & 0xc0) != 0x80)
            return 0;
        v = v << 6 | (s.data[i] & 0x3fu);
    }
    if (v < lowest[n] || v > 0x10ffff || (v >= 0xd800 && v < 0xe000))
        return 0;
    if (code != NULL)
        *code = v;
    return n;
}

static bool is_control(uint32_t c)
{
    return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x2028 || c == 0x2029 ||
           c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb);
}

/* Marks that reorder or hide what is shown. */
static bool is_direction(uint32_t c)
{
    return (c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) ||
           c == 0x200e || c == 0x200f || c == 0x061c;
}

bool text_utf8_valid(struct slice s)
{
    while (s.len > 0) {
        size_t n = text_utf8_step(s, NULL);
        if (n == 0)
            return false;
        s = slice_make(s.data + n, s.len - n);
    }
    return true;
}

bool text_is_unsafe(struct slice s)
{
    while (s.len > 0) {
        uint32_t c = 0;
        size_t n = text_utf8_step(s, &c);
        if (n == 0 || is_control(c))
            return true;
        s = slice_make(s.data + n, s.len - n);
    }
    return false;
}

/* Takes one character off *IN: its bytes, or the replacement's for a bad
 * byte. */
static struct slice take(struct slice *in, uint32_t *code)
{
    size_t n = text_utf8_step(*in, code);
    struct slice out = slice_make(in->data, n);
    if (n == 0) {
        *code = 0xfffd;
        out = slice_make(REPLACEMENT, 3);
        n = 1;
    }
    *in = slice_make(in->data + n, in->len - n);
    return out;
}

void text_line(struct slice in, char *out, size_t size)
{
    assert(size > 0);
    size_t len = 0;
    bool space = false;
    while (in.len > 0) {
        uint32_t c = 0;
        struct slice s = take(&in, &c);
        if (is_direction(c))
            continue;
        if (c == ' ' || c == 0xa0 || is_control(c)) {
            space = len > 0;
            continue;
        }
        if (len + (space ? 1 : 0) + s.len >= size)
            break;
        if (space)
            out[len++] = ' ';
        space = false;
        memcpy(out + len, s.data, s.len);
        len += s.len;
    }
    out[len] = '\0';
}

bool text_body(struct slice in, size_t max, struct buf *out)
{
    size_t room = max;
    while (in.len > 0) {
        /* Plain stretches go through at once: bodies may be long. */
        size_t plain = 0;
        while (plain < in.len && plain < room && in.data[plain] >= 0x20 &&
               in.data[plain] < 0x7f)
            plain++;
        buf_put(out, in.data, plain);
        in = slice_make(in.data + plain, in.len - plain);
        room -= plain;
        if (in.len == 0)
            break;
        if (room == 0)
            return false;
        uint32_t c = 0;
        struct slice s = take(&in, &c);
        if (is_control(c) && c != '\n' && c != '\t')
            continue;
        if (s.len > room)
            return false;
        buf_put_slice(out, s);
        room -= s.len;
    }
    return true;
}

void text_file_name(struct slice in, char *out, size_t size)
{
    text_line(in, out, size);
    for (char *p = out; *p != '\0'; p++) {
        if (*p == '/' || *p == '\\')
            *p = '_';
    }
    /* "." and ".." name folders wherever the file is saved. */
    if (strcmp(out, ".") == 0 || strcmp(out, "..") == 0)
        out[0] = '_';
}
