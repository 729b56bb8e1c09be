/*
 * The sealed transport: who does not hold the cluster's key gets no word in
 * and no word out, and who records or changes what is sent gains nothing.
 *
 * Handshake, C connects, S accepts:
 *
 *   C -> S  opening: head, ephemeral X25519 key, nonce,
 *           BLAKE2b(cluster key; label, all before)
 *   S -> C  opening: head, ephemeral key, nonce, proof S
 *   C -> S  proof C
 *
 *   head: u8[4] "PENS", u8 version, u8 kind (1 by C, 2 by S),
 *         u8 ciphers offered, u8 cipher chosen (S; C: 0)
 *   master = BLAKE2b(cluster key; label, X25519(...), C's opening, S's
 *            opening up to its proof)
 *   proof S, proof C, key C->S, key S->C = BLAKE2b subkeys of master
 *
 * C's first message already shows the key: a stranger is dropped before S
 * computes anything for it, and hears nothing. One that replays a recorded
 * opening gets S's opening, which says nothing, and fails at proof C: each
 * side's proof covers the other's fresh nonce and ephemeral key. Both cipher
 * offers and the choice are under both proofs, and C checks that the best
 * common cipher was chosen: taking one away is found out. Ephemeral keys are
 * wiped, so a key file stolen later opens nothing that was recorded.
 *
 * Then each direction is a row of records: u32 length of what follows, which
 * is the ciphertext and a 16-byte tag. The nonce is the record's number in its
 * direction, the head is authenticated with it: a record that was flipped,
 * repeated, dropped, moved, sent back or taken from the other direction does
 * not open, and the connection ends. A record cut short never opens. After
 * SEAL_REKEY_RECORDS a direction's key is replaced by a hash of itself, which
 * keeps AES-GCM far below its bounds on connections that live for months.
 *
 * Where the processor has instructions for AES, GnuTLS seals the records, for
 * its AES-GCM is more than twice as fast as libsodium's, which does the rest.
 */
#include "common/seal.h"

#include <assert.h>
#include <gnutls/crypto.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

enum seal_state {
    SEAL_WANTS_OPENING,
    SEAL_WANTS_PROOF,
    SEAL_OPEN,
    SEAL_DEAD,
    SEAL_STATES
};

static const bool moves[SEAL_STATES][SEAL_STATES] = {
    [SEAL_WANTS_OPENING] =
        {[SEAL_WANTS_PROOF] = true, [SEAL_OPEN] = true, [SEAL_DEAD] = true},
    [SEAL_WANTS_PROOF] = {[SEAL_OPEN] = true, [SEAL_DEAD] = true},
    [SEAL_OPEN] = {[SEAL_DEAD] = true},
};

#define VERSION 1
#define HEAD_LEN 8u
#define AT_VERSION 4u
#define AT_KIND 5u
#define AT_OFFER 6u
#define AT_CHOICE 7u
#define AT_PUBLIC 8u
#define AT_NONCE 40u
#define AT_PROOF 72u

static const uint8_t magic[4] = {'P', 'E', 'N', 'S'};
static const char label_opening[] = "PennCloud seal 1 opening";
static const char label_master[] = "PennCloud seal 1 master";
static const char label_rekey[] = "PennCloud seal 1 rekey";

enum subkey { SUBKEY_C_TO_S, SUBKEY_S_TO_C, SUBKEY_PROOF_S, SUBKEY_PROOF_C };

_Static_assert(AT_PROOF + SEAL_PROOF == SEAL_OPENING, "an opening's layout");
_Static_assert(KEY_BYTES == crypto_aead_aes256gcm_KEYBYTES &&
                   KEY_BYTES == crypto_aead_chacha20poly1305_ietf_KEYBYTES &&
                   KEY_BYTES == crypto_scalarmult_BYTES &&
                   KEY_BYTES == crypto_scalarmult_SCALARBYTES &&
                   KEY_BYTES == crypto_kdf_KEYBYTES,
               "one key size everywhere");
_Static_assert(SEAL_TAG == crypto_aead_aes256gcm_ABYTES &&
                   SEAL_TAG == crypto_aead_chacha20poly1305_ietf_ABYTES,
               "one tag size");
_Static_assert(crypto_aead_aes256gcm_NPUBBYTES == 12 &&
                   crypto_aead_chacha20poly1305_ietf_NPUBBYTES == 12,
               "one nonce size");

/* One direction's records. */
struct direction {
    gnutls_aead_cipher_hd_t aes; /* holds the key, too; NULL: not AES */
    uint8_t key[KEY_BYTES];
    uint64_t count; /* records so far under this key */
};

struct seal {
    struct direction to_peer, from_peer;
    enum seal_state state;
    enum status why; /* of SEAL_DEAD */
    enum seal_side side;
    uint8_t offer, cipher;
    struct cluster_key key;
    uint8_t secret[KEY_BYTES];
    uint8_t nonce[KEY_BYTES];
    uint8_t opening[SEAL_OPENING];    /* C's, for the transcript */
    uint8_t proof_wanted[SEAL_PROOF]; /* by S, of C */
    struct buf held;                  /* a piece received, not yet whole */
};

static void move(struct seal *s, enum seal_state to)
{
    assert(moves[s->state][to]);
    s->state = to;
}

/* ---- keys ---- */

static void hash(const uint8_t key[KEY_BYTES], const char *label,
                 const struct slice parts[], uint8_t out[KEY_BYTES])
{
    crypto_generichash_state h;
    (void)crypto_generichash_init(&h, key, KEY_BYTES, KEY_BYTES);
    (void)crypto_generichash_update(&h, (const uint8_t *)label, strlen(label));
    for (; parts->data != NULL; parts++) {
        (void)crypto_generichash_update(&h, parts->data, parts->len);
    }
    (void)crypto_generichash_final(&h, out, KEY_BYTES);
    sodium_memzero(&h, sizeof(h));
}

static void direction_end(struct direction *d)
{
    if (d->aes != NULL) {
        gnutls_aead_cipher_deinit(d->aes); /* wipes what it held */
        d->aes = NULL;
    }
}

static void direction_start(struct direction *d, uint8_t cipher)
{
    d->count = 0;
    direction_end(d);
    if (cipher == SEAL_AES256GCM) {
        gnutls_datum_t key = {d->key, sizeof(d->key)};
        int r =
            gnutls_aead_cipher_init(&d->aes, GNUTLS_CIPHER_AES_256_GCM, &key);
        assert(r == 0); /* there is memory, and such a cipher */
    }
}

static void direction_step(struct direction *d, uint8_t cipher)
{
    d->count++;
    if (d->count == SEAL_REKEY_RECORDS) {
        uint8_t next[KEY_BYTES];
        struct slice none = {NULL, 0};
        hash(d->key, label_rekey, &none, next);
        memcpy(d->key, next, sizeof(next));
        sodium_memzero(next, sizeof(next));
        direction_start(d, cipher);
    }
}

static void direction_nonce(const struct direction *d, uint8_t out[12])
{
    memset(out, 0, 12);
    for (size_t i = 0; i < 8; i++) {
        out[i] = (uint8_t)(d->count >> (8 * i));
    }
}

static void subkey(const uint8_t master[KEY_BYTES], enum subkey which,
                   uint8_t out[KEY_BYTES])
{
    (void)crypto_kdf_derive_from_key(out, KEY_BYTES, which, "PENSEAL1", master);
}

/* Derives both directions' keys and both proofs. False if the peer's
 * ephemeral key is one of the few that give a known secret. */
static bool derive(struct seal *s, const uint8_t peer_public[KEY_BYTES],
                   const uint8_t second[AT_PROOF], uint8_t proof_s[SEAL_PROOF],
                   uint8_t proof_c[SEAL_PROOF])
{
    uint8_t shared[KEY_BYTES], master[KEY_BYTES];
    if (crypto_scalarmult(shared, s->secret, peer_public) != 0) {
        return false;
    }
    struct slice parts[] = {slice_make(shared, sizeof(shared)),
                            slice_make(s->opening, SEAL_OPENING),
                            slice_make(second, AT_PROOF),
                            {NULL, 0}};
    hash(s->key.b, label_master, parts, master);
    bool connects = s->side == SEAL_CONNECTS;
    struct direction *c_to_s = connects ? &s->to_peer : &s->from_peer;
    struct direction *s_to_c = connects ? &s->from_peer : &s->to_peer;
    subkey(master, SUBKEY_C_TO_S, c_to_s->key);
    subkey(master, SUBKEY_S_TO_C, s_to_c->key);
    subkey(master, SUBKEY_PROOF_S, proof_s);
    subkey(master, SUBKEY_PROOF_C, proof_c);
    direction_start(c_to_s, s->cipher);
    direction_start(s_to_c, s->cipher);
    sodium_memzero(shared, sizeof(shared));
    sodium_memzero(master, sizeof(master));
    sodium_memzero(s->secret, sizeof(s->secret));
    key_wipe(&s->key);
    return true;
}

/* ---- openings ---- */

static uint8_t best_of(uint8_t ciphers)
{
    if ((ciphers & SEAL_AES256GCM) != 0) {
        return SEAL_AES256GCM;
    }
    return (ciphers & SEAL_CHACHA20) != 0 ? SEAL_CHACHA20 : 0;
}

static uint8_t kind_of(enum seal_side side)
{
    return side == SEAL_CONNECTS ? 1 : 2;
}

/* Fills all of an opening but its proof. */
static void make_opening(const struct seal *s, uint8_t out[SEAL_OPENING])
{
    memset(out, 0, SEAL_OPENING);
    memcpy(out, magic, sizeof(magic));
    out[AT_VERSION] = VERSION;
    out[AT_KIND] = kind_of(s->side);
    out[AT_OFFER] = s->offer;
    out[AT_CHOICE] = s->side == SEAL_CONNECTS ? 0 : s->cipher;
    (void)crypto_scalarmult_base(out + AT_PUBLIC, s->secret);
    memcpy(out + AT_NONCE, s->nonce, sizeof(s->nonce));
}

static void prove_first(const struct seal *s, const uint8_t *opening,
                        uint8_t proof[SEAL_PROOF])
{
    struct slice parts[] = {slice_make(opening, AT_PROOF), {NULL, 0}};
    hash(s->key.b, label_opening, parts, proof);
}

struct seal *seal_new(const struct seal_options *o, struct buf *out)
{
    int r = sodium_init();
    assert(r >= 0);
    struct seal *s = xcalloc(1, sizeof(*s));
    s->side = o->side;
    s->key = o->key;
    memcpy(s->secret, o->seed, sizeof(s->secret));
    memcpy(s->nonce, o->seed + sizeof(s->secret), sizeof(s->nonce));
    s->offer = SEAL_CHACHA20;
    if (crypto_aead_aes256gcm_is_available() == 1) {
        s->offer |= SEAL_AES256GCM;
    }
    if (o->ciphers != 0) {
        s->offer &= o->ciphers;
    }
    if (s->side == SEAL_CONNECTS) {
        make_opening(s, s->opening);
        prove_first(s, s->opening, s->opening + AT_PROOF);
        buf_put(out, s->opening, SEAL_OPENING);
    }
    return s;
}

void seal_free(struct seal *s)
{
    if (s == NULL) {
        return;
    }
    direction_end(&s->to_peer);
    direction_end(&s->from_peer);
    buf_free(&s->held);
    sodium_memzero(s, sizeof(*s));
    free(s);
}

/* The bytes that tell a stranger by his first word, as many as there are. */
static enum status check_head(const struct seal *s, struct slice head)
{
    uint8_t kind =
        kind_of(s->side == SEAL_CONNECTS ? SEAL_ACCEPTS : SEAL_CONNECTS);
    size_t n = head.len < sizeof(magic) ? head.len : sizeof(magic);
    if (n > 0 && memcmp(head.data, magic, n) != 0) {
        return ST_UNAUTHENTICATED;
    }
    if (head.len > AT_VERSION && head.data[AT_VERSION] != VERSION) {
        return ST_VERSION;
    }
    if (head.len > AT_KIND && head.data[AT_KIND] != kind) {
        return ST_UNAUTHENTICATED;
    }
    return ST_OK;
}

/* S meets C's opening. */
static enum status meet_first(struct seal *s, const uint8_t *got,
                              struct buf *out)
{
    uint8_t proof[SEAL_PROOF], answer[SEAL_OPENING];
    prove_first(s, got, proof);
    if (sodium_memcmp(proof, got + AT_PROOF, sizeof(proof)) != 0) {
        return ST_UNAUTHENTICATED;
    }
    s->cipher = best_of(s->offer & got[AT_OFFER]);
    if (s->cipher == 0) {
        return ST_UNSUPPORTED;
    }
    memcpy(s->opening, got, SEAL_OPENING);
    make_opening(s, answer);
    if (!derive(s, got + AT_PUBLIC, answer, answer + AT_PROOF,
                s->proof_wanted)) {
        return ST_UNAUTHENTICATED;
    }
    buf_put(out, answer, sizeof(answer));
    move(s, SEAL_WANTS_PROOF);
    return ST_OK;
}

/* C meets S's opening. */
static enum status meet_second(struct seal *s, const uint8_t *got,
                               struct buf *out)
{
    uint8_t proof_s[SEAL_PROOF], proof_c[SEAL_PROOF];
    s->cipher = best_of(s->offer & got[AT_OFFER]);
    if (s->cipher == 0 || s->cipher != got[AT_CHOICE] ||
        !derive(s, got + AT_PUBLIC, got, proof_s, proof_c) ||
        sodium_memcmp(proof_s, got + AT_PROOF, SEAL_PROOF) != 0) {
        return ST_UNAUTHENTICATED;
    }
    buf_put(out, proof_c, sizeof(proof_c));
    move(s, SEAL_OPEN);
    return ST_OK;
}

static enum status meet_proof(struct seal *s, const uint8_t *got)
{
    if (sodium_memcmp(got, s->proof_wanted, SEAL_PROOF) != 0) {
        return ST_UNAUTHENTICATED;
    }
    move(s, SEAL_OPEN);
    return ST_OK;
}

/* ---- pieces ---- */

/* Finds WANT bytes in one place: in IN itself where nothing is held, else in
 * what is held, filled up from IN. False: too few yet, all of IN is held. */
static bool gather(struct seal *s, struct slice *in, size_t want,
                   const uint8_t **got)
{
    if (s->held.len == 0 && in->len >= want) {
        *got = in->data;
        return true;
    }
    if (s->held.len < want) {
        size_t lack = want - s->held.len;
        size_t n = in->len < lack ? in->len : lack;
        buf_put(&s->held, in->data, n);
        *in = slice_make(n == 0 ? in->data : in->data + n, in->len - n);
    }
    *got = s->held.data;
    return s->held.len >= want;
}

/* Drops the WANT bytes that gather() found. */
static void gathered(struct seal *s, struct slice *in, size_t want)
{
    if (s->held.len == 0) {
        *in = slice_make(in->data + want, in->len - want);
        return;
    }
    assert(s->held.len == want);
    if (s->held.cap > KIB(4)) {
        buf_free(&s->held); /* thousands of idle connections hold nothing */
    } else {
        buf_clear(&s->held);
    }
}

/* One message of the handshake; *DONE false: more bytes are needed. */
static enum status shake(struct seal *s, struct slice *in, struct buf *out,
                         bool *done)
{
    const uint8_t *got;
    bool opening = s->state == SEAL_WANTS_OPENING;
    size_t want = opening ? SEAL_OPENING : SEAL_PROOF;
    *done = gather(s, in, want, &got);
    if (opening) {
        size_t n = *done ? want : s->held.len;
        enum status st =
            check_head(s, slice_make(got, n < HEAD_LEN ? n : HEAD_LEN));
        if (st != ST_OK || !*done) {
            return st;
        }
    } else if (!*done) {
        return ST_OK;
    }
    enum status st = !opening                   ? meet_proof(s, got)
                     : s->side == SEAL_CONNECTS ? meet_second(s, got, out)
                                                : meet_first(s, got, out);
    if (st == ST_OK) {
        gathered(s, in, want);
    }
    return st;
}

/* ---- records ---- */

static size_t load_length(const uint8_t head[SEAL_HEAD])
{
    return (size_t)head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 |
           (size_t)head[3] << 24;
}

/* Opens a whole record of LEN bytes behind its head. */
static enum status open_record(struct seal *s, const uint8_t *record,
                               size_t len, struct buf *plain)
{
    struct direction *d = &s->from_peer;
    uint8_t nonce[12];
    uint8_t *to = buf_reserve(plain, len - SEAL_TAG);
    if (to == NULL) {
        return ST_TOO_LARGE;
    }
    const uint8_t *body = record + SEAL_HEAD;
    int r;
    direction_nonce(d, nonce);
    if (s->cipher == SEAL_AES256GCM) {
        size_t got = len - SEAL_TAG;
        r = gnutls_aead_cipher_decrypt(d->aes, nonce, sizeof(nonce), record,
                                       SEAL_HEAD, SEAL_TAG, body, len, to,
                                       &got);
    } else {
        r = crypto_aead_chacha20poly1305_ietf_decrypt(
            to, NULL, NULL, body, len, record, SEAL_HEAD, nonce, d->key);
    }
    if (r != 0) {
        return ST_INVALID;
    }
    plain->len += len - SEAL_TAG;
    direction_step(d, s->cipher);
    return ST_OK;
}

static enum status receive_record(struct seal *s, struct slice *in,
                                  struct buf *plain, bool *done)
{
    const uint8_t *got;
    *done = gather(s, in, SEAL_HEAD, &got);
    if (!*done) {
        return ST_OK;
    }
    size_t len = load_length(got);
    if (len <= SEAL_TAG || len > LIMIT_SEALED - SEAL_HEAD) {
        return ST_INVALID;
    }
    *done = gather(s, in, SEAL_HEAD + len, &got);
    if (!*done) {
        return ST_OK;
    }
    enum status st = open_record(s, got, len, plain);
    if (st == ST_OK) {
        gathered(s, in, SEAL_HEAD + len);
    }
    return st;
}

enum status seal_receive(struct seal *s, struct slice in, struct buf *plain,
                         struct buf *out)
{
    if (s->state == SEAL_DEAD) {
        return s->why;
    }
    bool more = in.len > 0;
    while (more && in.len > 0) {
        enum status st = s->state == SEAL_OPEN
                             ? receive_record(s, &in, plain, &more)
                             : shake(s, &in, out, &more);
        if (st != ST_OK) {
            s->why = st;
            move(s, SEAL_DEAD);
            return st;
        }
    }
    return ST_OK;
}

bool seal_ready(const struct seal *s)
{
    return s->state == SEAL_OPEN;
}

uint8_t seal_cipher(const struct seal *s)
{
    return s->cipher;
}

static void send_record(struct seal *s, struct slice plain, uint8_t *to)
{
    struct direction *d = &s->to_peer;
    uint8_t nonce[12];
    size_t len = plain.len + SEAL_TAG;
    for (size_t i = 0; i < SEAL_HEAD; i++) {
        to[i] = (uint8_t)(len >> (8 * i));
    }
    direction_nonce(d, nonce);
    if (s->cipher == SEAL_AES256GCM) {
        int r = gnutls_aead_cipher_encrypt(d->aes, nonce, sizeof(nonce), to,
                                           SEAL_HEAD, SEAL_TAG, plain.data,
                                           plain.len, to + SEAL_HEAD, &len);
        assert(r == 0 && len == plain.len + SEAL_TAG);
    } else {
        (void)crypto_aead_chacha20poly1305_ietf_encrypt(
            to + SEAL_HEAD, NULL, plain.data, plain.len, to, SEAL_HEAD, NULL,
            nonce, d->key);
    }
    direction_step(d, s->cipher);
}

void seal_send(struct seal *s, struct slice plain, struct buf *out)
{
    assert(seal_ready(s));
    while (plain.len > 0) {
        size_t n = plain.len < SEAL_PLAIN_MAX ? plain.len : SEAL_PLAIN_MAX;
        size_t size = SEAL_HEAD + n + SEAL_TAG;
        uint8_t *to = buf_reserve(out, size);
        assert(to != NULL); /* callers give a buffer without a maximum */
        send_record(s, slice_make(plain.data, n), to);
        out->len += size;
        plain = slice_make(plain.data + n, plain.len - n);
    }
}

size_t seal_size(size_t len)
{
    size_t records = (len + SEAL_PLAIN_MAX - 1) / SEAL_PLAIN_MAX;
    return len + records * (SEAL_HEAD + SEAL_TAG);
}
