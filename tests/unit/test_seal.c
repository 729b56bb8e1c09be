/*
 * The sealed transport against an attacker who holds the wire: every byte
 * flipped, repeated, dropped, cut off, turned round.
 */
#include <config.h> /* _GNU_SOURCE: memmem */

#include "common/seal.h"

#include <check.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

/* Two sides and the bytes on their way. */
struct pair {
    struct seal *c, *s;
    struct buf to_s, to_c;       /* on the wire */
    struct buf plain_c, plain_s; /* what each side has read */
    enum status status_c, status_s;
};

static struct seal *side(enum seal_side which, uint8_t key, uint8_t seed,
                         uint8_t ciphers, struct buf *out)
{
    struct seal_options o = {.side = which, .ciphers = ciphers};
    memset(o.key.b, key, sizeof(o.key.b));
    for (size_t i = 0; i < sizeof(o.seed); i++) {
        o.seed[i] = (uint8_t)(i * 7 + seed);
    }
    return seal_new(&o, out);
}

static void pair_init(struct pair *p, uint8_t ciphers)
{
    *p = (struct pair){0};
    p->c = side(SEAL_CONNECTS, 1, 10, ciphers, &p->to_s);
    p->s = side(SEAL_ACCEPTS, 1, 99, ciphers, &p->to_c);
}

static void pair_fini(struct pair *p)
{
    seal_free(p->c);
    seal_free(p->s);
    buf_free(&p->to_s);
    buf_free(&p->to_c);
    buf_free(&p->plain_c);
    buf_free(&p->plain_s);
}

/* Carries all that is on the wire, in pieces of STEP bytes. */
static void carry(struct seal *to, struct buf *wire, struct buf *plain,
                  struct buf *back, size_t step, enum status *status)
{
    size_t at = 0;
    while (at < wire->len && *status == ST_OK) {
        size_t n = wire->len - at < step ? wire->len - at : step;
        /* A copy of its own, so that sanitizers see reads past the end. */
        uint8_t *piece = malloc(n);
        memcpy(piece, wire->data + at, n);
        *status = seal_receive(to, slice_make(piece, n), plain, back);
        free(piece);
        at += n;
    }
    buf_clear(wire);
}

static void shake(struct pair *p, size_t step)
{
    for (int i = 0; i < 2; i++) {
        carry(p->s, &p->to_s, &p->plain_s, &p->to_c, step, &p->status_s);
        carry(p->c, &p->to_c, &p->plain_c, &p->to_s, step, &p->status_c);
    }
}

static void pair_open(struct pair *p, uint8_t ciphers)
{
    pair_init(p, ciphers);
    shake(p, SIZE_MAX);
    ck_assert(seal_ready(p->c) && seal_ready(p->s));
}

static const uint8_t cipher_sets[] = {0, SEAL_AES256GCM, SEAL_CHACHA20};

/* A machine without AES instructions skips that half. */
static bool offered(uint8_t ciphers)
{
    ck_assert_int_ge(sodium_init(), 0);
    return ciphers != SEAL_AES256GCM || crypto_aead_aes256gcm_is_available();
}

START_TEST(round_trips)
{
    static const size_t sizes[] = {1,
                                   2,
                                   100,
                                   SEAL_PLAIN_MAX - 1,
                                   SEAL_PLAIN_MAX,
                                   SEAL_PLAIN_MAX + 1,
                                   LIMIT_SEALED,
                                   300000};
    static const size_t steps[] = {1, 3, 4, 5, 1000, 65536, SIZE_MAX};
    if (!offered(cipher_sets[_i])) {
        return;
    }
    uint8_t *data = malloc(300000);
    randombytes_buf(data, 300000);
    for (size_t k = 0; k < sizeof(steps) / sizeof(steps[0]); k++) {
        struct pair p;
        pair_init(&p, cipher_sets[_i]);
        shake(&p, steps[k]);
        ck_assert(seal_ready(p.c) && seal_ready(p.s));
        ck_assert_uint_eq(seal_cipher(p.c), seal_cipher(p.s));
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            struct slice s = slice_make(data, sizes[i]);
            seal_send(p.c, s, &p.to_s);
            seal_send(p.s, s, &p.to_c);
            ck_assert_uint_eq(p.to_s.len, seal_size(sizes[i]));
            ck_assert_ptr_null(memmem(p.to_s.data, p.to_s.len, data,
                                      sizes[i] < 8 ? 300000 : 8));
            shake(&p, steps[k]);
            ck_assert_int_eq(p.status_c, ST_OK);
            ck_assert_int_eq(p.status_s, ST_OK);
            ck_assert(slice_equal(buf_slice(&p.plain_s), s));
            ck_assert(slice_equal(buf_slice(&p.plain_c), s));
            buf_clear(&p.plain_s);
            buf_clear(&p.plain_c);
        }
        pair_fini(&p);
    }
    free(data);
}
END_TEST

START_TEST(cipher_is_the_best_of_both)
{
    static const struct {
        uint8_t c, s, want;
    } rows[] = {
        {SEAL_AES256GCM | SEAL_CHACHA20, SEAL_CHACHA20, SEAL_CHACHA20},
        {SEAL_CHACHA20, SEAL_AES256GCM | SEAL_CHACHA20, SEAL_CHACHA20},
        {SEAL_AES256GCM | SEAL_CHACHA20, SEAL_AES256GCM | SEAL_CHACHA20,
         SEAL_AES256GCM},
        {SEAL_AES256GCM, SEAL_CHACHA20, 0},
    };
    if (!offered(SEAL_AES256GCM)) {
        return;
    }
    struct pair p = {0};
    p.c = side(SEAL_CONNECTS, 1, 10, rows[_i].c, &p.to_s);
    p.s = side(SEAL_ACCEPTS, 1, 99, rows[_i].s, &p.to_c);
    shake(&p, SIZE_MAX);
    ck_assert_uint_eq(seal_ready(p.s), rows[_i].want != 0);
    if (rows[_i].want != 0) {
        ck_assert_uint_eq(seal_cipher(p.c), rows[_i].want);
        ck_assert_uint_eq(seal_cipher(p.s), rows[_i].want);
    } else {
        ck_assert_int_eq(p.status_s, ST_UNSUPPORTED);
    }
    pair_fini(&p);
}
END_TEST

/* An attacker changes one bit of one handshake message (0, 1, 2): neither
 * side may take the other for authenticated with it, no plaintext flows. */
START_TEST(flipped_handshake)
{
    static const size_t lengths[] = {SEAL_OPENING, SEAL_OPENING, SEAL_PROOF};
    for (size_t bit = 0; bit < lengths[_i] * 8; bit++) {
        struct pair p;
        pair_init(&p, 0);
        for (int round = 0; round < 3; round++) {
            bool to_s = round != 1;
            struct buf *wire = to_s ? &p.to_s : &p.to_c;
            if (round == _i) {
                ck_assert_uint_eq(wire->len, lengths[_i]);
                wire->data[bit / 8] ^= (uint8_t)(1 << bit % 8);
            }
            if (to_s) {
                carry(p.s, wire, &p.plain_s, &p.to_c, SIZE_MAX, &p.status_s);
            } else {
                carry(p.c, wire, &p.plain_c, &p.to_s, SIZE_MAX, &p.status_c);
            }
        }
        enum status st = _i == 1 ? p.status_c : p.status_s;
        ck_assert(st == ST_UNAUTHENTICATED || st == ST_VERSION);
        ck_assert(!seal_ready(p.s));
        ck_assert(_i == 2 || !seal_ready(p.c));
        if (_i == 0) {
            ck_assert_uint_eq(p.to_c.len, 0); /* S has said nothing */
        }
        pair_fini(&p);
    }
}
END_TEST

START_TEST(handshake_cut_short)
{
    for (size_t cut = 0; cut < SEAL_OPENING; cut++) {
        struct pair p;
        pair_init(&p, 0);
        p.to_s.len = cut;
        carry(p.s, &p.to_s, &p.plain_s, &p.to_c, SIZE_MAX, &p.status_s);
        ck_assert_int_eq(p.status_s, ST_OK);
        ck_assert(!seal_ready(p.s));
        ck_assert_uint_eq(p.to_c.len, 0);
        pair_fini(&p);
    }
    for (size_t cut = 0; cut < SEAL_PROOF; cut++) {
        struct pair p;
        pair_init(&p, 0);
        carry(p.s, &p.to_s, &p.plain_s, &p.to_c, SIZE_MAX, &p.status_s);
        carry(p.c, &p.to_c, &p.plain_c, &p.to_s, SIZE_MAX, &p.status_c);
        p.to_s.len = cut;
        carry(p.s, &p.to_s, &p.plain_s, &p.to_c, SIZE_MAX, &p.status_s);
        ck_assert(!seal_ready(p.s));
        pair_fini(&p);
    }
}
END_TEST

/* A downgrade that is consistent on both sides of the wire: C's offer is cut
 * to ChaCha20 on its way. */
START_TEST(downgrade)
{
    struct pair p;
    if (!offered(SEAL_AES256GCM)) {
        return;
    }
    pair_init(&p, 0);
    p.to_s.data[6] = SEAL_CHACHA20;
    carry(p.s, &p.to_s, &p.plain_s, &p.to_c, SIZE_MAX, &p.status_s);
    ck_assert_int_eq(p.status_s, ST_UNAUTHENTICATED);
    pair_fini(&p);
    /* S's offer and choice, changed together. */
    pair_init(&p, 0);
    carry(p.s, &p.to_s, &p.plain_s, &p.to_c, SIZE_MAX, &p.status_s);
    p.to_c.data[6] = SEAL_CHACHA20;
    p.to_c.data[7] = SEAL_CHACHA20;
    carry(p.c, &p.to_c, &p.plain_c, &p.to_s, SIZE_MAX, &p.status_c);
    ck_assert_int_eq(p.status_c, ST_UNAUTHENTICATED);
    pair_fini(&p);
}
END_TEST

START_TEST(other_key)
{
    struct pair p = {0};
    p.c = side(SEAL_CONNECTS, 1, 10, 0, &p.to_s);
    p.s = side(SEAL_ACCEPTS, 2, 99, 0, &p.to_c);
    shake(&p, SIZE_MAX);
    ck_assert_int_eq(p.status_s, ST_UNAUTHENTICATED);
    ck_assert(!seal_ready(p.c));
    pair_fini(&p);
}
END_TEST

/* A whole recorded session is played to a new S: its nonce is another. */
START_TEST(replayed_session)
{
    struct pair p;
    struct buf recorded = {0}, plain = {0}, out = {0};
    pair_init(&p, 0);
    buf_put_slice(&recorded, buf_slice(&p.to_s));
    carry(p.s, &p.to_s, &p.plain_s, &p.to_c, SIZE_MAX, &p.status_s);
    carry(p.c, &p.to_c, &p.plain_c, &p.to_s, SIZE_MAX, &p.status_c);
    seal_send(p.c, slice_of("pay ten"), &p.to_s);
    buf_put_slice(&recorded, buf_slice(&p.to_s));
    struct seal *fresh = side(SEAL_ACCEPTS, 1, 200, 0, NULL);
    ck_assert_int_eq(seal_receive(fresh, buf_slice(&recorded), &plain, &out),
                     ST_UNAUTHENTICATED);
    ck_assert_uint_eq(plain.len, 0);
    /* Dead stays dead, with good bytes too. */
    ck_assert_int_eq(seal_receive(fresh, slice_of("x"), &plain, &out),
                     ST_UNAUTHENTICATED);
    seal_free(fresh);
    buf_free(&recorded);
    buf_free(&out);
    buf_free(&plain);
    pair_fini(&p);
}
END_TEST

/* What C says comes back to C: as opening, and as record. */
START_TEST(reflection)
{
    struct pair p;
    struct buf out = {0};
    pair_init(&p, 0);
    ck_assert_int_eq(seal_receive(p.c, buf_slice(&p.to_s), &p.plain_c, &out),
                     ST_UNAUTHENTICATED);
    pair_fini(&p);
    pair_open(&p, 0);
    seal_send(p.c, slice_of("hello"), &p.to_s);
    ck_assert_int_eq(seal_receive(p.c, buf_slice(&p.to_s), &p.plain_c, &out),
                     ST_INVALID);
    ck_assert_uint_eq(p.plain_c.len, 0);
    pair_fini(&p);
    /* Both sides at number 0: S's first record, turned round to S. */
    pair_open(&p, 0);
    seal_send(p.s, slice_of("hello"), &p.to_c);
    ck_assert_int_eq(seal_receive(p.s, buf_slice(&p.to_c), &p.plain_s, &out),
                     ST_INVALID);
    pair_fini(&p);
    buf_free(&out);
}
END_TEST

START_TEST(flipped_record)
{
    struct pair p;
    if (!offered(cipher_sets[_i])) {
        return;
    }
    size_t len = SEAL_HEAD + 50 + SEAL_TAG;
    for (size_t bit = 0; bit < len * 8; bit++) {
        uint8_t data[50] = "some words";
        pair_open(&p, cipher_sets[_i]);
        seal_send(p.c, slice_make(data, sizeof(data)), &p.to_s);
        /* More follows, so that a length made larger is filled too. */
        for (int i = 0; i < 40; i++) {
            seal_send(p.c, slice_make(data, sizeof(data)), &p.to_s);
        }
        p.to_s.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        carry(p.s, &p.to_s, &p.plain_s, &p.to_c, SIZE_MAX, &p.status_s);
        ck_assert_uint_eq(p.plain_s.len, 0);
        /* A length of 8 KiB more waits for that much; nothing comes out. */
        if (bit < 12 || bit >= 16) {
            ck_assert_int_eq(p.status_s, ST_INVALID);
        }
        pair_fini(&p);
    }
}
END_TEST

START_TEST(cut_record)
{
    struct pair p;
    uint8_t data[50] = "some words";
    for (size_t cut = 0; cut < SEAL_HEAD + 50 + SEAL_TAG; cut++) {
        pair_open(&p, 0);
        seal_send(p.c, slice_make(data, sizeof(data)), &p.to_s);
        p.to_s.len = cut;
        carry(p.s, &p.to_s, &p.plain_s, &p.to_c, SIZE_MAX, &p.status_s);
        ck_assert_uint_eq(p.plain_s.len, 0);
        ck_assert_int_eq(p.status_s, ST_OK);
        pair_fini(&p);
    }
}
END_TEST

/* Records repeated, left out, exchanged. */
START_TEST(records_out_of_order)
{
    static const uint8_t orders[][3] = {{0, 0, 1}, {0, 2, 1}, {1, 0, 2},
                                        {2, 0, 1}, {0, 1, 1}, {0, 1, 0}};
    struct pair p;
    struct buf records[3] = {{0}}, wire = {0};
    pair_open(&p, 0);
    for (uint8_t i = 0; i < 3; i++) {
        seal_send(p.c, slice_make(&i, 1), &records[i]);
    }
    for (int i = 0; i < 3; i++) {
        buf_put_slice(&wire, buf_slice(&records[orders[_i][i]]));
    }
    carry(p.s, &wire, &p.plain_s, &p.to_c, SIZE_MAX, &p.status_s);
    ck_assert_int_eq(p.status_s, ST_INVALID);
    /* Only the beginning that was in order has been heard. */
    for (size_t i = 0; i < p.plain_s.len; i++) {
        ck_assert_uint_eq(p.plain_s.data[i], i);
    }
    ck_assert_uint_lt(p.plain_s.len, 3);
    for (int i = 0; i < 3; i++) {
        buf_free(&records[i]);
    }
    buf_free(&wire);
    pair_fini(&p);
}
END_TEST

START_TEST(lengths_out_of_range)
{
    static const uint32_t lengths[] = {
        0, 1, SEAL_TAG, LIMIT_SEALED - SEAL_HEAD + 1, UINT32_MAX};
    struct pair p;
    uint8_t head[4];
    pair_open(&p, 0);
    for (int i = 0; i < 4; i++) {
        head[i] = (uint8_t)(lengths[_i] >> (8 * i));
    }
    ck_assert_int_eq(
        seal_receive(p.s, slice_make(head, sizeof(head)), &p.plain_s, &p.to_c),
        ST_INVALID);
    pair_fini(&p);
}
END_TEST

/* Keys are replaced; both sides stay in step, the old key opens nothing. */
START_TEST(rekeying)
{
    struct pair p;
    if (!offered(cipher_sets[_i])) {
        return;
    }
    struct buf first = {0};
    pair_open(&p, cipher_sets[_i]);
    for (uint32_t i = 0; i < SEAL_REKEY_RECORDS * 2 + 10; i++) {
        seal_send(p.c, slice_make(&i, sizeof(i)), &p.to_s);
        if (i == 0) {
            buf_put_slice(&first, buf_slice(&p.to_s));
        }
        carry(p.s, &p.to_s, &p.plain_s, &p.to_c, SIZE_MAX, &p.status_s);
        ck_assert_int_eq(p.status_s, ST_OK);
        ck_assert_mem_eq(p.plain_s.data, &i, sizeof(i));
        buf_clear(&p.plain_s);
    }
    pair_fini(&p);
    /* Numbers begin anew with the new key: the old first record must not fit
     * where the new first one belongs. */
    pair_open(&p, cipher_sets[_i]);
    for (uint32_t i = 0; i < SEAL_REKEY_RECORDS; i++) {
        seal_send(p.c, slice_make(&i, sizeof(i)), &p.to_s);
        carry(p.s, &p.to_s, &p.plain_s, &p.to_c, SIZE_MAX, &p.status_s);
    }
    ck_assert_int_eq(seal_receive(p.s, buf_slice(&first), &p.plain_s, &p.to_c),
                     ST_INVALID);
    buf_free(&first);
    pair_fini(&p);
}
END_TEST

/* A public key of small order would make the secret known to anyone; only a
 * holder of the cluster's key could send one, but it is refused as well. */
START_TEST(weak_public_key)
{
    struct pair p;
    uint8_t key[KEY_BYTES];
    pair_init(&p, 0);
    memset(p.to_s.data + 8, 0, 32);
    memset(key, 1, sizeof(key));
    crypto_generichash_state h;
    static const char label[] = "PennCloud seal 1 opening";
    crypto_generichash_init(&h, key, sizeof(key), 32);
    crypto_generichash_update(&h, (const uint8_t *)label, strlen(label));
    crypto_generichash_update(&h, p.to_s.data, 72);
    crypto_generichash_final(&h, p.to_s.data + 72, 32);
    carry(p.s, &p.to_s, &p.plain_s, &p.to_c, SIZE_MAX, &p.status_s);
    ck_assert_int_eq(p.status_s, ST_UNAUTHENTICATED);
    ck_assert_uint_eq(p.to_c.len, 0);
    pair_fini(&p);
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

int main(void)
{
    Suite *s = suite_create("seal");
    TCase *t = tcase_create("seal");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, round_trips, 0, COUNT(cipher_sets));
    tcase_add_loop_test(t, cipher_is_the_best_of_both, 0, 4);
    tcase_add_loop_test(t, flipped_handshake, 0, 3);
    tcase_add_test(t, handshake_cut_short);
    tcase_add_test(t, downgrade);
    tcase_add_test(t, other_key);
    tcase_add_test(t, replayed_session);
    tcase_add_test(t, reflection);
    tcase_add_loop_test(t, flipped_record, 0, COUNT(cipher_sets));
    tcase_add_test(t, cut_record);
    tcase_add_loop_test(t, records_out_of_order, 0, 6);
    tcase_add_loop_test(t, lengths_out_of_range, 0, 5);
    tcase_add_loop_test(t, rekeying, 0, COUNT(cipher_sets));
    tcase_add_test(t, weak_public_key);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
