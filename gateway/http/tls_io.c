/*
 * GnuTLS borrows chain and key for as long as a handshake takes, and tells
 * nobody when that is over. So those that a reload replaces are kept until the
 * end: some kilobytes each time an operator brings a new certificate.
 */
#include "gateway/http/tls_io.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <gnutls/gnutls.h>
#include <microhttpd.h>

#include "common/buf.h"
#include "gateway/http/exchange_io.h"

#define CHAIN_MAX 8

struct pair {
    struct pair *older;
    gnutls_pcert_st chain[CHAIN_MAX];
    unsigned length;
    gnutls_privkey_t key;
};

struct http_tls {
    pthread_mutex_t lock;
    struct pair *newest;
};

static void free_pair(struct pair *p)
{
    for (unsigned i = 0; i < p->length; i++)
        gnutls_pcert_deinit(&p->chain[i]);
    gnutls_privkey_deinit(p->key);
    free(p);
}

static int load_key(struct pair *p, const char *file)
{
    gnutls_datum_t text;
    int e = gnutls_load_file(file, &text);
    if (e < 0)
        return e;
    e = gnutls_privkey_import_x509_raw(p->key, &text, GNUTLS_X509_FMT_PEM, NULL,
                                       0);
    gnutls_memset(text.data, 0, text.size);
    gnutls_free(text.data);
    return e;
}

/* A key that is not the certificate's would fail each handshake. */
static int check_match(const struct pair *p)
{
    unsigned char ids[2][32];
    size_t sizes[2] = {sizeof(ids[0]), sizeof(ids[1])};
    gnutls_pubkey_t public;
    int e = gnutls_pubkey_init(&public);
    if (e < 0)
        return e;
    e = gnutls_pubkey_import_privkey(public, p->key, 0, 0);
    if (e >= 0)
        e = gnutls_pubkey_get_key_id(public, GNUTLS_KEYID_USE_SHA256, ids[0],
                                     &sizes[0]);
    if (e >= 0)
        e = gnutls_pubkey_get_key_id(
            p->chain[0].pubkey, GNUTLS_KEYID_USE_SHA256, ids[1], &sizes[1]);
    gnutls_pubkey_deinit(public);
    if (e >= 0 && memcmp(ids[0], ids[1], sizes[0]) != 0)
        e = GNUTLS_E_CERTIFICATE_KEY_MISMATCH;
    return e;
}

static enum status load_pair(const char *certificate, const char *key,
                             struct pair **out, struct err *err)
{
    struct pair *p = xcalloc(1, sizeof(*p));
    unsigned length = CHAIN_MAX;
    gnutls_privkey_init(&p->key);
    int e = gnutls_pcert_list_import_x509_file(
        p->chain, &length, certificate, GNUTLS_X509_FMT_PEM, NULL, NULL, 0);
    if (e < 0) {
        free_pair(p);
        return err_set(err, ST_CONFIG, "%s: %s", certificate,
                       gnutls_strerror(e));
    }
    p->length = length;
    e = load_key(p, key);
    if (e >= 0)
        e = check_match(p);
    if (e < 0) {
        free_pair(p);
        return err_set(err, ST_CONFIG, "%s: %s", key, gnutls_strerror(e));
    }
    *out = p;
    return ST_OK;
}

enum status http_tls_load(const char *certificate, const char *key,
                          struct http_tls **out, struct err *err)
{
    struct pair *p = NULL;
    enum status s = load_pair(certificate, key, &p, err);
    if (s != ST_OK)
        return s;
    struct http_tls *t = xcalloc(1, sizeof(*t));
    pthread_mutex_init(&t->lock, NULL);
    t->newest = p;
    *out = t;
    return ST_OK;
}

enum status http_tls_reload(struct http_tls *t, const char *certificate,
                            const char *key, struct err *err)
{
    struct pair *p = NULL;
    enum status s = load_pair(certificate, key, &p, err);
    if (s != ST_OK)
        return s;
    pthread_mutex_lock(&t->lock);
    p->older = t->newest;
    t->newest = p;
    pthread_mutex_unlock(&t->lock);
    return ST_OK;
}

void http_tls_free(struct http_tls *t)
{
    if (t == NULL)
        return;
    while (t->newest != NULL) {
        struct pair *p = t->newest;
        t->newest = p->older;
        free_pair(p);
    }
    pthread_mutex_destroy(&t->lock);
    free(t);
}

int http_tls_choose(gnutls_session_t session, const gnutls_datum_t *names,
                    int names_count, const gnutls_pk_algorithm_t *algorithms,
                    int algorithms_count, gnutls_pcert_st **chain,
                    unsigned *chain_length, gnutls_privkey_t *key)
{
    struct MHD_Connection *c = gnutls_session_get_ptr(session);
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(c, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    if (info == NULL || info->socket_context == NULL)
        return -1;
    struct http_tls *t = ((struct http_port *)info->socket_context)->tls;
    pthread_mutex_lock(&t->lock);
    *chain = t->newest->chain;
    *chain_length = t->newest->length;
    *key = t->newest->key;
    pthread_mutex_unlock(&t->lock);
    return 0;
}
