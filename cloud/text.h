/*
 * Text from outside made fit to store and show: valid UTF-8, no control
 * characters, none that turn the direction of what follows (they make one
 * file name look like another), cut at a size without splitting a character.
 * Pure.
 */
#ifndef CLOUD_TEXT_H
#define CLOUD_TEXT_H

#include "common/buf.h"

/* Length of the valid UTF-8 sequence at the start of S; 0 if there is none.
 * *CODE (may be NULL) receives the character. */
size_t text_utf8_step(struct slice s, uint32_t *code);
bool text_utf8_valid(struct slice s);

/* Fit for a line: bad bytes become U+FFFD, runs of white space and control
 * characters one space, none at the ends. Writes at most SIZE - 1 bytes and a
 * NUL. */
void text_line(struct slice in, char *out, size_t size);
/* Fit for a body: as above, but \n and \t stay, CRLF becomes \n, and white
 * space is kept. Appends at most MAX bytes; false if there was more. */
bool text_body(struct slice in, size_t max, struct buf *out);
/* A file name: text_line() with path separators made '_'. */
void text_file_name(struct slice in, char *out, size_t size);
/* True if S has a control character (CR, LF, NUL, ...) or is not UTF-8. */
bool text_is_unsafe(struct slice s);

#endif
