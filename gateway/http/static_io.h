/*
 * The files of the web interface: read once at the start, served from memory.
 */
#ifndef GATEWAY_HTTP_STATIC_IO_H
#define GATEWAY_HTTP_STATIC_IO_H

#include "gateway/http/request.h"
#include "gateway/http/response.h"

struct http_static;

/* Reads all files in FOLDER whose names end in a type that we know; folders
 * in it are not looked at. ST_NOT_FOUND, ST_IO, ST_TOO_LARGE, or
 * ST_CONFIG if there is no index.html. */
enum status http_static_load(const char *folder, struct http_static **out,
                             struct err *err) MUST_CHECK;
void http_static_free(struct http_static *s);

/* Answers R from memory: "/" is index.html, and what there is not is
 * missing.html, with status 404, for who reads pages (Accept names text/html).
 * HTTP_ERROR_NOT_FOUND for others, HTTP_ERROR_METHOD for anything but GET and
 * HEAD on a file. The body stays S's. */
enum http_error http_static_find(const struct http_static *s,
                                 struct http_request *r,
                                 struct http_response *res);

#endif
