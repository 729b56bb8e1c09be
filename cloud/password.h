/*
 * Passwords: Argon2id by libsodium, 64 MiB a run, behind a gate: at most
 * RUNNING_MAX runs at once, at most WAITING_MAX callers in line, so that
 * logins can exhaust neither memory nor threads.
 */
#ifndef CLOUD_PASSWORD_H
#define CLOUD_PASSWORD_H

#include <pthread.h>

#include "common/buf.h"
#include "common/status.h"

#define PASSWORD_HASH_SIZE 128 /* with its NUL: crypto_pwhash_STRBYTES */
#define PASSWORD_PASSES 2
#define PASSWORD_MEMORY (64ull << 20)

/* Embedded in struct cloud. */
struct password_gate {
    pthread_mutex_t lock;
    pthread_cond_t left;
    unsigned running, waiting, running_max, waiting_max;
    size_t memory;                   /* bytes of a run */
    char nobody[PASSWORD_HASH_SIZE]; /* hash that no password has */
};

void password_gate_init(struct password_gate *g, unsigned running_max,
                        unsigned waiting_max, size_t memory);
void password_gate_fini(struct password_gate *g);

/* ST_TOO_MANY: the line is full; ST_TIMEOUT: not one's turn by DEADLINE_MS
 * (CLOCK_BOOTTIME). */
enum status password_hash(struct password_gate *g, struct slice password,
                          int64_t deadline_ms,
                          char out[PASSWORD_HASH_SIZE]) MUST_CHECK;
/* ST_OK or ST_UNAUTHENTICATED, besides the above. STORED NULL: as long as for
 * a real one, and always wrong. */
enum status password_verify(struct password_gate *g, const char *stored,
                            struct slice password,
                            int64_t deadline_ms) MUST_CHECK;

#endif
