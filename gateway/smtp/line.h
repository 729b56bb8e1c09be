/*
 * Command lines (RFC 5321 2.3.8, 4.5.3.1.4): only CR LF ends one. Pure; a
 * byte machine.
 */
#ifndef GATEWAY_SMTP_LINE_H
#define GATEWAY_SMTP_LINE_H

#include "common/buf.h"
#include "common/limits.h"

struct smtp_line {
    char text[LIMIT_SMTP_COMMAND + 1]; /* without CR LF, with a NUL */
    size_t len;
    bool cr;       /* the last byte was CR */
    bool too_long; /* above LIMIT_SMTP_COMMAND with its CR LF: not all kept */
    bool bad;      /* a bare CR or LF, a NUL, another control or 8-bit byte */
};

void smtp_line_clear(struct smtp_line *l);
/* Takes bytes of IN; true when a line is whole: the caller reads it and
 * clears it. *USED of them were taken. */
bool smtp_line_feed(struct smtp_line *l, struct slice in, size_t *used);

#endif
