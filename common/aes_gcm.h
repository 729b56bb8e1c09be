/*
 * AES-256-GCM for processors that encrypt four blocks with one instruction
 * (VAES and VPCLMULQDQ on 512 bits): some three times as fast as GnuTLS, which
 * does not use these, and the same bytes. seal.c chooses.
 */
#ifndef COMMON_AES_GCM_H
#define COMMON_AES_GCM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/status.h"

#define AES_GCM_KEY 32
#define AES_GCM_NONCE 12
#define AES_GCM_TAG 16
#define AES_GCM_AAD_MAX 16 /* bytes that are authenticated alone: one block */

/* True if this processor can; nothing else may be called otherwise. */
bool aes_gcm_available(void);

/* Of one key, which is copied. Not changed by use. */
struct aes_gcm;
struct aes_gcm *aes_gcm_new(const uint8_t key[AES_GCM_KEY]);
void aes_gcm_free(struct aes_gcm *g); /* wipes it; NULL is fine */

/* A message: LEN bytes (below 2^32) under NONCE, never used twice with a key,
 * with AAD_LEN bytes at AAD authenticated beside them. */
struct aes_gcm_message {
    const uint8_t *nonce; /* AES_GCM_NONCE bytes */
    const uint8_t *aad;
    size_t aad_len; /* AES_GCM_AAD_MAX at most */
    const uint8_t *in;
    size_t len;
};

/* Encrypts M to OUT: its LEN bytes, then the tag. OUT is not IN. */
void aes_gcm_seal(const struct aes_gcm *g, const struct aes_gcm_message *m,
                  uint8_t *out);
/* Decrypts M, behind whose LEN bytes the tag stands, to OUT, LEN bytes, not IN.
 * False: something was changed, and OUT is worth nothing. */
bool aes_gcm_open(const struct aes_gcm *g, const struct aes_gcm_message *m,
                  uint8_t *out) MUST_CHECK;

#endif
