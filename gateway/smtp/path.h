/*
 * Arguments of MAIL and RCPT (RFC 5321 4.1.2): paths and parameters. Strict:
 * what is not exactly a path we would use is refused. Pure.
 */
#ifndef GATEWAY_SMTP_PATH_H
#define GATEWAY_SMTP_PATH_H

#include "cloud/mail_address.h"

/* A reverse-path as it came, without brackets; empty for the null sender.
 * Printable ASCII without spaces outside quotes, <, > or control characters:
 * fit to stand in a header field. */
#define SMTP_SENDER_MAX 320

struct smtp_mail {
    char sender[SMTP_SENDER_MAX + 1];
    bool has_size;
    uint64_t size;  /* SIZE= (RFC 1870) */
    bool eight_bit; /* BODY=8BITMIME (RFC 6152) */
};

/* TEXT is all behind "MAIL". ST_INVALID: syntax (501); ST_UNSUPPORTED: an
 * unknown parameter (555). */
enum status smtp_parse_mail(const char *text, struct smtp_mail *out) MUST_CHECK;

struct smtp_rcpt {
    struct mail_address address; /* domain "" for <postmaster> */
};

/* TEXT is all behind "RCPT". As above; ST_DENIED: a path that could only be
 * meant for relaying (source route, address literal). */
enum status smtp_parse_rcpt(const char *text, struct smtp_rcpt *out) MUST_CHECK;

/* An EHLO or HELO argument: a domain or an address literal, fit to stand in a
 * header field. */
bool smtp_helo_valid(const char *text);

#endif
