/*
 * Rings: doubly linked lists through a member of their items, with a head of
 * the same type. For the core of the client (struct kv_ring is in core.h).
 */
#ifndef KV_RING_H
#define KV_RING_H

#include "kv/core.h"

static inline void ring_init(struct kv_ring *r)
{
    r->prev = r->next = r;
}
static inline bool ring_empty(const struct kv_ring *r)
{
    return r->next == r;
}
static inline void ring_append(struct kv_ring *head, struct kv_ring *r)
{
    r->prev = head->prev;
    r->next = head;
    head->prev->next = r;
    head->prev = r;
}
/* R is then alone, and may be removed again. */
static inline void ring_remove(struct kv_ring *r)
{
    r->prev->next = r->next;
    r->next->prev = r->prev;
    ring_init(r);
}
#define RING_OF(ring, type, member)                                            \
    ((type *)(void *)((char *)(ring)-offsetof(type, member)))

#endif
