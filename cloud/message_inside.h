/*
 * Inside of struct message; for message*.c alone.
 */
#ifndef CLOUD_MESSAGE_INSIDE_H
#define CLOUD_MESSAGE_INSIDE_H

#include "cloud/message.h"
#include "cloud/mime.h"

struct message {
    struct slice raw;
    struct mime_tree tree;
    struct message_part *parts; /* the leaves, in order; in the tree's arena */
    size_t *nodes;              /* parts[i] is tree.nodes[nodes[i]] */
    size_t part_count;
    struct message_summary summary;
};

/* Decodes part I's transfer encoding into OUT, at most MAX bytes; false if
 * there was more. */
bool message_decode(const struct message *m, size_t i, size_t max,
                    struct buf *out);
/* Start of the text that a person would read, for lists. */
void message_snippet(const struct message *m, char *out, size_t size);
/* Fills m->summary. */
void message_summarize(struct message *m);

#endif
