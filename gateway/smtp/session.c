/*
 * The session: events, states, and what comes after DATA. Commands are in
 * session_verbs.c.
 *
 * What a message is refused for is told after its true end, never before:
 * until then the client sends data, and would take a reply for something else.
 * After a bare CR or LF the connection is closed too: the two sides may not
 * agree on what was data.
 */
#include "gateway/smtp/session.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/message.h"
#include "gateway/smtp/session_inside.h"

/* A message that goes on above so many times its limit ends the session. */
#define OVERRUN_MAX 4
/* It is not the user's quota (RFC 3463: 4.3.1). */
#define SERVER_FULL "452 4.3.1 the server is out of space, try again later"

static const char *const state_names[] = {
#define X(name) #name,
    SMTP_STATES(X)
#undef X
};
#define STATE_COUNT (sizeof state_names / sizeof *state_names)

/* Allowed moves: bit TO of row FROM. */
#define TO(state) (1u << SMTP_##state)
static const unsigned moves[STATE_COUNT] = {
    [SMTP_NEW] = TO(GREETED) | TO(CLOSED),
    [SMTP_GREETED] = TO(READY) | TO(CLOSED),
    [SMTP_READY] = TO(READY) | TO(MAIL) | TO(CLOSED),
    [SMTP_MAIL] = TO(READY) | TO(ASKING) | TO(DATA) | TO(CLOSED),
    [SMTP_ASKING] = TO(MAIL) | TO(CLOSED),
    [SMTP_DATA] = TO(STORING) | TO(READY) | TO(CLOSED),
    [SMTP_STORING] = TO(READY) | TO(CLOSED),
    [SMTP_CLOSED] = 0,
};

void smtp_session_move(struct smtp_session *s, enum smtp_state to)
{
    assert(moves[s->state] & (1u << to));
    s->state = to;
}

const char *smtp_state_name(enum smtp_state state)
{
    assert((size_t)state < STATE_COUNT);
    return state_names[state];
}

/* ---- replies ---- */

void smtp_reply(struct smtp_effects *out, const char *format, ...)
{
    char line[512];
    va_list ap;
    va_start(ap, format);
    int n = vsnprintf(line, sizeof line, format, ap);
    va_end(ap);
    assert(n >= 0 && (size_t)n < sizeof line);
    buf_put_text(&out->reply, line);
    buf_put_text(&out->reply, "\r\n");
}

void smtp_session_close(struct smtp_session *s, struct smtp_effects *out)
{
    smtp_session_reset(s);
    smtp_session_move(s, SMTP_CLOSED);
    out->close = true;
}

void smtp_reply_error(struct smtp_session *s, struct smtp_effects *out,
                      const char *text)
{
    if (++s->errors > LIMIT_SMTP_BAD_COMMANDS) {
        smtp_reply(out, "421 4.7.0 %s too many errors", s->o.hostname);
        smtp_session_close(s, out);
        return;
    }
    smtp_reply(out, "%s", text);
}

void smtp_session_reset(struct smtp_session *s)
{
    smtp_data_fini(&s->data);
    smtp_data_init(&s->data, s->o.size_max);
    free(s->recipients);
    s->recipients = NULL;
    s->recipient_count = 0;
    s->mail = (struct smtp_mail){0};
}

/* ---- the message ---- */

static const char *fault_reply(enum smtp_fault fault)
{
    switch (fault) {
    case SMTP_FAULT_NONE:
        return NULL;
    case SMTP_FAULT_NEWLINE:
        return "550 5.6.0 CR or LF alone: lines end with CR LF";
    case SMTP_FAULT_LINE:
        return "554 5.6.0 line longer than 1000 bytes (RFC 5321 4.5.3.1.6)";
    case SMTP_FAULT_SIZE:
        return "552 5.3.4 message larger than the limit";
    case SMTP_FAULT_NO_MEMORY:
        return "452 4.3.1 no room for the message at present, try later";
    }
    return NULL;
}

/* Bytes of the header section, its blank line not counted. */
static size_t header_length(struct slice message)
{
    if (message.len == 0 || slice_starts_with(message, slice_of("\r\n")))
        return 0;
    const void *end = memmem(message.data, message.len, "\r\n\r\n", 4);
    return end != NULL ? (size_t)((const uint8_t *)end - message.data) + 2
                       : message.len;
}

/* Why the whole message is refused; NULL: it is not. */
static const char *check_message(const struct smtp_session *s)
{
    struct slice message = buf_slice(&s->data.message);
    if (s->data.fault != SMTP_FAULT_NONE)
        return fault_reply(s->data.fault);
    if (header_length(message) > LIMIT_MESSAGE_HEADER)
        return "552 5.3.4 header larger than the limit";
    if (message_count_received(message, LIMIT_MIME_HOPS + 1) > LIMIT_MIME_HOPS)
        return "554 5.4.6 too many hops, this is a mail loop";
    return NULL;
}

/* Notes how the message ended, for the log. */
static void record(struct smtp_session *s, const char *outcome,
                   struct smtp_effects *out)
{
    struct smtp_session_record *r = &s->record;
    *r = (struct smtp_session_record){.recipients = s->recipient_count,
                                      .size = s->data.message.len};
    snprintf(r->id, sizeof r->id, "%s", s->queue_id);
    snprintf(r->sender, sizeof r->sender, "%s", s->mail.sender);
    snprintf(r->outcome, sizeof r->outcome, "%s", outcome);
    size_t len = 0;
    for (size_t i = 0; i < s->recipient_count && len < sizeof r->to; i++)
        len += (size_t)snprintf(r->to + len, sizeof r->to - len, "%s%s",
                                i > 0 ? " " : "", s->recipients[i].address);
    out->finished = true;
}

/* Ends the transaction with the reply TEXT. */
static void end_message(struct smtp_session *s, struct smtp_effects *out,
                        const char *text)
{
    record(s, text, out);
    smtp_reply(out, "%s", text);
    smtp_session_reset(s);
    smtp_session_move(s, SMTP_READY);
}

static void on_data_end(struct smtp_session *s, struct smtp_effects *out)
{
    const char *refusal = check_message(s);
    if (refusal == NULL) {
        smtp_session_move(s, SMTP_STORING);
        out->need = SMTP_NEED_STORE;
        return;
    }
    bool in_doubt = s->data.fault == SMTP_FAULT_NEWLINE;
    end_message(s, out, refusal);
    if (in_doubt)
        smtp_session_close(s, out);
}

static void on_data(struct smtp_session *s, struct slice bytes,
                    struct smtp_effects *out)
{
    if (smtp_data_feed(&s->data, bytes, &out->used)) {
        on_data_end(s, out);
    } else if (s->data.bytes / OVERRUN_MAX > s->o.size_max) {
        smtp_reply(out, "552 5.3.4 message larger than the limit");
        smtp_session_close(s, out);
    }
}

static void on_stored(struct smtp_session *s, enum status status,
                      struct smtp_effects *out)
{
    char text[128];
    assert(s->state == SMTP_STORING);
    if (status == ST_OK) {
        s->commands = 0;
        snprintf(text, sizeof text, "250 2.0.0 Ok: stored as %s", s->queue_id);
    } else if (status == ST_UNKNOWN_OUTCOME) {
        /* Neither yes nor no would be true: the client hears nothing, which
         * it must take for "unknown" (RFC 5321 4.5.3.2, RFC 1047). */
        record(s, "none: outcome unknown", out);
        smtp_session_close(s, out);
        return;
    } else if (status == ST_NO_SPACE) {
        snprintf(text, sizeof text, "%s", SERVER_FULL);
    } else if (status == ST_BOUND && s->recipient_count > 1) {
        snprintf(text, sizeof text,
                 "452 4.2.2 a recipient's mailbox is full; send them one by "
                 "one");
    } else {
        snprintf(text, sizeof text, "%s %s", status_smtp(status),
                 status_text(status));
    }
    end_message(s, out, text);
}

/* ---- recipients ---- */

static void add_recipient(struct smtp_session *s, const char *username)
{
    for (size_t i = 0; i < s->recipient_count; i++) {
        if (strcmp(s->recipients[i].username, username) == 0)
            return; /* one copy is enough */
    }
    s->recipients = xrealloc(s->recipients,
                             (s->recipient_count + 1) * sizeof *s->recipients);
    struct smtp_session_recipient *r = &s->recipients[s->recipient_count++];
    memset(r, 0, sizeof *r);
    snprintf(r->username, sizeof r->username, "%s", username);
    if (s->asked.address.domain[0] != '\0')
        mail_address_format(&s->asked.address, r->address);
    else
        snprintf(r->address, sizeof r->address, "%s", s->asked.address.local);
}

static void on_recipient(struct smtp_session *s, const struct smtp_event *event,
                         struct smtp_effects *out)
{
    assert(s->state == SMTP_ASKING);
    smtp_session_move(s, SMTP_MAIL);
    switch ((int)event->status) {
    case ST_OK:
        add_recipient(s, event->username);
        smtp_reply(out, "250 2.1.5 Ok");
        break;
    case ST_NOT_FOUND:
        /* Slows down who tries names. */
        s->unknown_recipients++;
        out->delay_ms = s->o.unknown_delay_ms * (int)s->unknown_recipients;
        smtp_reply_error(s, out, "550 5.1.1 no such user here");
        break;
    case ST_DENIED:
        smtp_reply_error(s, out, "550 5.7.1 we do not relay");
        break;
    case ST_BOUND:
        smtp_reply(out, "552 5.2.2 mailbox full");
        break;
    case ST_NO_SPACE:
        smtp_reply(out, SERVER_FULL);
        break;
    default:
        smtp_reply(out, "451 4.3.0 cannot look up the recipient now");
    }
}

/* ---- events ---- */

static void on_line(struct smtp_session *s, struct smtp_effects *out)
{
    if (++s->commands > LIMIT_SMTP_COMMANDS) {
        smtp_reply(out, "421 4.7.0 %s too many commands", s->o.hostname);
        smtp_session_close(s, out);
    } else if (s->line.too_long) {
        smtp_reply_error(s, out, "500 5.5.2 line longer than 512 bytes");
    } else if (s->line.bad) {
        smtp_reply_error(s, out, "500 5.5.2 bad character in command");
    } else {
        smtp_session_command(s, s->line.text, out);
    }
    smtp_line_clear(&s->line);
}

static void on_bytes(struct smtp_session *s, struct slice bytes,
                     struct smtp_effects *out)
{
    assert(s->state != SMTP_ASKING && s->state != SMTP_STORING &&
           s->state != SMTP_NEW);
    if (s->state == SMTP_CLOSED) {
        out->used = bytes.len;
        out->close = true;
    } else if (s->state == SMTP_DATA) {
        on_data(s, bytes, out);
    } else if (smtp_line_feed(&s->line, bytes, &out->used)) {
        on_line(s, out);
    }
}

static void end(struct smtp_session *s, const char *text,
                struct smtp_effects *out)
{
    if (s->state == SMTP_CLOSED || s->state == SMTP_STORING)
        return;
    smtp_reply(out, "421 %s", text);
    smtp_session_close(s, out);
}

void smtp_session_step(struct smtp_session *s, const struct smtp_event *event,
                       struct smtp_effects *out)
{
    switch (event->kind) {
    case SMTP_EVENT_START:
        smtp_session_move(s, SMTP_GREETED);
        smtp_reply(out, "220 %s ESMTP PennCloud", s->o.hostname);
        break;
    case SMTP_EVENT_BYTES:
        on_bytes(s, event->bytes, out);
        break;
    case SMTP_EVENT_RECIPIENT:
        on_recipient(s, event, out);
        break;
    case SMTP_EVENT_STORED:
        on_stored(s, event->status, out);
        break;
    case SMTP_EVENT_NO_MEMORY:
        if (s->state == SMTP_DATA)
            smtp_data_refuse(&s->data, SMTP_FAULT_NO_MEMORY);
        break;
    case SMTP_EVENT_TIMEOUT:
        end(s, "4.4.2 timeout, closing", out);
        break;
    case SMTP_EVENT_STOP:
        end(s, "4.3.2 shutting down, closing", out);
        break;
    }
}

/* ---- making, asking ---- */

struct smtp_session *smtp_session_new(const struct smtp_session_options *o)
{
    struct smtp_session *s = xcalloc(1, sizeof *s);
    s->o = *o;
    if (s->o.size_max == 0)
        s->o.size_max = LIMIT_MESSAGE;
    s->state = SMTP_NEW;
    smtp_line_clear(&s->line);
    smtp_session_reset(s);
    return s;
}

void smtp_session_free(struct smtp_session *s)
{
    if (s == NULL)
        return;
    smtp_data_fini(&s->data);
    free(s->recipients);
    free(s);
}

enum smtp_state smtp_session_state(const struct smtp_session *s)
{
    return s->state;
}

const struct mail_address *smtp_session_asked(const struct smtp_session *s)
{
    assert(s->state == SMTP_ASKING);
    return &s->asked.address;
}

uint64_t smtp_session_announced(const struct smtp_session *s)
{
    return s->mail.has_size ? s->mail.size : 0;
}

struct smtp_session_mail smtp_session_message(const struct smtp_session *s)
{
    assert(s->state == SMTP_STORING);
    return (struct smtp_session_mail){.id = s->queue_id,
                                      .sender = s->mail.sender,
                                      .helo = s->helo,
                                      .protocol =
                                          s->extended ? "ESMTP" : "SMTP",
                                      .message = buf_slice(&s->data.message),
                                      .recipients = s->recipients,
                                      .recipient_count = s->recipient_count};
}

size_t smtp_session_spooled(const struct smtp_session *s)
{
    return s->data.message.cap;
}

const struct smtp_session_record *
smtp_session_record(const struct smtp_session *s)
{
    return &s->record;
}
