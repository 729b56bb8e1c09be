/*
 * Mail addresses: a strict parser for the one form that we deliver to,
 * local-part "@" domain as RFC 5321 4.1.2 has it, and what an address means
 * here. What is refused: source routes, address literals, empty labels,
 * trailing dots, control and non-ASCII characters, lengths above 64 and 255.
 */
#ifndef CLOUD_MAIL_ADDRESS_H
#define CLOUD_MAIL_ADDRESS_H

#include "cloud/account.h"

#define MAIL_ADDRESS_LOCAL_MAX 64
#define MAIL_ADDRESS_DOMAIN_MAX 255
#define MAIL_ADDRESS_MAX (MAIL_ADDRESS_LOCAL_MAX + 1 + MAIL_ADDRESS_DOMAIN_MAX)

struct mail_address {
    char local[MAIL_ADDRESS_LOCAL_MAX + 1];   /* unquoted, case kept */
    char domain[MAIL_ADDRESS_DOMAIN_MAX + 1]; /* lower case */
};

/* TEXT without angle brackets. ST_INVALID. Pure. */
enum status mail_address_parse(struct slice text,
                               struct mail_address *out) MUST_CHECK;
/* local@domain, quoted where it must be. */
void mail_address_format(const struct mail_address *a,
                         char out[2 * MAIL_ADDRESS_MAX]);

/* Who gets mail for A. ST_OK: *USERNAME; ST_NOT_FOUND: our domain, but nobody
 * of that name (550 5.1.1); ST_DENIED: not our domain (550 5.7.1 for
 * strangers). "name+tag" goes to name; postmaster as configured; aliases are
 * followed once. */
enum status
mail_address_resolve(const struct cloud_op *op, const struct mail_address *a,
                     char username[ACCOUNT_NAME_MAX + 1]) MUST_CHECK;

#endif
