/*
 * HTTPS with a certificate made here: what differs from plain HTTP, exchange
 * of the certificate while clients come, and files that do not fit.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>
#include <gnutls/abstract.h>
#include <gnutls/x509.h>

#include "tests/unit/http_fixture.h"

static struct web web;
static char dir[] = "/tmp/penn-tls-XXXXXX";
static char paths[4][64]; /* cert a, key a, cert b, key b */

static void write_file(const char *path, const gnutls_datum_t *text)
{
    FILE *f = fopen(path, "w");
    ck_assert_ptr_nonnull(f);
    ck_assert_uint_eq(fwrite(text->data, 1, text->size, f), text->size);
    fclose(f);
}

static void make_certificate(const char *name, const char *cert_path,
                             const char *key_path)
{
    gnutls_x509_privkey_t key;
    gnutls_x509_crt_t cert;
    gnutls_datum_t text;
    gnutls_x509_privkey_init(&key);
    gnutls_x509_crt_init(&cert);
    ck_assert_int_eq(gnutls_x509_privkey_generate(
                         key, GNUTLS_PK_ECDSA,
                         GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0),
                     0);
    gnutls_x509_crt_set_version(cert, 3);
    gnutls_x509_crt_set_serial(cert, "\1", 1);
    gnutls_x509_crt_set_activation_time(cert, time(NULL) - 60);
    gnutls_x509_crt_set_expiration_time(cert, time(NULL) + 3600);
    gnutls_x509_crt_set_dn_by_oid(cert, GNUTLS_OID_X520_COMMON_NAME, 0, name,
                                  (unsigned)strlen(name));
    gnutls_x509_crt_set_key(cert, key);
    ck_assert_int_eq(
        gnutls_x509_crt_sign2(cert, cert, key, GNUTLS_DIG_SHA256, 0), 0);
    gnutls_x509_crt_export2(cert, GNUTLS_X509_FMT_PEM, &text);
    write_file(cert_path, &text);
    gnutls_free(text.data);
    gnutls_x509_privkey_export2(key, GNUTLS_X509_FMT_PEM, &text);
    write_file(key_path, &text);
    gnutls_free(text.data);
    gnutls_x509_crt_deinit(cert);
    gnutls_x509_privkey_deinit(key);
}

static void set_up(void)
{
    static const char *const names[] = {"a.crt", "a.key", "b.crt", "b.key"};
    ck_assert_ptr_nonnull(mkdtemp(dir));
    for (int i = 0; i < 4; i++)
        snprintf(paths[i], sizeof(paths[i]), "%s/%s", dir, names[i]);
    make_certificate("first.test", paths[0], paths[1]);
    make_certificate("second.test", paths[2], paths[3]);
    struct http_server_options o = {
        .listen_tls = "127.0.0.1:0", .certificate = paths[0], .key = paths[1]};
    web_init(&web, &o);
}

static void tear_down(void)
{
    web_fini(&web);
    for (int i = 0; i < 4; i++)
        unlink(paths[i]);
    rmdir(dir);
}

struct answer {
    struct buf head, body;
    char subject[256];
};

static size_t take(char *data, size_t size, size_t count, void *out)
{
    buf_put(out, data, size * count);
    return size * count;
}

static void note_subject(CURL *c, struct answer *a)
{
    struct curl_certinfo *info = NULL;
    ck_assert_int_eq(curl_easy_getinfo(c, CURLINFO_CERTINFO, &info), CURLE_OK);
    ck_assert_int_ge(info->num_of_certs, 1);
    for (struct curl_slist *l = info->certinfo[0]; l != NULL; l = l->next) {
        if (strncmp(l->data, "Subject:", 8) == 0)
            snprintf(a->subject, sizeof(a->subject), "%s", l->data);
    }
}

static long call(const char *path, const char *body, struct answer *a)
{
    char url[128];
    long status = 0;
    CURL *c = curl_easy_init();
    memset(a, 0, sizeof(*a));
    snprintf(url, sizeof(url), "https://127.0.0.1:%u%s",
             http_server_tls_port(web.server), path);
    curl_easy_setopt(c, CURLOPT_URL, url);
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYPEER, 0L);
    curl_easy_setopt(c, CURLOPT_SSL_VERIFYHOST, 0L);
    curl_easy_setopt(c, CURLOPT_CERTINFO, 1L);
    curl_easy_setopt(c, CURLOPT_TIMEOUT, 20L);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, take);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, &a->head);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, take);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, &a->body);
    if (body != NULL)
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, body);
    CURLcode e = curl_easy_perform(c);
    ck_assert_msg(e == CURLE_OK, "%s", curl_easy_strerror(e));
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    note_subject(c, a);
    curl_easy_cleanup(c);
    return status;
}

static void answer_free(struct answer *a)
{
    buf_free(&a->head);
    buf_free(&a->body);
}

START_TEST(secure_answers)
{
    struct answer a;
    ck_assert_int_eq(call("/", NULL, &a), 200);
    ck_assert_ptr_nonnull(
        strstr(buf_cstr(&a.head), "Strict-Transport-Security: max-age="));
    answer_free(&a);
    ck_assert_int_eq(call("/api/login",
                          "{\"username\":\"demo\","
                          "\"password\":\"secret-password\"}",
                          &a),
                     200);
    ck_assert_ptr_nonnull(strstr(buf_cstr(&a.head), "; Secure"));
    answer_free(&a);
}
END_TEST

static void replace_file(int to, int from)
{
    char bytes[8192];
    FILE *f = fopen(paths[from], "r");
    size_t n = fread(bytes, 1, sizeof(bytes), f);
    gnutls_datum_t text = {(unsigned char *)bytes, (unsigned)n};
    fclose(f);
    write_file(paths[to], &text);
}

START_TEST(certificates_are_exchanged)
{
    struct answer a;
    struct err err;
    ck_assert_int_eq(call("/", NULL, &a), 200);
    ck_assert_ptr_nonnull(strstr(a.subject, "first.test"));
    answer_free(&a);
    replace_file(0, 2);
    ck_assert_int_eq(http_server_reload(web.server, &err), ST_CONFIG);
    ck_assert_ptr_nonnull(strstr(err.text, "a.key"));
    ck_assert_int_eq(call("/", NULL, &a), 200);
    ck_assert_ptr_nonnull(strstr(a.subject, "first.test"));
    answer_free(&a);
    replace_file(1, 3);
    ck_assert_int_eq(http_server_reload(web.server, &err), ST_OK);
    ck_assert_int_eq(call("/", NULL, &a), 200);
    ck_assert_ptr_nonnull(strstr(a.subject, "second.test"));
    answer_free(&a);
    unlink(paths[0]);
    ck_assert_int_eq(http_server_reload(web.server, &err), ST_CONFIG);
    ck_assert_int_eq(call("/", NULL, &a), 200);
    answer_free(&a);
}
END_TEST

START_TEST(plain_text_on_the_tls_port_gets_nothing)
{
    struct reply r;
    struct web other = web;
    other.port = http_server_tls_port(web.server);
    web_raw(&other, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", &r);
    ck_assert_int_eq(r.status, 0);
    reply_free(&r);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("http_tls");
    TCase *t = tcase_create("tls");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_test(t, secure_answers);
    tcase_add_test(t, certificates_are_exchanged);
    tcase_add_test(t, plain_text_on_the_tls_port_gets_nothing);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
