/*
 * Addresses: see the header. The parser walks once from left to right and
 * accepts exactly the grammar's Mailbox without literals:
 *
 *   local-part  dot-string of atext, or a quoted string of printable ASCII
 *   "@"
 *   domain      labels of letters, digits and inner hyphens
 */
#include "cloud/mail_address.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cloud/context.h"
#include "cloud/json.h"
#include "cloud/store.h"

static bool is_atext(uint8_t c)
{
    return isalnum(c) || (c != 0 && strchr("!#$%&'*+-/=?^_`{|}~", c) != NULL);
}

/* Each takes its part off *AT and writes it; false if it is not there. */
static bool take_dot_string(struct cursor *at, char *out)
{
    size_t len = 0;
    bool dot = true;
    while (cursor_left(at) > 0 && *at->at != '@') {
        uint8_t c = cursor_u8(at);
        if ((c == '.' ? dot : !is_atext(c)) || len == MAIL_ADDRESS_LOCAL_MAX)
            return false;
        dot = c == '.';
        out[len++] = (char)c;
    }
    out[len] = '\0';
    return !dot;
}

static bool take_quoted(struct cursor *at, char *out)
{
    size_t len = 0;
    (void)cursor_u8(at); /* the opening quote */
    for (;;) {
        if (cursor_left(at) == 0)
            return false;
        uint8_t c = cursor_u8(at);
        if (c == '"')
            break;
        if (c == '\\')
            c = cursor_u8(at);
        if (c < 0x20 || c > 0x7e || len == MAIL_ADDRESS_LOCAL_MAX)
            return false;
        out[len++] = (char)c;
    }
    out[len] = '\0';
    return true;
}

static bool take_domain(struct cursor *at, char *out)
{
    size_t len = 0, label = 0;
    while (cursor_left(at) > 0) {
        uint8_t c = cursor_u8(at);
        if (len == MAIL_ADDRESS_DOMAIN_MAX)
            return false;
        if (c == '.') {
            if (label == 0 || out[len - 1] == '-')
                return false;
            label = 0;
        } else {
            if (!(isalnum(c) || (c == '-' && label > 0)) || c >= 0x80 ||
                ++label > 63)
                return false;
        }
        out[len++] = (char)tolower(c);
    }
    out[len] = '\0';
    return label > 0 && out[len - 1] != '-';
}

enum status mail_address_parse(struct slice text, struct mail_address *out)
{
    struct mail_address a;
    struct cursor at = cursor_of(text);
    if (text.len == 0)
        return ST_INVALID;
    bool good = text.data[0] == '"' ? take_quoted(&at, a.local)
                                    : take_dot_string(&at, a.local);
    if (!good || cursor_u8(&at) != '@' || !take_domain(&at, a.domain))
        return ST_INVALID;
    *out = a;
    return ST_OK;
}

static bool needs_quotes(const char *local)
{
    struct cursor at = cursor_of(slice_of(local));
    char copy[MAIL_ADDRESS_LOCAL_MAX + 1];
    return !take_dot_string(&at, copy) || cursor_left(&at) > 0;
}

void mail_address_format(const struct mail_address *a,
                         char out[2 * MAIL_ADDRESS_MAX])
{
    size_t n = 0;
    bool quotes = needs_quotes(a->local);
    if (quotes)
        out[n++] = '"';
    for (const char *p = a->local; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\')
            out[n++] = '\\';
        out[n++] = *p;
    }
    if (quotes)
        out[n++] = '"';
    snprintf(out + n, 2 * MAIL_ADDRESS_MAX - n, "@%s", a->domain);
}

/* ---- what an address means here ---- */

/* ST_OK: ours; ST_DENIED: not. The configuration names the usual domains, the
 * store those that were added later. */
static enum status check_domain(const struct cloud_op *op, const char *domain)
{
    if (cloud_domain_is_local(op->cloud, domain))
        return ST_OK;
    struct store_name row = store_name("domain:%s", domain);
    struct buf value = {0};
    enum status st = store_get(op, row.text, row.text, "settings", &value);
    buf_free(&value);
    return st == ST_NOT_FOUND ? ST_DENIED : st;
}

static enum status try_account(const struct cloud_op *op, const char *name,
                               char username[ACCOUNT_NAME_MAX + 1])
{
    struct account a;
    enum status st = account_get(op, name, &a);
    if (st == ST_OK)
        memcpy(username, a.username, sizeof a.username);
    return st;
}

static enum status try_alias(const struct cloud_op *op,
                             const struct mail_address *a,
                             char username[ACCOUNT_NAME_MAX + 1])
{
    struct store_name row = store_name("alias:%s@%s", a->local, a->domain);
    struct buf value = {0};
    enum status st = store_get(op, row.text, row.text, "settings", &value);
    if (st == ST_OK) {
        cJSON *o = json_parse_object(buf_slice(&value));
        const char *to = json_text(o, "to");
        st = to != NULL ? try_account(op, to, username) : ST_CORRUPT;
        cJSON_Delete(o);
    }
    buf_free(&value);
    return st;
}

enum status mail_address_resolve(const struct cloud_op *op,
                                 const struct mail_address *a,
                                 char username[ACCOUNT_NAME_MAX + 1])
{
    struct mail_address folded = *a;
    for (char *p = folded.local; *p != '\0'; p++)
        *p = (char)tolower((unsigned char)*p);
    enum status st = check_domain(op, folded.domain);
    if (st != ST_OK)
        return st;
    st = try_account(op, folded.local, username);
    if (st == ST_NOT_FOUND)
        st = try_alias(op, &folded, username);
    if (st == ST_NOT_FOUND && strcmp(folded.local, "postmaster") == 0 &&
        op->cloud->postmaster != NULL)
        st = try_account(op, op->cloud->postmaster, username);
    char *tag = strchr(folded.local, '+');
    if (st == ST_NOT_FOUND && tag != NULL) {
        *tag = '\0';
        st = try_account(op, folded.local, username);
    }
    return st;
}
