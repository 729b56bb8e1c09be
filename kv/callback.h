/*
 * The client for who has a loop of his own: operations on a core whose
 * inputs are copied, ending in a callback. A storage daemon makes one core
 * beside its env and uses these; all is called on that loop's thread.
 */
#ifndef KV_CALLBACK_H
#define KV_CALLBACK_H

#include "kv/core.h"

/* How it ended; all lives until the callback returns. STATUS as in kv.h. */
struct kv_answer {
    enum status status;
    const struct wire_msg *message; /* NULL: none came */
    const struct kv_result *result; /* of commands */
};

struct kv_callback {
    void (*fn)(void *ctx, const struct kv_answer *a);
    void *ctx;
    int timeout_ms;
};

/* KEY's value; the message is a VALUE. */
void kv_callback_get(struct kv_core *c, const struct kv_key *key,
                     const struct kv_callback *then);
/* A page; the message is CELLS. */
void kv_callback_scan(struct kv_core *c, const struct kv_scan *scan,
                      const struct kv_callback *then);
/* Runs B, which is taken. GIVE_UP: an unknown outcome is abandoned. */
void kv_callback_run_take(struct kv_core *c, struct kv_batch *b, bool give_up,
                          const struct kv_callback *then);
/* Makes an unknown outcome known. */
void kv_callback_settle(struct kv_core *c, const struct kv_pending *pending,
                        const struct kv_callback *then);
/* Sends FRAME, copied, to NODE (0: the coordinator). It may be sent more
 * than once. */
void kv_callback_call(struct kv_core *c, uint32_t node, const struct buf *frame,
                      const struct kv_callback *then);

#endif
