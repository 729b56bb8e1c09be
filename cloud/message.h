/*
 * Reading mail: structure, header fields, bodies. Never refuses a message:
 * whatever the bytes, there is an answer within bounds (nesting 50, 1,000
 * parts, time linear in the size). cloud/mime.h finds the structure; GMime
 * decodes header fields, transfer encodings and charsets. Pure; texts that
 * come out are valid UTF-8 without control characters other than \n and \t
 * in bodies.
 */
#ifndef CLOUD_MESSAGE_H
#define CLOUD_MESSAGE_H

#include "common/buf.h"
#include "common/limits.h"
#include "common/status.h"

struct message;

/* Once in a process, before anything else here; cloud_open() does it. */
void message_init(void);

/* Parses RAW, which is borrowed and must outlive the message. Never NULL. */
struct message *message_parse(struct slice raw);
void message_free(struct message *m);

/* A leaf of the MIME tree. Texts live as long as the message. */
struct message_part {
    const char *number;     /* "1", "2.1": as in IMAP */
    const char *type;       /* "text/plain", lower case, well-formed */
    const char *name;       /* file name; NULL if it has none */
    const char *content_id; /* without <>; NULL if none */
    const char *charset;    /* of text; NULL if not said */
    bool attachment;        /* not shown inline */
    uint64_t size;          /* decoded bytes */
    size_t encoded;         /* bytes as they came */
};
size_t message_part_count(const struct message *m);
const struct message_part *message_part_at(const struct message *m, size_t i);

/* What a folder's list shows, each cut to a small size. */
struct message_summary {
    char from[200];    /* "Name <address>" */
    char to[200];      /* first recipients */
    char subject[300]; /* decoded */
    char snippet[200]; /* start of the text body */
    int64_t date_ms;   /* of the Date field; 0 if absent or bad */
    unsigned attachments;
    bool truncated; /* a bound was met: parts are missing in the list */
};
const struct message_summary *message_summary(const struct message *m);

/* The schema's `header` cell: a JSON object
 * {from:[{name,address}], to, cc, bcc?, reply_to, subject, date (ISO 8601,
 * null if bad), message_id, in_reply_to, references:[..], size, truncated,
 * parts:[{number,type,name,size,charset,content_id,attachment}]}.
 * SIZE is that of the whole stored message. */
void message_header_json(const struct message *m, uint64_t size,
                         struct buf *out);

/* What to show: the best text/plain and text/html bodies, UTF-8, each at most
 * LIMIT_MESSAGE_BODY bytes, empty if there is none. HTML is hostile: who shows
 * it cleans and confines it. */
struct message_body {
    struct buf text;
    struct buf html;
    const char *text_part, *html_part; /* their numbers, or "" */
    bool cut;                          /* a body was longer */
};
void message_body(const struct message *m, struct message_body *out);
void message_body_free(struct message_body *b);

/* Part NUMBER decoded from its transfer encoding, appended to OUT; bytes are
 * as sent. ST_NOT_FOUND. */
enum status message_part_decode(const struct message *m, const char *number,
                                struct buf *out) MUST_CHECK;

/* Number of Received fields in the header of RAW, counted to at most MAX
 * (RFC 5321 6.3). Needs no parse. */
unsigned message_count_received(struct slice raw, unsigned max);

#endif
