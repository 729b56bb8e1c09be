/*
 * One SMTP session of a mail server that accepts mail for its own domains
 * (RFC 5321, with PIPELINING, SIZE, 8BITMIME, ENHANCEDSTATUSCODES). Pure: an
 * event goes in, and what is to be done comes out; sockets, clock, store and
 * waiting are the shell's (server_io.h). What it decides does not depend on
 * how the client's bytes were cut into segments.
 *
 * When the effects name a need, the session takes no more bytes until the
 * event that answers it.
 */
#ifndef GATEWAY_SMTP_SESSION_H
#define GATEWAY_SMTP_SESSION_H

#include "common/limits.h"
#include "gateway/smtp/path.h"

struct smtp_session;

struct smtp_session_options {
    const char *hostname; /* borrowed, as the others */
    const char *client;   /* its address, for Received and the log */
    const char *id;       /* of the session; the queue ids begin with it */
    size_t size_max;      /* 0: LIMIT_MESSAGE */
    int unknown_delay_ms; /* before "no such user", times their number */
};

/* States, in order: a verb needs at least its row's state. */
#define SMTP_STATES(X)                                                         \
    X(NEW)     /* before the greeting */                                       \
    X(GREETED) /* before HELO */                                               \
    X(READY)   /* after HELO */                                                \
    X(MAIL)    /* has a sender, maybe recipients */                            \
    X(ASKING)  /* a recipient is being looked up */                            \
    X(DATA)    /* reading the message */                                       \
    X(STORING) /* the message is being stored */                               \
    X(CLOSED)
enum smtp_state {
#define X(name) SMTP_##name,
    SMTP_STATES(X)
#undef X
};

enum smtp_event_kind {
    SMTP_EVENT_START,     /* the connection is open */
    SMTP_EVENT_BYTES,     /* from the client */
    SMTP_EVENT_RECIPIENT, /* answer to SMTP_NEED_RECIPIENT */
    SMTP_EVENT_STORED,    /* answer to SMTP_NEED_STORE */
    SMTP_EVENT_NO_MEMORY, /* the server has no room for more of the message */
    SMTP_EVENT_TIMEOUT,
    SMTP_EVENT_STOP, /* the server stops: ends unless storing */
};

struct smtp_event {
    enum smtp_event_kind kind;
    struct slice bytes; /* BYTES */
    /* RECIPIENT: ST_OK, ST_NOT_FOUND, ST_DENIED, ST_BOUND (mailbox full), or
     * why it cannot be told. STORED: delivery_run()'s. */
    enum status status;
    const char *username; /* RECIPIENT with ST_OK */
};

enum smtp_need {
    SMTP_NEED_BYTES = 0,
    SMTP_NEED_RECIPIENT, /* what smtp_session_asked() means here */
    SMTP_NEED_STORE,     /* smtp_session_message() into all mailboxes */
};

struct smtp_effects {
    struct buf reply; /* to be sent now; freed by the caller */
    size_t used;      /* of the event's bytes; the rest is for later steps */
    enum smtp_need need;
    int delay_ms;  /* wait before sending the reply */
    bool close;    /* after sending the reply */
    bool finished; /* a message was decided: smtp_session_record() */
};

struct smtp_session *smtp_session_new(const struct smtp_session_options *o);
void smtp_session_free(struct smtp_session *s);

/* One step. OUT is zeroed by the caller, who gives BYTES again from USED on
 * while there are some and no need or close has come up. */
void smtp_session_step(struct smtp_session *s, const struct smtp_event *event,
                       struct smtp_effects *out);

enum smtp_state smtp_session_state(const struct smtp_session *s);
const char *smtp_state_name(enum smtp_state state);

/* ---- for the shell, while a need is open ---- */

/* The address that RCPT named; its domain is "" for <postmaster>. */
const struct mail_address *smtp_session_asked(const struct smtp_session *s);
/* SIZE= of MAIL, or 0. */
uint64_t smtp_session_announced(const struct smtp_session *s);

struct smtp_session_recipient {
    char username[ACCOUNT_NAME_MAX + 1];
    char address[2 * MAIL_ADDRESS_MAX]; /* as RCPT had it first */
};
struct smtp_session_mail {
    const char *id; /* the queue id */
    const char *sender, *helo, *protocol;
    struct slice message;
    const struct smtp_session_recipient *recipients; /* each user once */
    size_t recipient_count;
};
struct smtp_session_mail smtp_session_message(const struct smtp_session *s);
/* Bytes of message that the session holds now. */
size_t smtp_session_spooled(const struct smtp_session *s);
/* The message decided last, for the log. */
struct smtp_session_record {
    char id[64];
    char sender[SMTP_SENDER_MAX + 1];
    char to[200]; /* the first recipients */
    size_t recipients;
    size_t size;       /* as the client sent it, unstuffed; 0 if not kept */
    char outcome[128]; /* the reply */
};
const struct smtp_session_record *
smtp_session_record(const struct smtp_session *s);

#endif
