/*
 * The structure of a MIME message (RFC 2045, 2046), found in one pass over
 * its lines. GMime builds an object for every part and compares each line
 * with every open boundary, without a bound on either; mail comes from
 * strangers, so here both are bounded, and time is linear in the size. What
 * is inside a part is GMime's business.
 *
 * Lenient where mail is: lines end with LF or CRLF, a header may end without
 * an empty line, a boundary may be missing.
 */
#ifndef CLOUD_MIME_H
#define CLOUD_MIME_H

#include <gmime/gmime.h>

#include "common/buf.h"
#include "common/limits.h"

/* An entity: the message itself, or a part. */
struct mime_node {
    struct slice head, body; /* into the message; head without the blank line */
    const char *number;      /* "1", "2.1"; "" for a multipart root */
    const char *type;        /* "text/plain", lower case */
    bool multipart;          /* with a usable boundary: has parts, no body */
    size_t parent;           /* index; its own for the root */
    unsigned depth;          /* 0 for the root */
    unsigned children;
};

struct mime_tree {
    struct mime_node *nodes; /* in order of appearance; the root first */
    size_t count;
    bool truncated; /* a LIMIT_MIME_... was met */
    size_t typed;   /* bytes that mime_typed_field() has given */
    struct arena arena;
};

void mime_scan(struct slice raw, struct mime_tree *out);
void mime_tree_free(struct mime_tree *t);

/* The value of the Nth (from 0) field NAME of HEAD, unfolded, without
 * surrounding white space, NULs made spaces, at most LIMIT_MESSAGE_FIELD
 * bytes; NULL if there is none. Only LIMIT_MESSAGE_HEADER bytes are looked
 * at. */
const char *mime_field(struct slice head, const char *name, unsigned n,
                       struct arena *arena);

/* The same for Content-Type and -Disposition, which are dear to parse: once a
 * message's have LIMIT_MIME_PARAMETERS bytes in all, without parameters, and
 * T is marked truncated. */
const char *mime_typed_field(struct mime_tree *t, struct slice head,
                             const char *name, struct arena *arena);

/* The next line of S from *AT on, without its end; false at the end. *AT
 * moves behind it. */
bool mime_next_line(struct slice s, size_t *at, struct slice *line);

#endif
