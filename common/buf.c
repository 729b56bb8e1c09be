#include "common/buf.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool slice_equal(struct slice a, struct slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

int slice_compare(struct slice a, struct slice b)
{
    size_t n = a.len < b.len ? a.len : b.len;
    int c = n == 0 ? 0 : memcmp(a.data, b.data, n);
    if (c != 0) {
        return c;
    }
    return a.len < b.len ? -1 : a.len > b.len;
}

bool slice_starts_with(struct slice s, struct slice prefix)
{
    return s.len >= prefix.len &&
           (prefix.len == 0 || memcmp(s.data, prefix.data, prefix.len) == 0);
}

bool id128_is_zero(struct id128 a)
{
    static const struct id128 zero;
    return id128_equal(a, zero);
}

void id128_format(struct id128 id, char out[33])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof(id.b); i++) {
        out[2 * i] = digits[id.b[i] >> 4];
        out[2 * i + 1] = digits[id.b[i] & 15];
    }
    out[32] = '\0';
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return -1;
}

bool id128_parse(const char *text, struct id128 *out)
{
    struct id128 id;
    if (strlen(text) != 32) {
        return false;
    }
    for (size_t i = 0; i < sizeof(id.b); i++) {
        int hi = hex_value(text[2 * i]), lo = hex_value(text[2 * i + 1]);
        if (hi < 0 || lo < 0) {
            return false;
        }
        id.b[i] = (uint8_t)(hi * 16 + lo);
    }
    *out = id;
    return true;
}

void buf_init(struct buf *b, size_t max)
{
    *b = (struct buf){.max = max};
}

void buf_free(struct buf *b)
{
    free(b->data);
    *b = (struct buf){.max = b->max};
}

void buf_clear(struct buf *b)
{
    b->len = 0;
    b->full = false;
}

uint8_t *buf_reserve(struct buf *b, size_t len)
{
    if (b->full || (b->max != 0 && len > b->max - b->len)) {
        b->full = true;
        return NULL;
    }
    if (b->cap - b->len < len) {
        size_t cap = b->cap < 64 ? 64 : b->cap;
        while (cap - b->len < len) {
            assert(cap <= SIZE_MAX / 2);
            cap *= 2;
        }
        b->data = xrealloc(b->data, cap);
        b->cap = cap;
    }
    return b->data + b->len;
}

void buf_put_text(struct buf *b, const char *text)
{
    buf_put(b, text, strlen(text));
}

void buf_printf(struct buf *b, const char *format, ...)
{
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(NULL, 0, format, ap);
    va_end(ap);
    assert(n >= 0);
    uint8_t *to = buf_reserve(b, (size_t)n + 1);
    if (to == NULL) {
        return;
    }
    va_start(ap, format);
    (void)vsnprintf((char *)to, (size_t)n + 1, format, ap);
    va_end(ap);
    b->len += (size_t)n;
}

void buf_consume(struct buf *b, size_t len)
{
    assert(len <= b->len);
    b->len -= len;
    if (b->len > 0) {
        memmove(b->data, b->data + len, b->len);
    }
}

struct slice buf_slice(const struct buf *b)
{
    return slice_make(b->data, b->len);
}

const char *buf_cstr(struct buf *b)
{
    uint8_t *to;
    size_t max = b->max;
    b->max = 0;
    bool full = b->full;
    b->full = false;
    to = buf_reserve(b, 1);
    *to = '\0';
    b->max = max;
    b->full = full;
    return (const char *)b->data;
}

/* Most arenas hold little: their one block is of a size that malloc() gives and
 * takes back quickest. */
#define ARENA_FIRST 960
#define ARENA_NEXT 4000

struct arena_block {
    struct arena_block *next;
    size_t used, cap;
    _Alignas(max_align_t) uint8_t bytes[];
};

void *arena_alloc(struct arena *a, size_t size)
{
    size_t align = _Alignof(max_align_t);
    size = (size + align - 1) / align * align;
    struct arena_block *k = a->blocks;
    if (k == NULL || k->cap - k->used < size) {
        size_t least = k == NULL ? ARENA_FIRST : ARENA_NEXT;
        size_t cap = size > least ? size : least;
        k = xmalloc(sizeof(*k) + cap);
        k->used = 0;
        k->cap = cap;
        k->next = a->blocks;
        a->blocks = k;
    }
    void *p = k->bytes + k->used;
    k->used += size;
    return memset(p, 0, size);
}

void *arena_copy(struct arena *a, const void *data, size_t len)
{
    void *p = arena_alloc(a, len);
    if (len > 0) {
        memcpy(p, data, len);
    }
    return p;
}

void arena_free(struct arena *a)
{
    while (a->blocks != NULL) {
        struct arena_block *next = a->blocks->next;
        free(a->blocks);
        a->blocks = next;
    }
}

void *xmalloc(size_t size)
{
    void *p = malloc(size == 0 ? 1 : size);
    if (p == NULL) {
        abort();
    }
    return p;
}

void *xcalloc(size_t count, size_t size)
{
    void *p = calloc(count == 0 ? 1 : count, size == 0 ? 1 : size);
    if (p == NULL) {
        abort();
    }
    return p;
}

void *xrealloc(void *p, size_t size)
{
    void *q = realloc(p, size == 0 ? 1 : size);
    if (q == NULL) {
        abort();
    }
    return q;
}

char *xstrdup(const char *text)
{
    size_t len = strlen(text) + 1;
    return memcpy(xmalloc(len), text, len);
}
