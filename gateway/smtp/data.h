/*
 * The bytes after DATA (RFC 5321 4.1.1.4, 4.5.2): finds the end, takes the
 * transparency dots away, checks lines. Pure; a byte machine, so it does not
 * matter how the bytes are cut into segments.
 *
 * Only CR LF "." CR LF ends a message. Mail servers differ in what else they
 * take for an end of line, and who makes two of them disagree can put a
 * message of his own into another's ("SMTP smuggling"). So a CR without LF or
 * an LF without CR, anywhere, makes the whole message refused, after its true
 * end: nothing that follows a false end is ever taken for commands.
 */
#ifndef GATEWAY_SMTP_DATA_H
#define GATEWAY_SMTP_DATA_H

#include "common/buf.h"
#include "common/limits.h"

/* Why a message is refused; the first that applies is kept. */
enum smtp_fault {
    SMTP_FAULT_NONE = 0,
    SMTP_FAULT_NEWLINE,   /* bare CR or LF */
    SMTP_FAULT_LINE,      /* a line above LIMIT_SMTP_TEXT_LINE */
    SMTP_FAULT_SIZE,      /* more than the limit */
    SMTP_FAULT_NO_MEMORY, /* the server's, not the client's */
};

struct smtp_data {
    struct buf message; /* unstuffed; empty once a fault is found */
    size_t size_max;
    uint64_t bytes; /* taken in all, dots and end included */
    enum smtp_fault fault;
    uint8_t state;     /* data.c's */
    size_t line_bytes; /* of the line so far, transparency dot left out */
};

void smtp_data_init(struct smtp_data *d, size_t size_max);
void smtp_data_fini(struct smtp_data *d);
/* Takes bytes of IN; true when the end was found. *USED of them were taken,
 * the end's included and nothing behind it. */
bool smtp_data_feed(struct smtp_data *d, struct slice in, size_t *used);
/* Notes FAULT, if there is none yet, and lets the memory go. */
void smtp_data_refuse(struct smtp_data *d, enum smtp_fault fault);

#endif
