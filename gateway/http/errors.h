/*
 * The refusals of the HTTP API: names, statuses, codes and texts from
 * errors.def.
 */
#ifndef GATEWAY_HTTP_ERRORS_H
#define GATEWAY_HTTP_ERRORS_H

#include "common/status.h"

enum http_error {
    HTTP_ERROR_NONE = 0,
#define HTTP_ERROR(NAME, status, code, message) HTTP_ERROR_##NAME,
#include "gateway/http/errors.def"
#undef HTTP_ERROR
    HTTP_ERROR_COUNT,
};

int http_error_status(enum http_error e);
const char *http_error_code(enum http_error e);
const char *http_error_message(enum http_error e);

/* The refusal that tells of store status S (not ST_OK). */
enum http_error http_error_of(enum status s);

#endif
