/*
 * AES-256-GCM by wide vectors against the published vectors, and, for all
 * lengths, against GnuTLS: the same bytes, nothing beside them, and nothing
 * that was changed opens. On a processor that has no such vectors there is
 * nothing to test.
 */
#include "common/aes_gcm.h"

#include <check.h>
#include <gnutls/crypto.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#define LEN_MAX 70000
#define GUARD 0xa7

/* McGrew and Viega, The Galois/Counter Mode of Operation, appendix B. */
static const struct {
    const char *key, *nonce, *aad, *plain, *sealed;
} published[] = {
    /* 13 */
    {"0000000000000000000000000000000000000000000000000000000000000000",
     "000000000000000000000000", "", "", "530f8afbc74536b9a963b4f1c4cb738b"},
    /* 14 */
    {"0000000000000000000000000000000000000000000000000000000000000000",
     "000000000000000000000000", "", "00000000000000000000000000000000",
     "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"},
    /* 15 */
    {"feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308",
     "cafebabefacedbaddecaf888", "",
     "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
     "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255",
     "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
     "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad"
     "b094dac5d93471bdec1a502270e3cc6c"},
};

struct hex {
    uint8_t bytes[128];
    size_t len;
};

static struct hex parse(const char *text)
{
    struct hex h = {{0}, 0};
    ck_assert_int_eq(sodium_hex2bin(h.bytes, sizeof(h.bytes), text,
                                    strlen(text), NULL, &h.len, NULL),
                     0);
    return h;
}

START_TEST(published_vectors)
{
    if (!aes_gcm_available()) {
        return;
    }
    struct hex key = parse(published[_i].key);
    struct hex nonce = parse(published[_i].nonce);
    struct hex plain = parse(published[_i].plain);
    struct hex sealed = parse(published[_i].sealed);
    uint8_t out[128] = {0};
    ck_assert_uint_eq(sealed.len, plain.len + AES_GCM_TAG);
    struct aes_gcm *g = aes_gcm_new(key.bytes);
    struct aes_gcm_message m = {nonce.bytes, NULL, 0, plain.bytes, plain.len};
    aes_gcm_seal(g, &m, out);
    ck_assert_mem_eq(out, sealed.bytes, sealed.len);
    m.in = sealed.bytes;
    ck_assert(aes_gcm_open(g, &m, out));
    ck_assert_mem_eq(out, plain.bytes, plain.len);
    aes_gcm_free(g);
}
END_TEST

/* What both make of one message; memory of its exact size, so that sanitizers
 * see what goes past it. */
struct case_of {
    uint8_t key[AES_GCM_KEY], nonce[AES_GCM_NONCE], aad[AES_GCM_AAD_MAX];
    size_t aad_len, len;
    uint8_t *plain, *sealed, *opened;
};

static struct case_of make(size_t len, size_t aad_len)
{
    struct case_of c = {.aad_len = aad_len, .len = len};
    randombytes_buf(c.key, sizeof(c.key));
    randombytes_buf(c.nonce, sizeof(c.nonce));
    randombytes_buf(c.aad, sizeof(c.aad));
    c.plain = malloc(len + (len == 0));
    c.sealed = malloc(len + AES_GCM_TAG + 1);
    c.opened = malloc(len + 1);
    randombytes_buf(c.plain, len);
    c.sealed[len + AES_GCM_TAG] = c.opened[len] = GUARD;
    return c;
}

static void drop(struct case_of *c)
{
    free(c->plain);
    free(c->sealed);
    free(c->opened);
}

static void check_as_gnutls(const struct case_of *c)
{
    gnutls_aead_cipher_hd_t h;
    gnutls_datum_t key = {(unsigned char *)c->key, sizeof(c->key)};
    size_t size = c->len + AES_GCM_TAG;
    uint8_t *other = malloc(size);
    ck_assert_int_eq(
        gnutls_aead_cipher_init(&h, GNUTLS_CIPHER_AES_256_GCM, &key), 0);
    ck_assert_int_eq(gnutls_aead_cipher_encrypt(h, c->nonce, sizeof(c->nonce),
                                                c->aad, c->aad_len, AES_GCM_TAG,
                                                c->plain, c->len, other, &size),
                     0);
    ck_assert_uint_eq(size, c->len + AES_GCM_TAG);
    ck_assert_msg(memcmp(other, c->sealed, size) == 0, "%zu bytes, %zu beside",
                  c->len, c->aad_len);
    gnutls_aead_cipher_deinit(h);
    free(other);
}

/* LEN bytes sealed, opened, and with one bit changed not opened. */
static void check(size_t len, size_t aad_len)
{
    struct case_of c = make(len, aad_len);
    struct aes_gcm *g = aes_gcm_new(c.key);
    struct aes_gcm_message m = {c.nonce, c.aad, aad_len, c.plain, len};
    aes_gcm_seal(g, &m, c.sealed);
    ck_assert_uint_eq(c.sealed[len + AES_GCM_TAG], GUARD);
    check_as_gnutls(&c);
    m.in = c.sealed;
    ck_assert(aes_gcm_open(g, &m, c.opened));
    ck_assert_uint_eq(c.opened[len], GUARD);
    ck_assert(len == 0 || memcmp(c.opened, c.plain, len) == 0);
    size_t bit = randombytes_uniform((uint32_t)(len + AES_GCM_TAG) * 8);
    c.sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
    ck_assert(!aes_gcm_open(g, &m, c.opened));
    c.sealed[bit / 8] ^= (uint8_t)(1u << bit % 8);
    if (aad_len > 0) {
        c.aad[len % aad_len] ^= 1;
        ck_assert(!aes_gcm_open(g, &m, c.opened));
        c.aad[len % aad_len] ^= 1;
    }
    c.nonce[len % sizeof(c.nonce)] ^= 128;
    ck_assert(!aes_gcm_open(g, &m, c.opened));
    aes_gcm_free(g);
    drop(&c);
}

START_TEST(all_short_lengths)
{
    for (size_t len = 0; aes_gcm_available() && len <= 1100; len++) {
        check(len, len % (AES_GCM_AAD_MAX + 1));
        check(len, 4);
    }
}
END_TEST

START_TEST(long_lengths)
{
    for (int i = 0; aes_gcm_available() && i < 100; i++) {
        check(randombytes_uniform(LEN_MAX), 4);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("aes_gcm");
    TCase *t = tcase_create("aes_gcm");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, published_vectors, 0,
                        (int)(sizeof(published) / sizeof(published[0])));
    tcase_add_test(t, all_short_lengths);
    tcase_add_test(t, long_lengths);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    if (sodium_init() < 0) {
        return 1;
    }
    SRunner *r = srunner_create(suite());
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
