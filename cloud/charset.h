/*
 * Bodies to UTF-8. Charsets are taken from a table: a name that a stranger
 * wrote never reaches iconv_open(), which loads modules by name. Pure.
 */
#ifndef CLOUD_CHARSET_H
#define CLOUD_CHARSET_H

#include "common/buf.h"

/* Appends IN, in CHARSET (any text, or NULL), to OUT as UTF-8, cleaned as by
 * text_body(), at most MAX bytes; false if there was more. Unknown charsets
 * and unmarked 8-bit text that is not UTF-8 are read as windows-1252. */
bool charset_to_utf8(struct slice in, const char *charset, size_t max,
                     struct buf *out);

#endif
