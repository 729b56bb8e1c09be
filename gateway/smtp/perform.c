/*
 * The session's needs: see the header. Exactly-once and what happens when the
 * store does not answer are delivery_run()'s business.
 */
#include "gateway/smtp/perform.h"

#include <stdlib.h>
#include <string.h>

#include "cloud/delivery.h"
#include "gateway/smtp/trace.h"

static struct cloud_op make_op(const struct smtp_performer *p, int timeout_ms)
{
    struct cloud_op op = cloud_op_make(p->cloud, timeout_ms);
    op.cut_ms = p->cut_ms;
    return op;
}

/* ST_BOUND if a message of the announced size would not fit. */
static enum status check_room(const struct cloud_op *op, const char *username,
                              uint64_t announced)
{
    struct account_usage usage;
    enum status st = account_get_usage(op, username, &usage);
    if (st != ST_OK)
        return st;
    int64_t size = announced > 0 ? (int64_t)announced : 1;
    return usage.bytes > usage.limit - size ? ST_BOUND : ST_OK;
}

void smtp_perform_recipient(const struct smtp_performer *p,
                            const struct smtp_session *s,
                            char name[ACCOUNT_NAME_MAX + 1],
                            struct smtp_event *event)
{
    struct cloud_op op = make_op(p, p->lookup_timeout_ms);
    struct mail_address a = *smtp_session_asked(s);
    if (a.domain[0] == '\0')
        memcpy(a.domain, cloud_main_domain(p->cloud),
               strlen(cloud_main_domain(p->cloud)) + 1);
    enum status st = mail_address_resolve(&op, &a, name);
    if (st == ST_OK)
        st = check_room(&op, name, smtp_session_announced(s));
    *event = (struct smtp_event){
        .kind = SMTP_EVENT_RECIPIENT, .status = st, .username = name};
}

void smtp_perform_store(const struct smtp_performer *p,
                        const struct smtp_session *s, char uid[ULID_SIZE],
                        struct smtp_event *event)
{
    struct smtp_session_mail m = smtp_session_message(s);
    size_t n = m.recipient_count;
    struct delivery_recipient *to = xcalloc(n, sizeof *to);
    struct buf *heads = xcalloc(n, sizeof *heads);
    for (size_t i = 0; i < n; i++) {
        struct smtp_trace trace = {.sender = m.sender,
                                   .helo = m.helo,
                                   .client = p->client,
                                   .hostname = p->hostname,
                                   .protocol = m.protocol,
                                   .id = m.id,
                                   .recipient = m.recipients[i].address,
                                   .wall_ms = cloud_wall_ms(p->cloud)};
        smtp_trace_write(&trace, &heads[i]);
        to[i] =
            (struct delivery_recipient){.username = m.recipients[i].username,
                                        .folder = "inbox",
                                        .head = buf_slice(&heads[i])};
    }
    struct cloud_op op = make_op(p, p->store_timeout_ms);
    enum status st = delivery_run(&op, m.message, to, n);
    for (size_t i = 0; i < n; i++) {
        log_write(p->log, st == ST_OK ? LOG_LEVEL_DEBUG : LOG_LEVEL_WARN,
                  "smtp", "delivery",
                  "id=%s user=%s uid=%s status=%s outcome=%s", m.id,
                  to[i].username, to[i].uid, status_name(to[i].status),
                  status_name(st));
        buf_free(&heads[i]);
    }
    memcpy(uid, to[0].uid, ULID_SIZE);
    free(heads);
    free(to);
    *event = (struct smtp_event){.kind = SMTP_EVENT_STORED, .status = st};
}
