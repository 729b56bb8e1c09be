/*
 * The SMTP session without sockets: dialogues, limits at n-1, n and n+1, the
 * end of data in every mix of CR, LF, dot and NUL and at every segment
 * boundary, addresses that try to relay.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/smtp/perform.h"
#include "gateway/smtp/session.h"
#include "gateway/smtp/trace.h"
#include "tests/unit/cloud_fixture.h"

#define MESSAGES_MAX 16

/* A session and all it did. */
struct client {
    struct smtp_session *s;
    struct buf replies;
    struct buf stored[MESSAGES_MAX];
    size_t stored_count;
    size_t recipients; /* of the last message */
    int delay_ms;      /* in all */
    bool closed;
    enum status store_status;
    const struct smtp_performer *performer; /* NULL: "demo", "u<n>" exist */
};

static void answer_recipient(struct client *c, char *name,
                             struct smtp_event *event)
{
    if (c->performer != NULL) {
        smtp_perform_recipient(c->performer, c->s, name, event);
        return;
    }
    const struct mail_address *a = smtp_session_asked(c->s);
    snprintf(name, ACCOUNT_NAME_MAX + 1, "%s", a->local);
    bool local = *a->domain == '\0' || strcmp(a->domain, "penncloud.test") == 0;
    bool known = strcmp(name, "demo") == 0 || name[0] == 'u' ||
                 strcasecmp(name, "postmaster") == 0;
    *event = (struct smtp_event){.kind = SMTP_EVENT_RECIPIENT,
                                 .status = !local  ? ST_DENIED
                                           : known ? ST_OK
                                                   : ST_NOT_FOUND,
                                 .username = name};
    if (strcmp(name, "full") == 0)
        event->status = ST_BOUND;
    if (strcmp(name, "ufull") == 0)
        event->status = ST_NO_SPACE;
    if (strcmp(name, "slow") == 0)
        event->status = ST_TIMEOUT;
}

static void answer_store(struct client *c, struct smtp_event *event)
{
    struct smtp_session_mail m = smtp_session_message(c->s);
    if (c->store_status == ST_OK) {
        ck_assert_uint_lt(c->stored_count, MESSAGES_MAX);
        buf_put_slice(&c->stored[c->stored_count++], m.message);
    }
    c->recipients = m.recipient_count;
    *event = (struct smtp_event){.kind = SMTP_EVENT_STORED,
                                 .status = c->store_status};
}

static void step(struct client *c, struct smtp_event event)
{
    char name[ACCOUNT_NAME_MAX + 1];
    for (;;) {
        struct smtp_effects out = {0};
        smtp_session_step(c->s, &event, &out);
        buf_put_slice(&c->replies, buf_slice(&out.reply));
        buf_free(&out.reply);
        c->delay_ms += out.delay_ms;
        c->closed |= out.close;
        if (event.kind == SMTP_EVENT_BYTES)
            event.bytes = slice_make(event.bytes.data + out.used,
                                     event.bytes.len - out.used);
        struct slice rest =
            event.kind == SMTP_EVENT_BYTES ? event.bytes : slice_make(NULL, 0);
        if (out.need == SMTP_NEED_BYTES && rest.len == 0)
            return;
        if (c->closed)
            return;
        if (out.need != SMTP_NEED_BYTES) {
            struct smtp_event answer;
            if (out.need == SMTP_NEED_RECIPIENT)
                answer_recipient(c, name, &answer);
            else
                answer_store(c, &answer);
            step(c, answer);
        }
        if (rest.len == 0 || c->closed)
            return;
    }
}

static void send_bytes(struct client *c, struct slice bytes)
{
    if (!c->closed)
        step(c, (struct smtp_event){.kind = SMTP_EVENT_BYTES, .bytes = bytes});
}

static void say(struct client *c, const char *text)
{
    send_bytes(c, slice_of(text));
}

static void client_open(struct client *c, size_t size_max)
{
    *c = (struct client){.store_status = ST_OK};
    struct smtp_session_options o = {.hostname = "mx.penncloud.test",
                                     .client = "192.0.2.1",
                                     .id = "test",
                                     .size_max = size_max,
                                     .unknown_delay_ms = 1000};
    c->s = smtp_session_new(&o);
    step(c, (struct smtp_event){.kind = SMTP_EVENT_START});
}

static void client_close(struct client *c)
{
    smtp_session_free(c->s);
    buf_free(&c->replies);
    for (size_t i = 0; i < c->stored_count; i++)
        buf_free(&c->stored[i]);
}

static const char *replies(struct client *c)
{
    return buf_cstr(&c->replies);
}

/* The first digits of the reply lines, "-" lines left out: "220 250 354 ". */
static const char *codes(struct client *c)
{
    static char all[64 * 1024];
    size_t n = 0;
    const char *p = replies(c);
    while (*p != '\0') {
        if (p[3] == ' ' && n + 4 < sizeof all) {
            memcpy(all + n, p, 4);
            n += 4;
        }
        p = strstr(p, "\r\n") + 2;
    }
    all[n] = '\0';
    return all;
}

/* ---- dialogues ---- */

#define HELLO "EHLO c.test\r\n"
#define ENVELOPE "MAIL FROM:<a@b.test>\r\nRCPT TO:<demo@penncloud.test>\r\n"

static const struct {
    const char *say, *codes;
} dialogues[] = {
    {HELLO ENVELOPE "DATA\r\nx\r\n.\r\nQUIT\r\n",
     "220 250 250 250 354 250 221 "},
    {"HELO c.test\r\n" ENVELOPE "DATA\r\n.\r\n", "220 250 250 250 354 250 "},
    {"ehlo [192.0.2.1]\r\nmail from:<>\r\nrcpt to:<DEMO@penncloud.test>\r\n",
     "220 250 250 550 "},
    {"MAIL FROM:<a@b.test>\r\n", "220 503 "},
    {HELLO "RCPT TO:<demo@penncloud.test>\r\n", "220 250 503 "},
    {HELLO "DATA\r\n", "220 250 503 "},
    {HELLO "MAIL FROM:<a@b.test>\r\nDATA\r\n", "220 250 250 503 "},
    {HELLO "MAIL FROM:<a@b.test>\r\nMAIL FROM:<a@b.test>\r\n",
     "220 250 250 503 "},
    {HELLO ENVELOPE "RSET\r\nDATA\r\n", "220 250 250 250 250 503 "},
    {HELLO ENVELOPE HELLO "DATA\r\n", "220 250 250 250 250 503 "},
    {HELLO ENVELOPE "DATA now\r\n", "220 250 250 250 501 "},
    {HELLO
     "MAIL FROM:<a@b.test>\r\nRCPT TO:<nobody@penncloud.test>\r\nDATA\r\n",
     "220 250 250 550 503 "},
    {HELLO "MAIL FROM:<a@b.test> SIZE=1000 BODY=8BITMIME\r\n", "220 250 250 "},
    {HELLO "MAIL FROM:<a@b.test> SIZE=26214400\r\n", "220 250 250 "},
    {HELLO "MAIL FROM:<a@b.test> SIZE=26214401\r\n", "220 250 552 "},
    {HELLO "MAIL FROM:<a@b.test> SIZE=99999999999999999999\r\n",
     "220 250 552 "},
    {HELLO "MAIL FROM:<a@b.test> SIZE=\r\n", "220 250 501 "},
    {HELLO "MAIL FROM:<a@b.test> SIZE=-1\r\n", "220 250 501 "},
    {HELLO "MAIL FROM:<a@b.test> SIZE=1 SIZE=2\r\n", "220 250 501 "},
    {HELLO "MAIL FROM:<a@b.test> BODY=BINARYMIME\r\n", "220 250 501 "},
    {HELLO "MAIL FROM:<a@b.test> FOO=1\r\n", "220 250 555 "},
    {HELLO "MAIL FROM: <a@b.test>\r\n", "220 250 250 "},
    {HELLO "MAIL FROM:a@b.test\r\n", "220 250 501 "},
    {HELLO "MAIL FROM:<a@b.test>x\r\n", "220 250 501 "},
    {HELLO "MAIL FROM:<a@[192.0.2.1]>\r\n", "220 250 250 "},
    {HELLO "MAIL FROM:<@x.test:a@b.test>\r\n", "220 250 501 "},
    {HELLO "MAIL\r\nMAIL FROM\r\nMAIL FROM:\r\nMAIL FROM:<\r\n",
     "220 250 501 501 501 501 "},
    {HELLO "MAIL FROM:<a@b.test>\r\nRCPT TO:<>\r\nRCPT TO:<postmaster>\r\n"
           "RCPT TO:<PostMaster>\r\nRCPT TO:<demo@penncloud.test> NOTIFY=NEVER"
           "\r\n",
     "220 250 250 501 250 250 555 "},
    {HELLO
     "MAIL FROM:<a@b.test>\r\nRCPT TO:<full@penncloud.test>\r\n"
     "RCPT TO:<slow@penncloud.test>\r\nRCPT TO:<ufull@penncloud.test>\r\n",
     "220 250 250 552 451 452 "},
    {"EHLO\r\nEHLO a b\r\nEHLO \x01\r\nHELO <x>\r\n", "220 501 501 500 501 "},
    {"NOOP\r\nNOOP x y\r\nRSET\r\nHELP\r\nVRFY demo\r\nVRFY\r\nEXPN list\r\n",
     "220 250 250 250 214 252 501 502 "},
    {"FOO\r\n\r\n EHLO x\r\nEHLOx\r\nSTARTTLS\r\nAUTH PLAIN\r\n",
     "220 500 500 500 500 500 500 "},
    {"QUIT now\r\nQUIT\r\nNOOP\r\n", "220 501 221 "},
    {"BDAT 10 LAST\r\nNOOP\r\n", "220 502 "},
    {"GET / HTTP/1.1\r\nHost: x\r\n", "220 502 "},
    /* A bare LF ends no line; the whole is one bad line. */
    {"NOOP\nQUIT\nNOOP\r\nNOOP\r\n", "220 500 250 "},
    {"NOOP\rQUIT\r\n", "220 500 "},
    {"NOOP\r\r\nNOOP\r\n", "220 500 250 "},
    {"N\xc3\xb6op\r\n", "220 500 "},
};

START_TEST(dialogue)
{
    struct client c;
    client_open(&c, 0);
    say(&c, dialogues[_i].say);
    ck_assert_msg(strcmp(codes(&c), dialogues[_i].codes) == 0, "%s\n%s",
                  dialogues[_i].say, replies(&c));
    client_close(&c);
}
END_TEST

START_TEST(announces)
{
    struct client c;
    client_open(&c, 0);
    say(&c, HELLO);
    ck_assert_ptr_nonnull(strstr(replies(&c), "220 mx.penncloud.test ESMTP"));
    static const char *const words[] = {
        "250-PIPELINING\r\n", "250-SIZE 26214400\r\n",
        "250-ENHANCEDSTATUSCODES\r\n", "250-8BITMIME\r\n"};
    for (size_t i = 0; i < 4; i++)
        ck_assert_ptr_nonnull(strstr(replies(&c), words[i]));
    ck_assert_ptr_null(strstr(replies(&c), "STARTTLS"));
    client_close(&c);
}
END_TEST

static const struct {
    enum status status;
    const char *recipients; /* a second RCPT */
    const char *reply;      /* "": none, and closed */
} outcomes[] = {
    {ST_OK, "", "250 2.0.0 Ok"},
    {ST_BOUND, "", "552 5.2.2"},
    {ST_BOUND, "RCPT TO:<u1@penncloud.test>\r\n", "452 4.2.2"},
    {ST_UNREACHABLE, "", "451 4.3.0"},
    {ST_DEGRADED, "", "451 4.3.0"},
    {ST_NO_SPACE, "", "452 4.3.1 the server is out of space"},
    {ST_NO_SPACE, "RCPT TO:<u1@penncloud.test>\r\n",
     "452 4.3.1 the server is out of space"},
    {ST_NOT_FOUND, "", "550 5.1.1"},
    {ST_UNKNOWN_OUTCOME, "", ""},
};

START_TEST(outcome)
{
    struct client c;
    client_open(&c, 0);
    c.store_status = outcomes[_i].status;
    say(&c, HELLO ENVELOPE);
    say(&c, outcomes[_i].recipients);
    say(&c, "DATA\r\n");
    buf_clear(&c.replies);
    say(&c, "x\r\n.\r\n");
    const char *want = outcomes[_i].reply;
    ck_assert_msg(strncmp(replies(&c), want, strlen(want)) == 0, "%s",
                  replies(&c));
    if (*want == '\0') {
        ck_assert_uint_eq(c.replies.len, 0);
        ck_assert(c.closed);
    } else {
        say(&c, ENVELOPE);
        ck_assert_ptr_nonnull(strstr(replies(&c), "250 2.1.5"));
    }
    client_close(&c);
}
END_TEST

START_TEST(unknown_recipients_slow_down)
{
    struct client c;
    client_open(&c, 0);
    say(&c, HELLO "MAIL FROM:<a@b.test>\r\n");
    int before = 0;
    for (int i = 1; i <= 5; i++) {
        say(&c, "RCPT TO:<nobody@penncloud.test>\r\n");
        ck_assert_int_eq(c.delay_ms - before, 1000 * i);
        before = c.delay_ms;
    }
    say(&c, "RCPT TO:<demo@penncloud.test>\r\nVRFY nobody\r\nVRFY demo\r\n");
    ck_assert_int_eq(c.delay_ms, before);
    client_close(&c);
}
END_TEST

START_TEST(ends)
{
    static const enum smtp_event_kind kinds[] = {SMTP_EVENT_TIMEOUT,
                                                 SMTP_EVENT_STOP};
    static const char *const before[] = {"", HELLO, HELLO ENVELOPE,
                                         HELLO ENVELOPE "DATA\r\nhalf a li"};
    for (size_t i = 0; i < 8; i++) {
        struct client c;
        client_open(&c, 0);
        say(&c, before[i % 4]);
        buf_clear(&c.replies);
        step(&c, (struct smtp_event){.kind = kinds[i / 4]});
        ck_assert_int_eq(strncmp(replies(&c), "421 4.", 6), 0);
        ck_assert(c.closed);
        ck_assert_uint_eq(c.stored_count, 0);
        client_close(&c);
    }
}
END_TEST

START_TEST(no_memory)
{
    struct client c;
    client_open(&c, 0);
    say(&c, HELLO ENVELOPE "DATA\r\nfirst half");
    step(&c, (struct smtp_event){.kind = SMTP_EVENT_NO_MEMORY});
    ck_assert_uint_eq(smtp_session_spooled(c.s), 0);
    say(&c, "\r\nsecond half\r\n.\r\nNOOP\r\n");
    ck_assert_str_eq(codes(&c), "220 250 250 250 354 452 250 ");
    ck_assert_uint_eq(c.stored_count, 0);
    client_close(&c);
}
END_TEST

/* ---- the end of data ---- */

/* What RFC 5321 says of the bytes after DATA, said once more in another way:
 * the message is what comes before the first CR LF . CR LF. Appends expected
 * outcome; returns the bytes behind the end, or NULL if there is none. */
static const char *expect_message(const char *data, size_t len, bool *good,
                                  struct buf *message)
{
    struct buf all = {0};
    buf_put_text(&all, "\r\n");
    buf_put(&all, data, len);
    const uint8_t *end = memmem(all.data, all.len, "\r\n.\r\n", 5);
    if (end == NULL) {
        buf_free(&all);
        return NULL;
    }
    size_t n = (size_t)(end - all.data) + 2; /* with the last CR LF */
    *good = true;
    for (size_t i = 2; i < n; i++) {
        bool line_start = all.data[i - 1] == '\n' && all.data[i - 2] == '\r';
        if (all.data[i] == '\r' && all.data[i + 1] != '\n')
            *good = false;
        if (all.data[i] == '\n' && all.data[i - 1] != '\r')
            *good = false;
        if (!(line_start && all.data[i] == '.'))
            buf_put_u8(message, all.data[i]);
    }
    buf_free(&all);
    return data + n - 2 + 3;
}

/* Runs DATA's bytes cut at CUT (0: byte by byte); checks it against what is
 * to be expected. */
static void run_data(const char *data, size_t len, size_t cut)
{
    struct client c;
    struct buf message = {0};
    bool good = false;
    client_open(&c, 0);
    say(&c, HELLO ENVELOPE "DATA\r\n");
    buf_clear(&c.replies);
    const char *rest = expect_message(data, len, &good, &message);
    ck_assert_ptr_nonnull(rest);
    if (cut > 0) {
        send_bytes(&c, slice_make(data, cut));
        send_bytes(&c, slice_make(data + cut, len - cut));
    } else {
        for (size_t i = 0; i < len; i++)
            send_bytes(&c, slice_make(data + i, 1));
    }
    if (good) {
        ck_assert_uint_ge(c.stored_count, 1);
        ck_assert(slice_equal(buf_slice(&c.stored[0]), buf_slice(&message)));
        ck_assert_int_eq(strncmp(replies(&c), "250 2.0.0", 9), 0);
    } else {
        ck_assert_uint_eq(c.stored_count, 0);
        ck_assert_int_eq(strncmp(replies(&c), "550 5.6.0", 9), 0);
        ck_assert(c.closed);
    }
    /* A second message only if the sequence itself held a true end: then what
     * follows are commands. */
    bool ended_early = rest < data + len - 6;
    ck_assert_uint_le(c.stored_count, good ? (ended_early ? 2 : 1) : 0);
    buf_free(&message);
    client_close(&c);
}

/* All sequences of six out of these, between a line and a smuggled message. */
START_TEST(smuggling)
{
    static const char alphabet[] = {'\r', '\n', '.', '\0', 'x'};
    static const char smuggled[] = ENVELOPE "DATA\r\nsmuggled\r\n.\r\n";
    char data[256] = "line";
    const size_t before = 4, six = 6;
    size_t after = before + six;
    memcpy(data + after, smuggled, sizeof smuggled - 1);
    size_t len = after + sizeof smuggled - 1;
    memcpy(data + len, "QUIT\r\n", 6);
    len += 6;
    /* Every fifth sequence a test, so that they are five tests. */
    for (unsigned n = (unsigned)_i; n < 15625; n += 5) {
        unsigned v = n;
        for (size_t i = 0; i < six; i++, v /= 5)
            data[before + i] = alphabet[v % 5];
        run_data(data, len, 0);
        for (size_t cut = before; cut <= after + 1; cut++)
            run_data(data, len, cut);
    }
}
END_TEST

/* The classical ends, at every boundary of the whole. */
START_TEST(false_ends)
{
    static const struct {
        const char *bytes;
        size_t len;
    } table[] = {
        {"\n.\n", 3},       {"\n.\r\n", 4},      {"\r\n.\n", 4},
        {"\r.\r", 3},       {"\r\n.\r", 4},      {"\r.\r\n", 4},
        {"\n.\r", 3},       {"\n\n.\r\n", 5},    {"\r\r\n.\r\r\n", 7},
        {"\r\n\0.\r\n", 6}, {"\r\n.\0\r\n", 6},  {"\r\n.\r\0\n", 6},
        {"\r\n..\r\n", 6},  {"\r\n.\r.\r\n", 7},
    };
    for (size_t e = 0; e < sizeof table / sizeof *table; e++) {
        struct buf data = {0};
        buf_put_text(&data, "Subject: one\r\n\r\nfirst");
        buf_put(&data, table[e].bytes, table[e].len);
        buf_put_text(&data, ENVELOPE "DATA\r\nsmuggled\r\n.\r\nQUIT\r\n");
        for (size_t cut = 0; cut < data.len; cut++)
            run_data((const char *)data.data, data.len, cut);
        buf_free(&data);
    }
}
END_TEST

/* Messages of dots and short lines come out as they went in. */
START_TEST(dot_stuffing)
{
    unsigned seed = 1;
    for (int run = 0; run < 500; run++) {
        struct buf message = {0}, sent = {0};
        bool start = true;
        for (int i = 0; i < 60; i++) {
            seed = seed * 1664525u + 1013904223u;
            unsigned pick = seed >> 24 & 7;
            if (pick < 3) {
                buf_put_text(&message, "\r\n");
                buf_put_text(&sent, "\r\n");
                start = true;
                continue;
            }
            char c = pick < 6 ? '.' : (char)(pick == 6 ? 0x80 : 'y');
            if (start && c == '.')
                buf_put_u8(&sent, '.');
            buf_put_u8(&message, (uint8_t)c);
            buf_put_u8(&sent, (uint8_t)c);
            start = false;
        }
        buf_put_text(&message, "\r\n");
        buf_put_text(&sent, "\r\n.\r\n");
        struct client c;
        client_open(&c, 0);
        say(&c, HELLO ENVELOPE "DATA\r\n");
        size_t cut = (size_t)(seed >> 8) % sent.len;
        send_bytes(&c, slice_make(sent.data, cut));
        send_bytes(&c, slice_make(sent.data + cut, sent.len - cut));
        ck_assert_uint_eq(c.stored_count, 1);
        ck_assert(slice_equal(buf_slice(&c.stored[0]), buf_slice(&message)));
        client_close(&c);
        buf_free(&message);
        buf_free(&sent);
    }
}
END_TEST

/* Replies do not depend on the segments. */
START_TEST(segments)
{
    static const char all[] =
        HELLO ENVELOPE "DATA\r\nSubject: x\r\n\r\n..dot\r\n.\r\n" ENVELOPE
                       "RCPT TO:<no@penncloud.test>\r\nFOO\r\nDATA\r\n.\r\n"
                       "RSET\r\nQUIT\r\n";
    struct client whole;
    client_open(&whole, 0);
    say(&whole, all);
    ck_assert_uint_eq(whole.stored_count, 2);
    for (size_t size = 1; size < 40; size++) {
        struct client c;
        client_open(&c, 0);
        for (size_t at = 0; at < sizeof all - 1; at += size) {
            size_t n = sizeof all - 1 - at < size ? sizeof all - 1 - at : size;
            send_bytes(&c, slice_make(all + at, n));
        }
        ck_assert_str_eq(replies(&c), replies(&whole));
        ck_assert_uint_eq(c.stored_count, 2);
        client_close(&c);
    }
    client_close(&whole);
}
END_TEST

/* ---- limits ---- */

static void put_many(struct buf *b, char c, size_t n)
{
    uint8_t *to = buf_reserve(b, n);
    memset(to, c, n);
    b->len += n;
}

/* Sends a message; true if it was stored. */
static bool accepts(struct slice message, size_t size_max, const char *refusal)
{
    struct client c;
    client_open(&c, size_max);
    say(&c, HELLO ENVELOPE "DATA\r\n");
    buf_clear(&c.replies);
    send_bytes(&c, message);
    say(&c, "\r\n.\r\n");
    bool stored = c.stored_count == 1;
    if (!stored)
        ck_assert_msg(strncmp(replies(&c), refusal, strlen(refusal)) == 0, "%s",
                      replies(&c));
    client_close(&c);
    return stored;
}

START_TEST(command_length)
{
    for (size_t n = 511; n <= 513; n++) {
        struct client c;
        struct buf line = {0};
        client_open(&c, 0);
        buf_put_text(&line, "NOOP ");
        put_many(&line, 'x', n - 7);
        buf_put_text(&line, "\r\nNOOP\r\n");
        send_bytes(&c, buf_slice(&line));
        ck_assert_str_eq(codes(&c), n <= 512 ? "220 250 250 " : "220 500 250 ");
        buf_free(&line);
        client_close(&c);
    }
    struct client c;
    struct buf line = {0};
    client_open(&c, 0);
    put_many(&line, 'x', 1000000);
    send_bytes(&c, buf_slice(&line));
    ck_assert_str_eq(codes(&c), "220 ");
    say(&c, "\r\nNOOP\r\n");
    ck_assert_str_eq(codes(&c), "220 500 250 ");
    buf_free(&line);
    client_close(&c);
}
END_TEST

START_TEST(text_line_length)
{
    for (size_t n = 999; n <= 1001; n++) {
        struct buf m = {0};
        buf_put_text(&m, "Subject: x\r\n\r\n");
        put_many(&m, 'x', n - 2);
        buf_put_text(&m, "\r\nlast");
        ck_assert_int_eq(accepts(buf_slice(&m), 0, "554 5.6.0"), n <= 1000);
        buf_free(&m);
        /* The dot that stands for transparency does not count. */
        buf_put_text(&m, "..");
        put_many(&m, 'x', n - 3);
        ck_assert_int_eq(accepts(buf_slice(&m), 0, "554 5.6.0"), n <= 1000);
        buf_free(&m);
    }
}
END_TEST

START_TEST(message_size)
{
    for (size_t n = 999; n <= 1001; n++) {
        struct buf m = {0};
        put_many(&m, 'x', 500);
        buf_put_text(&m, "\r\n");
        put_many(&m, 'x', n - 504);
        ck_assert_int_eq(accepts(buf_slice(&m), 1000, "552 5.3.4"), n <= 1000);
        buf_free(&m);
    }
    /* Without end, the session ends. */
    struct client c;
    struct buf m = {0};
    client_open(&c, 1000);
    say(&c, HELLO ENVELOPE "DATA\r\n");
    put_many(&m, 'x', 5000);
    send_bytes(&c, buf_slice(&m));
    ck_assert(c.closed);
    ck_assert_uint_eq(c.stored_count, 0);
    buf_free(&m);
    client_close(&c);
}
END_TEST

START_TEST(recipients)
{
    struct client c;
    client_open(&c, 0);
    say(&c, HELLO "MAIL FROM:<a@b.test>\r\n");
    for (int i = 1; i <= 102; i++) {
        char line[64];
        buf_clear(&c.replies);
        snprintf(line, sizeof line, "RCPT TO:<u%d@penncloud.test>\r\n", i);
        say(&c, line);
        ck_assert_int_eq(strncmp(replies(&c), "250", 3) == 0, i <= 100);
        if (i > 100)
            ck_assert_int_eq(strncmp(replies(&c), "452 4.5.3", 9), 0);
    }
    say(&c, "DATA\r\nx\r\n.\r\n");
    ck_assert_uint_eq(c.recipients, 100);
    /* The same mailbox twice is one copy. */
    say(&c, ENVELOPE "RCPT TO:<demo@penncloud.test>\r\nDATA\r\nx\r\n.\r\n");
    ck_assert_uint_eq(c.recipients, 1);
    client_close(&c);
}
END_TEST

START_TEST(bad_commands)
{
    struct client c;
    client_open(&c, 0);
    for (int i = 1; i <= 21; i++) {
        ck_assert(!c.closed);
        buf_clear(&c.replies);
        say(&c, "FOO\r\n");
        ck_assert_int_eq(strncmp(replies(&c), i <= 20 ? "500" : "421", 3), 0);
    }
    ck_assert(c.closed);
    client_close(&c);
}
END_TEST

START_TEST(commands)
{
    struct client c;
    client_open(&c, 0);
    say(&c, HELLO ENVELOPE "DATA\r\nx\r\n.\r\n"); /* counts anew from here */
    for (int i = 1; i <= 1001; i++) {
        ck_assert(!c.closed);
        buf_clear(&c.replies);
        say(&c, "NOOP\r\n");
        ck_assert_int_eq(strncmp(replies(&c), i <= 1000 ? "250" : "421", 3), 0);
    }
    ck_assert(c.closed);
    client_close(&c);
}
END_TEST

START_TEST(hops)
{
    for (int n = 99; n <= 101; n++) {
        struct buf m = {0};
        for (int i = 0; i < n; i++)
            buf_put_text(&m, "Received: from a by b\r\n\tfor c; date\r\n");
        buf_put_text(&m, "Subject: x\r\n\r\nReceived: not this one");
        ck_assert_int_eq(accepts(buf_slice(&m), 0, "554 5.4.6"), n <= 100);
        buf_free(&m);
    }
}
END_TEST

START_TEST(header_size)
{
    for (size_t n = LIMIT_MESSAGE_HEADER - 1; n <= LIMIT_MESSAGE_HEADER + 1;
         n++) {
        struct buf m = {0};
        while (m.len + 200 < n) {
            buf_put_text(&m, "X-Filler: ");
            put_many(&m, 'x', 88);
            buf_put_text(&m, "\r\n");
        }
        buf_put_text(&m, "X:");
        put_many(&m, 'x', n - m.len - 2);
        buf_put_text(&m, "\r\n\r\nbody");
        ck_assert_int_eq(accepts(buf_slice(&m), 0, "552 5.3.4"),
                         n <= LIMIT_MESSAGE_HEADER);
        buf_free(&m);
    }
}
END_TEST

/* ---- relaying ---- */

static const struct {
    const char *path;
    bool ours;
} spellings[] = {
    {"<demo@penncloud.test>", true},
    {"<DEMO@PENNCLOUD.TEST>", true},
    {"<\"demo\"@penncloud.test>", true},
    {"<\"d\\emo\"@penncloud.test>", true},
    {"<demo+tag@second.test>", true},
    {"<postmaster>", true},
    {"<postmaster@penncloud.test>", true},
    {"<victim@evil.test>", false},
    {"<victim%evil.test@penncloud.test>", false},
    {"<victim%evil.test>", false},
    {"<victim@evil.test@penncloud.test>", false},
    {"<victim@penncloud.test@evil.test>", false},
    {"<\"victim@evil.test\"@penncloud.test>", false},
    {"<\"victim%evil.test\"@penncloud.test>", false},
    {"<evil.test!victim@penncloud.test>", false},
    {"<evil.test!victim>", false},
    {"<penncloud.test!evil.test!victim>", false},
    {"<@penncloud.test:victim@evil.test>", false},
    {"<@evil.test:demo@penncloud.test>", false},
    {"<@evil.test,@penncloud.test:victim@evil.test>", false},
    {"<@penncloud.test,victim@evil.test>", false},
    {"<victim@[192.0.2.1]>", false},
    {"<victim@[127.0.0.1]>", false},
    {"<demo@[127.0.0.1]>", false},
    {"<victim@[IPv6:::1]>", false},
    {"<victim@2130706433>", false},
    {"<victim@127.0.0.1>", false},
    {"<victim@localhost>", false},
    {"<demo@penncloud.test.>", false},
    {"<victim@evil.test.>", false},
    {"<victim@.penncloud.test>", false},
    {"<demo@penncloud.test.evil.test>", false},
    {"<demo@evil.test.penncloud.test>", false},
    {"<demo@penncloud.test,victim@evil.test>", false},
    {"<demo@penncloud.test>,<victim@evil.test>", false},
    {"<demo@penncloud.test><victim@evil.test>", false},
    {"<demo@penncloud.test> <victim@evil.test>", false},
    {"<victim@evil.test> demo@penncloud.test", false},
    {"<<victim@evil.test>>", false},
    {"<(demo@penncloud.test)victim@evil.test>", false},
    {"<victim@evil.test(@penncloud.test)>", false},
    {"<victim@evil.test\t@penncloud.test>", false},
    {"<victim/evil.test@penncloud.test>", false},
    {"<victim:evil.test@penncloud.test>", false},
    {"<victim@evil\\.test>", false},
    {"<\"victim\"@evil.test>", false},
    {"<\"\"@penncloud.test>", false},
    {"<\" demo\"@penncloud.test>", false},
    {"victim@evil.test", false},
    {"demo@penncloud.test", false},
    {"<victim@evil.test", false},
    {"victim@evil.test>", false},
    {"<demo:mailbox@penncloud.test>", false},
    {"<../demo@penncloud.test>", false},
};

START_TEST(relay_matrix)
{
    struct fixture f;
    fixture_init(&f);
    fixture_account(&f, "demo");
    fixture_account(&f, "alice");
    struct smtp_performer p = {.cloud = f.cloud,
                               .log = &f.log,
                               .hostname = "mx",
                               .client = "192.0.2.1",
                               .lookup_timeout_ms = 1000};
    for (size_t i = 0; i < sizeof spellings / sizeof *spellings; i++) {
        struct client c;
        char line[256];
        client_open(&c, 0);
        c.performer = &p;
        say(&c, HELLO "MAIL FROM:<a@b.test>\r\n");
        buf_clear(&c.replies);
        snprintf(line, sizeof line, "RCPT TO:%s\r\n", spellings[i].path);
        say(&c, line);
        bool accepted = replies(&c)[0] == '2';
        ck_assert_msg(accepted == spellings[i].ours, "%s: %s",
                      spellings[i].path, replies(&c));
        if (!accepted) {
            ck_assert_int_eq(replies(&c)[0], '5');
            say(&c, "DATA\r\n");
            ck_assert_ptr_nonnull(strstr(replies(&c), "503"));
        }
        client_close(&c);
    }
    fixture_fini(&f);
}
END_TEST

START_TEST(mailbox_full)
{
    struct fixture f;
    fixture_init(&f);
    fixture_account(&f, "demo");
    struct cloud_op op = fixture_op(&f);
    struct smtp_performer p = {.cloud = f.cloud,
                               .log = &f.log,
                               .hostname = "mx",
                               .client = "192.0.2.1",
                               .lookup_timeout_ms = 1000};
    ck_assert_int_eq(account_set_limit(&op, "demo", 1000), ST_OK);
    for (int size = 999; size <= 1001; size++) {
        struct client c;
        char line[256];
        client_open(&c, 0);
        c.performer = &p;
        snprintf(line, sizeof line,
                 HELLO "MAIL FROM:<a@b.test> SIZE=%d\r\n"
                       "RCPT TO:<demo@penncloud.test>\r\n",
                 size);
        say(&c, line);
        ck_assert_str_eq(codes(&c), size <= 1000 ? "220 250 250 250 "
                                                 : "220 250 250 552 ");
        client_close(&c);
    }
    fixture_fini(&f);
}
END_TEST

START_TEST(trace_fields)
{
    struct smtp_trace t = {.sender = "a@b.test",
                           .helo = "c.test",
                           .client = "192.0.2.1",
                           .hostname = "mx.penncloud.test",
                           .protocol = "ESMTP",
                           .id = "abc.1",
                           .recipient = "demo@penncloud.test",
                           .wall_ms = 1763800000000};
    struct buf out = {0};
    smtp_trace_write(&t, &out);
    ck_assert_str_eq(buf_cstr(&out),
                     "Return-Path: <a@b.test>\r\n"
                     "Received: from c.test ([192.0.2.1])\r\n"
                     "\tby mx.penncloud.test with ESMTP id abc.1\r\n"
                     "\tfor <demo@penncloud.test>;\r\n"
                     "\tSat, 22 Nov 2025 08:26:40 +0000\r\n");
    buf_clear(&out);
    t.sender = "";
    t.client = "2001:db8::1";
    smtp_trace_write(&t, &out);
    ck_assert_ptr_nonnull(strstr(buf_cstr(&out), "Return-Path: <>\r\n"));
    ck_assert_ptr_nonnull(strstr(buf_cstr(&out), "([IPv6:2001:db8::1])"));
    buf_free(&out);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("smtp_session");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, dialogue, 0,
                        (int)(sizeof dialogues / sizeof *dialogues));
    tcase_add_test(t, announces);
    tcase_add_loop_test(t, outcome, 0,
                        (int)(sizeof outcomes / sizeof *outcomes));
    tcase_add_test(t, unknown_recipients_slow_down);
    tcase_add_test(t, ends);
    tcase_add_test(t, no_memory);
    tcase_add_loop_test(t, smuggling, 0, 5);
    tcase_add_test(t, false_ends);
    tcase_add_test(t, dot_stuffing);
    tcase_add_test(t, segments);
    tcase_add_test(t, command_length);
    tcase_add_test(t, text_line_length);
    tcase_add_test(t, message_size);
    tcase_add_test(t, recipients);
    tcase_add_test(t, bad_commands);
    tcase_add_test(t, commands);
    tcase_add_test(t, hops);
    tcase_add_test(t, header_size);
    tcase_add_test(t, relay_matrix);
    tcase_add_test(t, mailbox_full);
    tcase_add_test(t, trace_fields);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
