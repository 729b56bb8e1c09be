/*
 * The one error domain. A function that can fail returns enum status; where
 * a person will read why (open, load, config, recovery), it also fills a
 * struct err with one line of text.
 */
#ifndef COMMON_STATUS_H
#define COMMON_STATUS_H

#include <stdbool.h>
#include <stdint.h>

enum status {
#define STATUS(name, num, text, http, smtp, retry) ST_##name = num,
#include "common/status.def"
#undef STATUS
};

#define MUST_CHECK __attribute__((warn_unused_result))

/* One line of text for people; always terminated, cut when too long. */
struct err {
    char text[512];
};

/* Name of S as in logs and JSON, e.g. "NOT_PRIMARY"; "UNKNOWN" for a number
 * that has no row. */
const char *status_name(enum status s);
const char *status_text(enum status s);
int status_http(enum status s);
/* SMTP reply code and enhanced code, e.g. "451 4.3.0" (RFC 3463). */
const char *status_smtp(enum status s);
/* True if the request surely had no effect and may be sent again. */
bool status_retryable(enum status s);
/* Turns a number from the wire into *OUT; false if no such row exists. */
bool status_from_wire(uint64_t number, enum status *out);
/* Translates an errno from a file operation; called only in *_io.c. */
enum status status_from_errno(int error);

/* Fills E (may be NULL) and returns S, so that it can stand in a return. */
enum status err_set(struct err *e, enum status s, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Puts "WHERE: " before E's text (E may be NULL) and returns S. */
enum status err_within(struct err *e, enum status s, const char *where);

#endif
