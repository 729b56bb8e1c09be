/*
 * Paths and parameters: see the header. Each take_* moves *AT behind what it
 * took.
 */
#include "gateway/smtp/path.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static void skip_blanks(const char **at)
{
    while (**at == ' ' || **at == '\t')
        (*at)++;
}

/* " FROM:" and blanks that many clients put behind it. */
static bool take_keyword(const char **at, const char *keyword)
{
    const char *p = *at;
    size_t n = strlen(keyword);
    if (*p != ' ')
        return false;
    skip_blanks(&p);
    if (strncasecmp(p, keyword, n) != 0)
        return false;
    p += n;
    skip_blanks(&p);
    *at = p;
    return true;
}

/* "<...>" up to the bracket that no quoted string holds. */
static bool take_path(const char **at, struct slice *out)
{
    const char *p = *at;
    if (*p++ != '<')
        return false;
    const char *start = p;
    bool quoted = false;
    for (; *p != '\0' && (quoted || *p != '>'); p++) {
        if (quoted && *p == '\\' && p[1] != '\0')
            p++;
        else if (*p == '"')
            quoted = !quoted;
        else if (!quoted && (*p == '<' || *p == ' ' || *p == '\t'))
            return false;
    }
    if (*p != '>' || (p[1] != '\0' && p[1] != ' '))
        return false;
    *out = slice_make(start, (size_t)(p - start));
    *at = p + 1;
    return true;
}

/* The next "name=value" or "name"; false at the end. */
static bool take_parameter(const char **at, struct slice *name,
                           struct slice *value)
{
    skip_blanks(at);
    const char *start = *at;
    while (**at != '\0' && **at != ' ' && **at != '\t')
        (*at)++;
    size_t len = (size_t)(*at - start);
    if (len == 0)
        return false;
    const char *equals = memchr(start, '=', len);
    size_t name_len = equals != NULL ? (size_t)(equals - start) : len;
    *name = slice_make(start, name_len);
    *value = equals != NULL ? slice_make(equals + 1, len - name_len - 1)
                            : slice_make(NULL, 0);
    return true;
}

static bool equals_fold(struct slice s, const char *text)
{
    return s.len == strlen(text) &&
           strncasecmp((const char *)s.data, text, s.len) == 0;
}

/* Decimal digits, at most 20 of them (RFC 1870). */
static bool parse_size(struct slice value, uint64_t *out)
{
    uint64_t v = 0;
    if (value.len == 0 || value.len > 20)
        return false;
    for (size_t i = 0; i < value.len; i++) {
        unsigned digit = (unsigned)value.data[i] - '0';
        if (digit > 9)
            return false;
        v = v > (UINT64_MAX - digit) / 10 ? UINT64_MAX : v * 10 + digit;
    }
    *out = v;
    return true;
}

/* "[...]" at the end of an address: good for a sender, who may have no name. */
static bool literal_sender_valid(struct slice path)
{
    struct mail_address a;
    char copy[SMTP_SENDER_MAX + 8];
    const uint8_t *bracket = memchr(path.data, '[', path.len);
    if (bracket == NULL || path.data[path.len - 1] != ']')
        return false;
    size_t local = (size_t)(bracket - path.data);
    for (const uint8_t *p = bracket + 1; p < path.data + path.len - 1; p++) {
        if (!isalnum(*p) && *p != ':' && *p != '.')
            return false;
    }
    memcpy(copy, path.data, local);
    memcpy(copy + local, "x", 1);
    return mail_address_parse(slice_make(copy, local + 1), &a) == ST_OK;
}

static bool sender_valid(struct slice path)
{
    struct mail_address a;
    if (path.len == 0)
        return true;
    if (path.len > SMTP_SENDER_MAX)
        return false;
    return mail_address_parse(path, &a) == ST_OK || literal_sender_valid(path);
}

static enum status parse_mail_parameter(struct slice name, struct slice value,
                                        struct smtp_mail *m, bool *body)
{
    if (equals_fold(name, "SIZE")) {
        if (m->has_size || !parse_size(value, &m->size))
            return ST_INVALID;
        m->has_size = true;
        return ST_OK;
    }
    if (equals_fold(name, "BODY")) {
        m->eight_bit = equals_fold(value, "8BITMIME");
        if (*body || (!m->eight_bit && !equals_fold(value, "7BIT")))
            return ST_INVALID;
        *body = true;
        return ST_OK;
    }
    return ST_UNSUPPORTED;
}

enum status smtp_parse_mail(const char *text, struct smtp_mail *out)
{
    struct smtp_mail m = {0};
    struct slice path, name, value;
    bool body = false;
    if (!take_keyword(&text, "FROM:") || !take_path(&text, &path) ||
        !sender_valid(path))
        return ST_INVALID;
    memcpy(m.sender, path.data, path.len);
    while (take_parameter(&text, &name, &value)) {
        enum status st = parse_mail_parameter(name, value, &m, &body);
        if (st != ST_OK)
            return st;
    }
    *out = m;
    return ST_OK;
}

enum status smtp_parse_rcpt(const char *text, struct smtp_rcpt *out)
{
    struct smtp_rcpt r = {0};
    struct slice path, name, value;
    if (!take_keyword(&text, "TO:") || !take_path(&text, &path) ||
        path.len == 0)
        return ST_INVALID;
    if (take_parameter(&text, &name, &value))
        return ST_UNSUPPORTED;
    if (path.data[0] == '@' || path.data[path.len - 1] == ']')
        return ST_DENIED;
    if (equals_fold(path, "postmaster")) {
        memcpy(r.address.local, "postmaster", sizeof "postmaster");
    } else {
        enum status st = mail_address_parse(path, &r.address);
        if (st != ST_OK)
            return st;
    }
    *out = r;
    return ST_OK;
}

bool smtp_helo_valid(const char *text)
{
    size_t len = strlen(text);
    if (len == 0 || len > 255)
        return false;
    for (const char *p = text; *p != '\0'; p++) {
        if (!isalnum((unsigned char)*p) && strchr("-._:[]", *p) == NULL)
            return false;
    }
    return true;
}
