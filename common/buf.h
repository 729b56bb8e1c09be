/*
 * Bytes: a borrowed slice, an owned growing buffer with a maximum, a
 * bounds-checked reading cursor, and an arena for what a decoder makes.
 * Integers are little endian, as everywhere on our wire and disk.
 * None of this is thread-safe.
 */
#ifndef COMMON_BUF_H
#define COMMON_BUF_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Borrowed bytes; DATA may be NULL when LEN is 0. */
struct slice {
    const uint8_t *data;
    size_t len;
};

/* Slice over a C string (without its NUL). */
struct slice slice_of(const char *text);
struct slice slice_make(const void *data, size_t len);
bool slice_equal(struct slice a, struct slice b);
/* memcmp order, the shorter first on a common prefix. */
int slice_compare(struct slice a, struct slice b);
bool slice_starts_with(struct slice s, struct slice prefix);

/* 128 random bits: cluster, store, client, blob ids. */
struct id128 {
    uint8_t b[16];
};
bool id128_equal(struct id128 a, struct id128 b);
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
void buf_put(struct buf *b, const void *data, size_t len);
void buf_put_u8(struct buf *b, uint8_t v);
void buf_put_u16(struct buf *b, uint16_t v);
void buf_put_u32(struct buf *b, uint32_t v);
void buf_put_u64(struct buf *b, uint64_t v);
void buf_put_slice(struct buf *b, struct slice s);
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
struct cursor cursor_of(struct slice s);
size_t cursor_left(const struct cursor *c);
uint8_t cursor_u8(struct cursor *c);
uint16_t cursor_u16(struct cursor *c);
uint32_t cursor_u32(struct cursor *c);
uint64_t cursor_u64(struct cursor *c);
struct slice cursor_bytes(struct cursor *c, size_t len);

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
