/*
 * Splits "host:port". The last colon outside brackets divides; a host with
 * colons must be in brackets, so that "::1" is never taken for host ":" and
 * port 1.
 */
#include "common/address.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

static enum status parse_port(const char *text, uint16_t *out)
{
    unsigned port = 0;
    size_t len = strlen(text);
    if (len == 0 || len > 5) {
        return ST_INVALID;
    }
    for (size_t i = 0; i < len; i++) {
        if (!isdigit((unsigned char)text[i])) {
            return ST_INVALID;
        }
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    if (port > UINT16_MAX) {
        return ST_INVALID;
    }
    *out = (uint16_t)port;
    return ST_OK;
}

static bool host_char(char c, bool brackets)
{
    if (brackets) {
        return isalnum((unsigned char)c) || c == ':' || c == '.' || c == '%';
    }
    return isalnum((unsigned char)c) || c == '.' || c == '-' || c == '_';
}

enum status address_parse(const char *text, struct address *out)
{
    struct address a;
    bool brackets = text[0] == '[';
    const char *host = brackets ? text + 1 : text;
    const char *end = brackets ? strchr(host, ']') : strrchr(host, ':');
    if (end == NULL || end == host) {
        return ST_INVALID;
    }
    size_t len = (size_t)(end - host);
    const char *port = brackets ? end + 1 : end;
    if (len >= sizeof(a.host) || *port != ':') {
        return ST_INVALID;
    }
    bool any = !brackets && len == 1 && host[0] == '*';
    for (size_t i = 0; i < len && !any; i++) {
        if (!host_char(host[i], brackets)) {
            return ST_INVALID;
        }
    }
    if (parse_port(port + 1, &a.port) != ST_OK) {
        return ST_INVALID;
    }
    memcpy(a.host, host, len);
    a.host[len] = '\0';
    *out = a;
    return ST_OK;
}

bool address_is_loopback(const struct address *a)
{
    return strncmp(a->host, "127.", 4) == 0 || strcmp(a->host, "::1") == 0 ||
           strcasecmp(a->host, "localhost") == 0;
}
