/*
 * What a session needs from the store: who a recipient is, and the message in
 * the mailboxes. Blocks; no sockets.
 */
#ifndef GATEWAY_SMTP_PERFORM_H
#define GATEWAY_SMTP_PERFORM_H

#include "cloud/ulid.h"
#include "gateway/smtp/session.h"

struct smtp_performer {
    struct cloud *cloud;
    const struct log *log;
    const char *hostname;
    const char *client;
    int lookup_timeout_ms;
    int store_timeout_ms;
    const _Atomic int64_t *cut_ms; /* see struct cloud_op */
};

/* Answers SMTP_NEED_RECIPIENT: fills status and username of EVENT, which
 * points into NAME. */
void smtp_perform_recipient(const struct smtp_performer *p,
                            const struct smtp_session *s,
                            char name[ACCOUNT_NAME_MAX + 1],
                            struct smtp_event *event);
/* Answers SMTP_NEED_STORE: a copy for each recipient, with his own trace
 * fields. UID: the first copy's. */
void smtp_perform_store(const struct smtp_performer *p,
                        const struct smtp_session *s, char uid[ULID_SIZE],
                        struct smtp_event *event);

#endif
