/*
 * The commands of a session. verbs.def is the one list of them: the table
 * below, through which every command goes, and the text of HELP come from it.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "gateway/smtp/session_inside.h"

#define VERB(name, handler, state, help)                                       \
    static void on_##handler(struct smtp_session *s, const char *args,         \
                             struct smtp_effects *out);
#include "gateway/smtp/verbs.def"
#undef VERB

static const struct {
    const char *name;
    void (*run)(struct smtp_session *s, const char *args,
                struct smtp_effects *out);
    enum smtp_state needs;
    const char *help;
} verbs[] = {
#define VERB(name, handler, state, help) {name, on_##handler, state, help},
#include "gateway/smtp/verbs.def"
#undef VERB
};
#define VERB_COUNT (sizeof verbs / sizeof *verbs)

/* Index of the verb that LINE begins with, or VERB_COUNT. */
static size_t find_verb(const char *line, size_t len)
{
    size_t i = 0;
    while (i < VERB_COUNT && (strlen(verbs[i].name) != len ||
                              strncasecmp(line, verbs[i].name, len) != 0))
        i++;
    return i;
}

void smtp_session_command(struct smtp_session *s, const char *line,
                          struct smtp_effects *out)
{
    size_t len = 0;
    while (isalpha((unsigned char)line[len]))
        len++;
    size_t i = find_verb(line, len);
    if (i == VERB_COUNT || (line[len] != '\0' && line[len] != ' '))
        smtp_reply_error(s, out, "500 5.5.1 command not recognized");
    else if (s->state < verbs[i].needs)
        smtp_reply_error(s, out,
                         s->state == SMTP_GREETED
                             ? "503 5.5.1 say EHLO or HELO first"
                             : "503 5.5.1 MAIL must come first");
    else
        verbs[i].run(s, line + len, out);
}

/* True if ARGS has nothing but blanks; else refuses. */
static bool no_args(struct smtp_session *s, const char *args,
                    struct smtp_effects *out)
{
    if (args[strspn(args, " \t")] == '\0')
        return true;
    smtp_reply_error(s, out, "501 5.5.4 no argument is allowed");
    return false;
}

/* ---- greetings ---- */

/* Notes who the client says it is, and forgets all else; false: refused. */
static bool greet(struct smtp_session *s, const char *args,
                  struct smtp_effects *out)
{
    char name[LIMIT_SMTP_COMMAND + 1];
    snprintf(name, sizeof name, "%s", args + strspn(args, " \t"));
    size_t len = strlen(name);
    while (len > 0 && (name[len - 1] == ' ' || name[len - 1] == '\t'))
        name[--len] = '\0';
    if (!smtp_helo_valid(name)) {
        smtp_reply_error(s, out, "501 5.5.4 domain or address literal wanted");
        return false;
    }
    snprintf(s->helo, sizeof s->helo, "%.255s", name);
    smtp_session_reset(s);
    smtp_session_move(s, SMTP_READY);
    return true;
}

static void on_ehlo(struct smtp_session *s, const char *args,
                    struct smtp_effects *out)
{
    if (!greet(s, args, out))
        return;
    s->extended = true;
    smtp_reply(out, "250-%s", s->o.hostname);
    smtp_reply(out, "250-PIPELINING");
    smtp_reply(out, "250-SIZE %zu", s->o.size_max);
    smtp_reply(out, "250-ENHANCEDSTATUSCODES");
    smtp_reply(out, "250-8BITMIME");
    smtp_reply(out, "250 HELP");
}

static void on_helo(struct smtp_session *s, const char *args,
                    struct smtp_effects *out)
{
    if (!greet(s, args, out))
        return;
    s->extended = false;
    smtp_reply(out, "250 %s", s->o.hostname);
}

/* ---- the transaction ---- */

static void on_mail(struct smtp_session *s, const char *args,
                    struct smtp_effects *out)
{
    struct smtp_mail mail;
    if (s->state == SMTP_MAIL) {
        smtp_reply_error(s, out, "503 5.5.1 a sender is given already");
        return;
    }
    enum status st = smtp_parse_mail(args, &mail);
    if (st == ST_UNSUPPORTED) {
        smtp_reply_error(s, out, "555 5.5.4 parameter not supported");
    } else if (st != ST_OK) {
        smtp_reply_error(s, out, "501 5.1.7 MAIL FROM:<address> wanted");
    } else if (mail.size > s->o.size_max) {
        smtp_reply(out, "552 5.3.4 message larger than the limit");
    } else {
        s->mail = mail;
        snprintf(s->queue_id, sizeof s->queue_id, "%s.%u", s->o.id,
                 ++s->messages);
        smtp_session_move(s, SMTP_MAIL);
        smtp_reply(out, "250 2.1.0 Ok");
    }
}

static void on_rcpt(struct smtp_session *s, const char *args,
                    struct smtp_effects *out)
{
    struct smtp_rcpt rcpt;
    enum status st = smtp_parse_rcpt(args, &rcpt);
    if (st == ST_UNSUPPORTED) {
        smtp_reply_error(s, out, "555 5.5.4 parameter not supported");
    } else if (st == ST_DENIED) {
        smtp_reply_error(s, out, "550 5.7.1 we do not relay");
    } else if (st != ST_OK) {
        smtp_reply_error(s, out, "501 5.1.3 RCPT TO:<address> wanted");
    } else if (s->recipient_count >= LIMIT_SMTP_RECIPIENTS) {
        smtp_reply(out, "452 4.5.3 too many recipients");
    } else {
        s->asked = rcpt;
        smtp_session_move(s, SMTP_ASKING);
        out->need = SMTP_NEED_RECIPIENT;
    }
}

static void on_data(struct smtp_session *s, const char *args,
                    struct smtp_effects *out)
{
    if (!no_args(s, args, out))
        return;
    if (s->recipient_count == 0) {
        smtp_reply_error(s, out, "503 5.5.1 no valid recipient");
        return;
    }
    smtp_session_move(s, SMTP_DATA);
    smtp_reply(out, "354 end with <CR><LF>.<CR><LF>");
}

static void on_rset(struct smtp_session *s, const char *args,
                    struct smtp_effects *out)
{
    if (!no_args(s, args, out))
        return;
    smtp_session_reset(s);
    if (s->state == SMTP_MAIL)
        smtp_session_move(s, SMTP_READY);
    smtp_reply(out, "250 2.0.0 Ok");
}

/* ---- the others ---- */

static void on_noop(struct smtp_session *s, const char *args,
                    struct smtp_effects *out)
{
    smtp_reply(out, "250 2.0.0 Ok");
}

/* Gives nothing away (RFC 5321 7.3). */
static void on_vrfy(struct smtp_session *s, const char *args,
                    struct smtp_effects *out)
{
    if (args[strspn(args, " \t")] == '\0')
        smtp_reply_error(s, out, "501 5.5.4 an address is wanted");
    else
        smtp_reply(out, "252 2.5.2 send mail, and we shall see");
}

static void on_expn(struct smtp_session *s, const char *args,
                    struct smtp_effects *out)
{
    smtp_reply_error(s, out, "502 5.5.1 not implemented");
}

static void on_help(struct smtp_session *s, const char *args,
                    struct smtp_effects *out)
{
    smtp_reply(out, "214-2.0.0 commands:");
    for (size_t i = 0; i < VERB_COUNT; i++) {
        if (verbs[i].help[0] != '\0')
            smtp_reply(out, "214-2.0.0   %s", verbs[i].help);
    }
    smtp_reply(out, "214 2.0.0 see RFC 5321");
}

static void on_quit(struct smtp_session *s, const char *args,
                    struct smtp_effects *out)
{
    if (!no_args(s, args, out))
        return;
    smtp_reply(out, "221 2.0.0 %s closing", s->o.hostname);
    smtp_session_close(s, out);
}

static void on_foreign(struct smtp_session *s, const char *args,
                       struct smtp_effects *out)
{
    smtp_reply(out, "502 5.5.1 not implemented, closing");
    smtp_session_close(s, out);
}
