/*
 * The certificate of a one-machine cluster: an elliptic key and a certificate
 * signed with it, for the names by which loopback is reached. It proves
 * nothing to anybody who has not been given it (`curl --cacert`); it is there
 * so that HTTPS can be used and tried. It lasts for ten years; removing the
 * files and calling `up` makes new ones.
 */
#include "admin/local.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <gnutls/x509.h>

#define DAY_S (24L * 60 * 60)
#define YEARS_S (10 * 365 * DAY_S)

/* Both are to be freed by free_pair(). */
struct pair {
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t certificate;
};

static int make_key(struct pair *p)
{
    int e = gnutls_x509_privkey_init(&p->key);
    if (e < 0) {
        return e;
    }
    return gnutls_x509_privkey_generate(
        p->key, GNUTLS_PK_ECDSA,
        GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0);
}

static int add_names(gnutls_x509_crt_t c)
{
    static const char *const names[] = {"localhost", "penncloud.test",
                                        "mail.penncloud.test"};
    static const unsigned char v4[4] = {127, 0, 0, 1};
    struct in6_addr v6 = IN6ADDR_LOOPBACK_INIT;
    int e = gnutls_x509_crt_set_dn_by_oid(c, GNUTLS_OID_X520_COMMON_NAME, 0,
                                          names[0], (unsigned)strlen(names[0]));
    for (size_t i = 0; e >= 0 && i < sizeof(names) / sizeof(names[0]); i++) {
        e = gnutls_x509_crt_set_subject_alt_name(
            c, GNUTLS_SAN_DNSNAME, names[i], (unsigned)strlen(names[i]),
            GNUTLS_FSAN_APPEND);
    }
    if (e >= 0) {
        e = gnutls_x509_crt_set_subject_alt_name(
            c, GNUTLS_SAN_IPADDRESS, v4, sizeof(v4), GNUTLS_FSAN_APPEND);
    }
    if (e >= 0) {
        e = gnutls_x509_crt_set_subject_alt_name(
            c, GNUTLS_SAN_IPADDRESS, &v6, sizeof(v6), GNUTLS_FSAN_APPEND);
    }
    return e;
}

/* What it may be used for, and how long. */
static int set_terms(gnutls_x509_crt_t c)
{
    unsigned char serial[16];
    time_t now = time(NULL);
    int e = gnutls_rnd(GNUTLS_RND_NONCE, serial, sizeof(serial));
    serial[0] = (unsigned char)((serial[0] & 0x3f) | 0x40); /* positive */
    if (e >= 0) {
        e = gnutls_x509_crt_set_version(c, 3);
    }
    if (e >= 0) {
        e = gnutls_x509_crt_set_serial(c, serial, sizeof(serial));
    }
    /* A day back: clocks differ. */
    if (e >= 0) {
        e = gnutls_x509_crt_set_activation_time(c, now - DAY_S);
    }
    if (e >= 0) {
        e = gnutls_x509_crt_set_expiration_time(c, now + YEARS_S);
    }
    if (e >= 0) {
        e = gnutls_x509_crt_set_basic_constraints(c, 0, -1);
    }
    if (e >= 0) {
        e = gnutls_x509_crt_set_key_usage(c, GNUTLS_KEY_DIGITAL_SIGNATURE);
    }
    if (e >= 0) {
        e = gnutls_x509_crt_set_key_purpose_oid(c, GNUTLS_KP_TLS_WWW_SERVER, 0);
    }
    return e;
}

static int make_pair(struct pair *p)
{
    int e = make_key(p);
    if (e >= 0) {
        e = gnutls_x509_crt_init(&p->certificate);
    }
    if (e >= 0) {
        e = gnutls_x509_crt_set_key(p->certificate, p->key);
    }
    if (e >= 0) {
        e = add_names(p->certificate);
    }
    if (e >= 0) {
        e = set_terms(p->certificate);
    }
    if (e >= 0) {
        e = gnutls_x509_crt_sign2(p->certificate, p->certificate, p->key,
                                  GNUTLS_DIG_SHA256, 0);
    }
    return e;
}

static void free_pair(struct pair *p)
{
    if (p->certificate != NULL) {
        gnutls_x509_crt_deinit(p->certificate);
    }
    if (p->key != NULL) {
        gnutls_x509_privkey_deinit(p->key);
    }
}

static enum status write_pem(const char *path, int exported,
                             gnutls_datum_t *pem, struct err *err)
{
    if (exported < 0) {
        return err_set(err, ST_NO_MEMORY, "%s: %s", path,
                       gnutls_strerror(exported));
    }
    enum status s =
        local_write_file(path, slice_make(pem->data, pem->size), err);
    gnutls_memset(pem->data, 0, pem->size);
    gnutls_free(pem->data);
    return s;
}

enum status local_make_certificate(const struct local *l, struct err *err)
{
    char key[LOCAL_PATH_MAX + 32], certificate[LOCAL_PATH_MAX + 32];
    struct pair p = {NULL, NULL};
    gnutls_datum_t pem = {NULL, 0};
    (void)snprintf(key, sizeof(key), "%s/tls/key.pem", l->dir);
    (void)snprintf(certificate, sizeof(certificate), "%s/tls/cert.pem", l->dir);
    if (access(key, F_OK) == 0 && access(certificate, F_OK) == 0) {
        return ST_OK;
    }
    int e = make_pair(&p);
    if (e < 0) {
        free_pair(&p);
        return err_set(err, ST_NO_MEMORY, "%s: %s", certificate,
                       gnutls_strerror(e));
    }
    e = gnutls_x509_privkey_export2(p.key, GNUTLS_X509_FMT_PEM, &pem);
    enum status s = write_pem(key, e, &pem, err);
    if (s == ST_OK) {
        e = gnutls_x509_crt_export2(p.certificate, GNUTLS_X509_FMT_PEM, &pem);
        s = write_pem(certificate, e, &pem, err);
    }
    free_pair(&p);
    return s;
}
