/*
 * Mail addresses: a strict parser for the one form that we deliver to,
 * local-part "@" domain as RFC 5321 4.1.2 has it, and what an address means
 * here. What is refused: source routes, address literals, empty labels,
 * trailing dots, control and non-ASCII characters, lengths above 64 and 255.
 */
#ifndef CLOUD_ADDRESS_H
#define CLOUD_ADDRESS_H

#include "cloud/account.h"

#define ADDRESS_LOCAL_MAX 64
#define ADDRESS_DOMAIN_MAX 255
#define ADDRESS_MAX (ADDRESS_LOCAL_MAX + 1 + ADDRESS_DOMAIN_MAX)

struct address {
    char local[ADDRESS_LOCAL_MAX + 1];   /* unquoted, case kept */
    char domain[ADDRESS_DOMAIN_MAX + 1]; /* lower case */
};

/* TEXT without angle brackets. ST_INVALID. Pure. */
enum status address_parse(struct slice text, struct address *out) MUST_CHECK;
/* local@domain, quoted where it must be. */
void address_format(const struct address *a, char out[2 * ADDRESS_MAX]);

/* Who gets mail for A. ST_OK: *USERNAME; ST_NOT_FOUND: our domain, but nobody
 * of that name (550 5.1.1); ST_DENIED: not our domain (550 5.7.1 for
 * strangers). "name+tag" goes to name; postmaster as configured; aliases are
 * followed once. */
enum status address_resolve(const struct cloud_op *op, const struct address *a,
                            char username[ACCOUNT_NAME_MAX + 1]) MUST_CHECK;

#endif
