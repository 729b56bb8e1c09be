/*
 * Between the blocking calls (calls.c) and the thread that runs the core
 * (kv_io.c).
 */
#ifndef KV_KV_IO_H
#define KV_KV_IO_H

#include "kv/core.h"

/* Hears of the end of an operation on the client's thread, to copy its
 * answer, while the caller is still waiting. */
typedef void kv_take_fn(struct kv_op *op, void *ctx);

/* Runs OP on the client's thread and waits for its end; TAKE may be NULL.
 * What OP refers to is borrowed. ST_STOPPING once kv_close() was called. */
enum status kv_run_op(struct kv *kv, struct kv_op *op, kv_take_fn *take,
                      void *ctx) MUST_CHECK;

#endif
