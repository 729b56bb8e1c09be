/*
 * Writing a mail: from its fields to the bytes that are delivered (RFC 5322,
 * MIME), by GMime. Pure; needs a cloud_open() before it in the process, which
 * starts GMime.
 */
#ifndef CLOUD_COMPOSE_H
#define CLOUD_COMPOSE_H

#include "common/buf.h"
#include "common/status.h"

struct compose_mailbox {
    char *name; /* UTF-8, may be NULL */
    char *address;
};

struct compose_mailboxes {
    struct compose_mailbox *items;
    size_t count;
};

struct compose_attachment {
    const char *name; /* of the file, UTF-8 */
    const char *type; /* "image/png" */
    struct slice data;
};

/* Texts hold no control characters, but \n and \t in TEXT; all is UTF-8. */
struct compose {
    struct compose_mailbox from;
    struct compose_mailboxes to, cc, bcc;
    const char *subject, *text;
    const char *message_id;  /* without <> */
    const char *in_reply_to; /* without <>; NULL: none */
    const char *references;  /* "<a@b> <c@d>"; NULL: none */
    int64_t date_ms;         /* since 1970 */
    const struct compose_attachment *attachments;
    size_t attachments_count;
};

/* Appends the message, lines ended by CRLF, without a Bcc field. */
void compose_build(const struct compose *c, struct buf *out);
/* Appends the Bcc field, for the writer's own copy; nothing if there is
 * nobody in it. */
void compose_bcc(const struct compose *c, struct buf *out);

/* Splits "Name <a@b>, c@d" (RFC 5322 3.4, without groups and comments) into
 * ARENA and appends to LIST, whose items live there too, up to MAX of them.
 * The form of the addresses themselves is not judged. ST_INVALID: bad syntax;
 * ST_TOO_LARGE: more than MAX. */
enum status compose_parse_mailboxes(const char *text, size_t max,
                                    struct arena *arena,
                                    struct compose_mailboxes *list) MUST_CHECK;

#endif
