/*
 * Putting one message into one or several mailboxes, each exactly once.
 *
 * Each (message, recipient) has a uid of its own, drawn here. A batch that
 * makes a message visible requires that the uid has no place yet, so repeating
 * it does no harm; an unknown outcome is settled, and after a lost client
 * session the uid's place is looked at.
 *
 * Several recipients: first everything that can be refused is done for all
 * (intents that reserve quota, contents), only then is it made visible for
 * one after the other. So a refusal finds nothing visible and is taken back
 * as a whole; once one mailbox has it, the only obstacle for the others is a
 * store that does not answer, and we go on until it does or the deadline
 * comes.
 *
 * Outcomes of delivery_run():
 *   ST_OK               on disk in every mailbox, on every in-sync replica
 *   ST_UNKNOWN_OUTCOME  at the deadline some may have it and some not; each
 *                       recipient's status says which
 *   anything else       surely in no mailbox, now and later
 */
#ifndef CLOUD_DELIVERY_H
#define CLOUD_DELIVERY_H

#include "cloud/mailbox.h"

#define DELIVERY_RECIPIENTS_MAX LIMIT_SMTP_RECIPIENTS

struct delivery_recipient {
    const char *username;
    const char *folder; /* "inbox", "sent", "drafts", ... */
    struct slice head;  /* put before the message: Return-Path, Received */
    unsigned flags;     /* MAILBOX_* */
    /* Results. */
    char uid[ULID_SIZE];
    enum status status;
};

/* Each username at most once in TO (ST_INVALID). RAW is the message without
 * the heads; head + RAW at most LIMIT_MESSAGE + KIB(16). */
enum status delivery_run(const struct cloud_op *op, struct slice raw,
                         struct delivery_recipient *to,
                         size_t count) MUST_CHECK;

#endif
