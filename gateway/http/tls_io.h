/*
 * The certificate for HTTPS: read from files, exchanged while the server runs.
 */
#ifndef GATEWAY_HTTP_TLS_IO_H
#define GATEWAY_HTTP_TLS_IO_H

#include <gnutls/abstract.h>

#include "common/status.h"

struct http_tls;

#define HTTP_TLS_PRIORITIES                                                    \
    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:%SERVER_PRECEDENCE"

/* Reads a PEM chain and its key. ST_CONFIG with a text. */
enum status http_tls_load(const char *certificate, const char *key,
                          struct http_tls **out, struct err *err) MUST_CHECK;
/* Reads anew for handshakes from now on; on failure nothing changes. */
enum status http_tls_reload(struct http_tls *t, const char *certificate,
                            const char *key, struct err *err) MUST_CHECK;
void http_tls_free(struct http_tls *t);

/* MHD_OPTION_HTTPS_CERT_CALLBACK. Finds the http_tls through the connection's
 * socket context, which is a struct http_port. */
int http_tls_choose(gnutls_session_t session, const gnutls_datum_t *names,
                    int names_count, const gnutls_pk_algorithm_t *algorithms,
                    int algorithms_count, gnutls_pcert_st **chain,
                    unsigned *chain_length, gnutls_privkey_t *key);

#endif
