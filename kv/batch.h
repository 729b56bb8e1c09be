/*
 * What kv.h's batches are made of, for those who run them on the core
 * themselves.
 */
#ifndef KV_BATCH_H
#define KV_BATCH_H

#include "kv/kv.h"

/* B's command; lives as long as B and until B's next change. */
const struct command *kv_batch_command(const struct kv_batch *b);

#endif
