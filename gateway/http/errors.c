/*
 * The table of refusals, and how the store's statuses turn into them. What
 * is about a peer, a tablet or an epoch is no business of the client: for it
 * the store does not answer at present.
 */
#include "gateway/http/errors.h"

#include <stddef.h>

static const struct {
    int status;
    const char *code, *message;
} errors[HTTP_ERROR_COUNT] = {
    [HTTP_ERROR_NONE] = {200, "ok", "ok"},
#define HTTP_ERROR(NAME, s, c, m) [HTTP_ERROR_##NAME] = {s, c, m},
#include "gateway/http/errors.def"
#undef HTTP_ERROR
};

int http_error_status(enum http_error e)
{
    return errors[e].status;
}

const char *http_error_code(enum http_error e)
{
    return errors[e].code;
}

const char *http_error_message(enum http_error e)
{
    return errors[e].message;
}

static const struct {
    enum status status;
    enum http_error error;
} by_status[] = {
    {ST_INVALID, HTTP_ERROR_BAD_REQUEST},
    {ST_TOO_LARGE, HTTP_ERROR_TOO_LARGE},
    {ST_NOT_FOUND, HTTP_ERROR_NOT_FOUND},
    {ST_CONFLICT, HTTP_ERROR_CONFLICT},
    {ST_EXISTS, HTTP_ERROR_CONFLICT},
    {ST_BOUND, HTTP_ERROR_QUOTA},
    {ST_NO_SPACE, HTTP_ERROR_NO_SPACE},
    {ST_BUSY, HTTP_ERROR_BUSY},
    {ST_TOO_MANY, HTTP_ERROR_TOO_MANY},
    {ST_UNKNOWN_OUTCOME, HTTP_ERROR_UNKNOWN_OUTCOME},
    {ST_UNKNOWN_CLIENT, HTTP_ERROR_UNKNOWN_OUTCOME},
    {ST_DENIED, HTTP_ERROR_NOT_ALLOWED},
    {ST_UNAUTHENTICATED, HTTP_ERROR_UNAUTHENTICATED},
    {ST_UNSUPPORTED, HTTP_ERROR_UNSUPPORTED},
    {ST_GONE, HTTP_ERROR_GONE},
    {ST_STOPPING, HTTP_ERROR_STOPPING},
    {ST_IO, HTTP_ERROR_INTERNAL},
    {ST_CORRUPT, HTTP_ERROR_INTERNAL},
    {ST_NO_MEMORY, HTTP_ERROR_BUSY},
};

enum http_error http_error_of(enum status s)
{
    for (size_t i = 0; i < sizeof(by_status) / sizeof(by_status[0]); i++) {
        if (by_status[i].status == s)
            return by_status[i].error;
    }
    return HTTP_ERROR_UNAVAILABLE;
}
