/*
 * Event streams (text/event-stream): a browser that has its inbox open hears
 * of new mail at once. Streams hold no worker; all streams of one account
 * share one thread that rests on the store's WATCH, and there are few enough
 * of those that a flood cannot eat the process: who comes too late is told
 * 503, and polls.
 *
 * Events: "ready" once the watching has begun (what changed before it, the
 * client reads then), "mail" for each arrival, both with {"next": n};
 * "logout" when the session has ended. A comment comes every 15 s.
 */
#ifndef GATEWAY_HTTP_EVENTS_IO_H
#define GATEWAY_HTTP_EVENTS_IO_H

#include "cloud/cloud.h"

struct MHD_Connection;
struct MHD_Response;
struct http_events;
struct http_stream;

struct http_events *http_events_new(struct cloud *cloud, const struct log *log);
/* Ends all streams and threads; nobody opens any more. At most about 6 s. */
void http_events_stop(struct http_events *e);
/* After http_events_stop() and the server's end. NULL is allowed. */
void http_events_free(struct http_events *e);
/* Streams now. */
unsigned http_events_count(struct http_events *e);

/* A stream for USERNAME, whose session's cookie is COOKIE. ST_BUSY: too many
 * in all, or of this account. */
enum status http_events_open(struct http_events *e, const char *username,
                             const char *cookie,
                             struct http_stream **out) MUST_CHECK;

/* For exchange_io.c: where the stream goes, before its response is queued. */
void http_stream_bind(struct http_stream *s, struct MHD_Connection *conn,
                      int fd);
/* Makes the response, which takes *S; NULL if there is no memory. */
struct MHD_Response *http_stream_response(struct http_stream **s);
/* Drops a stream that no response took. */
void http_stream_drop(struct http_stream **s);

#endif
