#include "common/status.h"

#include <errno.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

struct row {
    const char *name, *text, *smtp;
    int number, http;
    bool retryable;
};

static const struct row rows[] = {
#define STATUS(name, num, text, http, smtp, retry)                             \
    [num] = {#name, text, smtp, num, http, (retry) != 0},
#include "common/status.def"
#undef STATUS
};

static const struct row *row_of(enum status s)
{
    size_t n = sizeof(rows) / sizeof(rows[0]);
    if ((size_t)s >= n || rows[s].name == NULL) {
        return NULL;
    }
    return &rows[s];
}

const char *status_name(enum status s)
{
    const struct row *r = row_of(s);
    return r != NULL ? r->name : "UNKNOWN";
}

const char *status_text(enum status s)
{
    const struct row *r = row_of(s);
    return r != NULL ? r->text : "unknown status";
}

int status_http(enum status s)
{
    const struct row *r = row_of(s);
    return r != NULL ? r->http : 500;
}

const char *status_smtp(enum status s)
{
    const struct row *r = row_of(s);
    return r != NULL ? r->smtp : "451 4.3.0";
}

bool status_retryable(enum status s)
{
    const struct row *r = row_of(s);
    return r != NULL && r->retryable;
}

bool status_from_wire(uint64_t number, enum status *out)
{
    if (number >= sizeof(rows) / sizeof(rows[0]) || rows[number].name == NULL) {
        return false;
    }
    *out = (enum status)number;
    return true;
}

enum status status_from_errno(int error)
{
    switch (error) {
    case 0:
        return ST_OK;
    case ENOENT:
        return ST_NOT_FOUND;
    case EEXIST:
        return ST_EXISTS;
    case ENOSPC:
    case EDQUOT:
        return ST_NO_SPACE;
    case ENOMEM:
    case EMFILE:
    case ENFILE:
        return ST_NO_MEMORY;
    case EACCES:
    case EPERM:
    case EROFS:
        return ST_DENIED;
    case EADDRINUSE:
    case EBUSY:
        return ST_IN_USE;
    case ECONNREFUSED:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return ST_UNREACHABLE;
    case ECONNRESET:
    case EPIPE:
        return ST_CLOSED;
    case ETIMEDOUT:
        return ST_TIMEOUT;
    default:
        return ST_IO;
    }
}

enum status err_set(struct err *e, enum status s, const char *format, ...)
{
    if (e != NULL) {
        va_list ap;
        va_start(ap, format);
        (void)vsnprintf(e->text, sizeof(e->text), format, ap);
        va_end(ap);
    }
    return s;
}

enum status err_within(struct err *e, enum status s, const char *where)
{
    if (e != NULL) {
        struct err inner = *e;
        (void)err_set(e, s, "%s: %s", where, inner.text);
    }
    return s;
}
