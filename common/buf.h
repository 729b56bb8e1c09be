/*
 * Bytes: a borrowed slice, an owned growing buffer with a maximum, a
 * bounds-checked reading cursor, and an arena for what a decoder makes.
 * Integers are little endian, as everywhere on our wire and disk.
 * None of this is thread-safe. What encoders and decoders call for each field
 * is inline: that is most of what a message costs.
 */
#ifndef COMMON_BUF_H
#define COMMON_BUF_H

#include <endian.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Borrowed bytes; DATA may be NULL when LEN is 0. */
struct slice {
    const uint8_t *data;
    size_t len;
};

static inline struct slice slice_make(const void *data, size_t len)
{
    return (struct slice){.data = data, .len = len};
}
/* Slice over a C string (without its NUL). */
static inline struct slice slice_of(const char *text)
{
    return slice_make(text, strlen(text));
}
bool slice_equal(struct slice a, struct slice b);
/* memcmp order, the shorter first on a common prefix. */
int slice_compare(struct slice a, struct slice b);
bool slice_starts_with(struct slice s, struct slice prefix);

/* 128 random bits: cluster, store, client, blob ids. */
struct id128 {
    uint8_t b[16];
};
static inline bool id128_equal(struct id128 a, struct id128 b)
{
    return memcmp(a.b, b.b, sizeof(a.b)) == 0;
}
bool id128_is_zero(struct id128 a);
/* Writes 32 hex digits and a NUL. */
void id128_format(struct id128 id, char out[33]);
bool id128_parse(const char *text, struct id128 *out);

/* Owned bytes. Zero-initialised is empty with no maximum; once an append
 * would pass MAX (if not 0), FULL is set, the append is dropped, and so is
 * every later one. */
struct buf {
    uint8_t *data;
    size_t len, cap, max;
    bool full;
};
void buf_init(struct buf *b, size_t max);
void buf_free(struct buf *b);
/* Empties B and keeps its memory. */
void buf_clear(struct buf *b);
/* Makes room for LEN more bytes at the end and returns where; NULL if full.
 * The caller adds to b->len what it wrote. */
uint8_t *buf_reserve(struct buf *b, size_t len);
static inline void buf_put(struct buf *b, const void *data, size_t len)
{
    bool fits = !b->full && b->max == 0 && b->cap - b->len >= len;
    uint8_t *to = len == 0 ? NULL
                  : fits   ? b->data + b->len
                           : buf_reserve(b, len);
    if (to != NULL) {
        memcpy(to, data, len);
        b->len += len;
    }
}
static inline void buf_put_u8(struct buf *b, uint8_t v)
{
    buf_put(b, &v, 1);
}
static inline void buf_put_u16(struct buf *b, uint16_t v)
{
    v = htole16(v);
    buf_put(b, &v, sizeof(v));
}
static inline void buf_put_u32(struct buf *b, uint32_t v)
{
    v = htole32(v);
    buf_put(b, &v, sizeof(v));
}
static inline void buf_put_u64(struct buf *b, uint64_t v)
{
    v = htole64(v);
    buf_put(b, &v, sizeof(v));
}
static inline void buf_put_slice(struct buf *b, struct slice s)
{
    buf_put(b, s.data, s.len);
}
void buf_put_text(struct buf *b, const char *text);
void buf_printf(struct buf *b, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Removes the first LEN bytes. */
void buf_consume(struct buf *b, size_t len);
struct slice buf_slice(const struct buf *b);
/* Appends a NUL that does not count in len, and returns the text. */
const char *buf_cstr(struct buf *b);

/* Reading position. Past the end every getter gives zeros and sets BAD. */
struct cursor {
    const uint8_t *at, *end;
    bool bad;
};
static inline struct cursor cursor_of(struct slice s)
{
    return (struct cursor){.at = s.data,
                           .end = s.data == NULL ? NULL : s.data + s.len};
}
static inline size_t cursor_left(const struct cursor *c)
{
    return c->at == NULL ? 0 : (size_t)(c->end - c->at);
}
static inline struct slice cursor_bytes(struct cursor *c, size_t len)
{
    if (c->bad || cursor_left(c) < len) {
        c->bad = true;
        return slice_make(NULL, 0);
    }
    struct slice s = slice_make(c->at, len);
    if (len > 0) {
        c->at += len;
    }
    return s;
}
/* OUT stays as it is if there are no SIZE bytes left. */
static inline void cursor_copy(struct cursor *c, void *out, size_t size)
{
    struct slice s = cursor_bytes(c, size);
    if (s.len == size) {
        memcpy(out, s.data, size);
    }
}
static inline struct id128 cursor_id128(struct cursor *c)
{
    struct id128 id = {{0}};
    cursor_copy(c, id.b, sizeof(id.b));
    return id;
}
static inline uint8_t cursor_u8(struct cursor *c)
{
    uint8_t v = 0;
    cursor_copy(c, &v, sizeof(v));
    return v;
}
static inline uint16_t cursor_u16(struct cursor *c)
{
    uint16_t v = 0;
    cursor_copy(c, &v, sizeof(v));
    return le16toh(v);
}
static inline uint32_t cursor_u32(struct cursor *c)
{
    uint32_t v = 0;
    cursor_copy(c, &v, sizeof(v));
    return le32toh(v);
}
static inline uint64_t cursor_u64(struct cursor *c)
{
    uint64_t v = 0;
    cursor_copy(c, &v, sizeof(v));
    return le64toh(v);
}

/* Memory that is freed all at once. Zero-initialised is empty. */
struct arena {
    struct arena_block *blocks;
};
/* Zeroed memory aligned for any object; never NULL. */
void *arena_alloc(struct arena *a, size_t size);
void *arena_copy(struct arena *a, const void *data, size_t len);
void arena_free(struct arena *a);

/* Allocate or abort: for small internal things, never for sizes that come
 * from outside unchecked. */
void *xmalloc(size_t size);
void *xcalloc(size_t count, size_t size);
void *xrealloc(void *p, size_t size);
char *xstrdup(const char *text);

#endif
