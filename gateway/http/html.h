/*
 * Cleaning a mail's HTML: what comes out is built anew from a short list of
 * harmless elements and attributes; nothing of the input passes as it is.
 * Pure, linear in the size of the input.
 *
 * This is the first of three walls. The others are the frame's sandbox and
 * the Content-Security-Policy of the answer (response.c).
 */
#ifndef GATEWAY_HTTP_HTML_H
#define GATEWAY_HTTP_HTML_H

#include "common/buf.h"

struct html_options {
    /* Appends a data: URI for the image with content id CID; false if the
     * mail has none. May be NULL. */
    bool (*inline_image)(void *ctx, const char *cid, struct buf *out);
    void *ctx;
};

/* Appends the clean form of HTML (any bytes) to OUT; past OUT's maximum the
 * rest is left out. *BLOCKED: how many images and backgrounds would have been
 * fetched from elsewhere. */
void html_clean(struct slice html, const struct html_options *o,
                struct buf *out, unsigned *blocked);

#endif
