/*
 * Inside of struct smtp_session; for session*.c alone.
 */
#ifndef GATEWAY_SMTP_SESSION_INSIDE_H
#define GATEWAY_SMTP_SESSION_INSIDE_H

#include "gateway/smtp/data.h"
#include "gateway/smtp/line.h"
#include "gateway/smtp/path.h"
#include "gateway/smtp/session.h"

struct smtp_session {
    struct smtp_session_options o;
    enum smtp_state state;
    struct smtp_line line;
    char helo[256];
    bool extended; /* EHLO, not HELO */
    /* The transaction. */
    struct smtp_mail mail;
    struct smtp_rcpt asked;
    struct smtp_session_recipient *recipients;
    size_t recipient_count;
    struct smtp_data data;
    unsigned messages; /* begun: numbers the queue ids */
    char queue_id[64];
    struct smtp_session_record record;
    /* Limits. */
    unsigned commands; /* since the last message was stored */
    unsigned errors, unknown_recipients;
};

/* The only place where the state changes. */
void smtp_session_move(struct smtp_session *s, enum smtp_state to);
/* Appends a reply line. */
void smtp_reply(struct smtp_effects *out, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* A reply that counts as an error of the client's. */
void smtp_reply_error(struct smtp_session *s, struct smtp_effects *out,
                      const char *text);
void smtp_session_close(struct smtp_session *s, struct smtp_effects *out);
/* Forgets the transaction. */
void smtp_session_reset(struct smtp_session *s);
/* Finds LINE's verb and runs it (session_verbs.c). */
void smtp_session_command(struct smtp_session *s, const char *line,
                          struct smtp_effects *out);

#endif
