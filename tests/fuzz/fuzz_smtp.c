/*
 * The SMTP session with the fuzzer as the client. The bytes are given in
 * pieces of a size that the first byte says, and once more as a whole: both
 * runs must say and store the same. No more messages are stored than there
 * are true ends of data, none holds a bare CR or LF, and nobody is told to
 * wait, or asked for, after the end.
 */
#include <stdlib.h>
#include <string.h>

#include "gateway/smtp/session.h"
#include "gateway/smtp/trace.h"
#include "tests/fuzz/fuzz.h"

#define PREAMBLE                                                               \
    "EHLO x\r\nMAIL FROM:<a@b.test>\r\nRCPT TO:<demo@penncloud.test>\r\n"

struct script {
    struct smtp_session *s;
    struct buf replies, stored;
    size_t messages;
    int delay_ms;
    bool closed;
};

static void check(bool good)
{
    if (!good)
        abort();
}

static void check_message(struct slice m)
{
    for (size_t i = 0; i < m.len; i++) {
        if (m.data[i] == '\r')
            check(i + 1 < m.len && m.data[i + 1] == '\n');
        if (m.data[i] == '\n')
            check(i > 0 && m.data[i - 1] == '\r');
    }
}

static void store(struct script *r)
{
    struct smtp_session_mail m = smtp_session_message(r->s);
    struct smtp_trace t = {.sender = m.sender,
                           .helo = m.helo,
                           .client = "192.0.2.1",
                           .hostname = "mx",
                           .protocol = m.protocol,
                           .id = m.id,
                           .recipient = m.recipients[0].address};
    struct buf head = {0};
    smtp_trace_write(&t, &head);
    /* Nothing that came by commands makes a line of its own. */
    check_message(buf_slice(&head));
    size_t lines = 0;
    for (size_t i = 0; i < head.len; i++)
        lines += head.data[i] == '\n' ? 1 : 0;
    check(lines == 5);
    check_message(m.message);
    buf_put_slice(&r->stored, m.message);
    r->messages++;
    buf_free(&head);
}

static struct smtp_event answer(struct script *r, enum smtp_need need,
                                char *name)
{
    if (need == SMTP_NEED_STORE) {
        store(r);
        return (struct smtp_event){.kind = SMTP_EVENT_STORED, .status = ST_OK};
    }
    const struct mail_address *a = smtp_session_asked(r->s);
    bool ours = strcmp(a->domain, "penncloud.test") == 0;
    memcpy(name, "demo", 5);
    return (struct smtp_event){.kind = SMTP_EVENT_RECIPIENT,
                               .status = ours ? ST_OK : ST_DENIED,
                               .username = name};
}

/* Gives BYTES to the session until they are taken or it has closed. */
static void feed(struct script *r, struct slice bytes)
{
    char name[ACCOUNT_NAME_MAX + 1];
    while (bytes.len > 0 && !r->closed) {
        struct smtp_event event = {.kind = SMTP_EVENT_BYTES, .bytes = bytes};
        enum smtp_need need;
        do {
            struct smtp_effects out = {0};
            smtp_session_step(r->s, &event, &out);
            if (event.kind == SMTP_EVENT_BYTES) {
                check(out.used > 0);
                bytes = slice_make(bytes.data + out.used, bytes.len - out.used);
            }
            buf_put_slice(&r->replies, buf_slice(&out.reply));
            buf_free(&out.reply);
            r->delay_ms += out.delay_ms;
            r->closed = out.close;
            need = out.need;
            check(!out.close || need == SMTP_NEED_BYTES);
            if (need != SMTP_NEED_BYTES)
                event = answer(r, need, name);
        } while (need != SMTP_NEED_BYTES);
    }
}

static void run(struct script *r, struct slice bytes, size_t piece)
{
    static const struct smtp_session_options o = {.hostname = "mx",
                                                  .client = "192.0.2.1",
                                                  .id = "fuzz",
                                                  .size_max = 2000};
    struct smtp_effects out = {0};
    *r = (struct script){.s = smtp_session_new(&o)};
    smtp_session_step(r->s, &(struct smtp_event){.kind = SMTP_EVENT_START},
                      &out);
    buf_free(&out.reply);
    while (bytes.len > 0) {
        size_t n = bytes.len < piece ? bytes.len : piece;
        feed(r, slice_make(bytes.data, n));
        bytes = slice_make(bytes.data + n, bytes.len - n);
    }
    smtp_session_free(r->s);
}

static size_t count_ends(struct slice s)
{
    size_t n = 0;
    for (size_t i = 0; i + 3 <= s.len; i++)
        n += memcmp(s.data + i, ".\r\n", 3) == 0 ? 1 : 0;
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct buf all = {0};
    if (data[0] & 0x80)
        buf_put_text(&all, PREAMBLE);
    if (data[0] & 0x40)
        buf_put_text(&all, "DATA\r\n");
    buf_put(&all, data + 1, size - 1);
    struct script one, whole;
    run(&one, buf_slice(&all), (size_t)(data[0] & 0x3f) + 1);
    run(&whole, buf_slice(&all), all.len + 1);
    check(slice_equal(buf_slice(&one.replies), buf_slice(&whole.replies)));
    check(slice_equal(buf_slice(&one.stored), buf_slice(&whole.stored)));
    check(one.messages == whole.messages && one.delay_ms == whole.delay_ms);
    check(one.messages <= count_ends(buf_slice(&all)));
    buf_free(&one.replies);
    buf_free(&one.stored);
    buf_free(&whole.replies);
    buf_free(&whole.stored);
    buf_free(&all);
    return 0;
}
