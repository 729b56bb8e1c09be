/*
 * The sealed transport's pure core: handshake and records, without sockets
 * or clock. seal.c opens with the protocol.
 *
 * One struct seal is one side of one connection. Bytes from the peer go in
 * through seal_receive(), which gives plaintext and bytes to send; plaintext
 * goes out through seal_send() once seal_ready(). After a failure the seal is
 * dead: every later call fails alike, nothing more comes out of it.
 * Not thread-safe; owned by the connection's loop.
 */
#ifndef COMMON_SEAL_H
#define COMMON_SEAL_H

#include "common/buf.h"
#include "common/key.h"
#include "common/limits.h"
#include "common/status.h"

/* A record is a 4-byte head, ciphertext, and a 16-byte tag. */
#define SEAL_HEAD 4u
#define SEAL_TAG 16u
#define SEAL_PLAIN_MAX (LIMIT_SEALED - SEAL_HEAD - SEAL_TAG)
/* Handshake messages: the first two have this length, the third is a tag. */
#define SEAL_OPENING 104u
#define SEAL_PROOF 32u
/* A direction's key is replaced by its own hash after so many records. */
#define SEAL_REKEY_RECORDS (1u << 16)

enum seal_side { SEAL_CONNECTS = 0, SEAL_ACCEPTS = 1 };

#define SEAL_AES256GCM 1u
#define SEAL_CHACHA20 2u

struct seal;

struct seal_options {
    struct cluster_key key; /* copied, wiped by seal_free() */
    enum seal_side side;
    /* 64 fresh random bytes: ephemeral secret and nonce. Never twice. */
    uint8_t seed[64];
    /* SEAL_* bits that may be used; 0: all that this machine offers. */
    uint8_t ciphers;
};

/* For SEAL_CONNECTS, appends the first message to OUT (an accepting side
 * has none, OUT stays as it is). The caller wipes O. */
struct seal *seal_new(const struct seal_options *o, struct buf *out);
/* Wipes all keys. NULL-safe. */
void seal_free(struct seal *s);

/* Takes bytes that came from the peer, whole or in pieces, and appends what
 * they say to PLAIN and what must be sent in return to OUT.
 * ST_UNAUTHENTICATED: the peer has not shown that it holds the key;
 * ST_VERSION: it speaks another version of this protocol; ST_INVALID: a
 * record was changed, repeated, reordered or is no record. */
enum status seal_receive(struct seal *s, struct slice in, struct buf *plain,
                         struct buf *out) MUST_CHECK;

/* True once the peer is authenticated and records may be sent. */
bool seal_ready(const struct seal *s);
/* The cipher in use (a SEAL_* bit); 0 before the handshake chose. */
uint8_t seal_cipher(const struct seal *s);

/* Appends PLAIN, cut into records, to OUT. Only while seal_ready(). */
void seal_send(struct seal *s, struct slice plain, struct buf *out);

/* Bytes that LEN of plaintext become. */
size_t seal_size(size_t len);

#endif
