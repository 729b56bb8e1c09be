/*
 * One recipient's way through a delivery; for delivery*.c alone. The steps
 * and why they may be repeated are told in delivery.c.
 */
#ifndef CLOUD_DELIVERY_INSIDE_H
#define CLOUD_DELIVERY_INSIDE_H

#include "cloud/delivery.h"
#include "cloud/mailbox_store.h"

/* Well above what a failover takes, and well below the half minute after
 * which common clients give up, who then would not hear the 451. */
#define DELIVERY_PATIENCE_MS 10000

enum delivery_step {
    STEP_START = 1, /* nothing written */
    STEP_RESERVED,  /* an intent may be there */
    STEP_READY,     /* contents too: can be shown */
    STEP_SHOWN,     /* visible, on disk everywhere */
    STEP_UNDONE,    /* never will be visible */
};

struct delivery_one {
    struct delivery_recipient *to;
    enum delivery_step step;
    bool reserve;   /* goes through the reserve step */
    bool uncertain; /* a show may have happened, or may yet */
    uint64_t size;
    uint32_t chunks;
    struct buf intent; /* the cell */
};

struct delivery {
    struct cloud_op op;
    struct slice raw;
    struct message *message;
    int64_t wall_ms;
    struct delivery_one *list;
    size_t count;
};

/* Fills O for its recipient TO; draws the uid. */
void delivery_one_init(const struct delivery *d, struct delivery_one *o,
                       struct delivery_recipient *to);
/* Everything before the show. Nothing is visible whatever it answers. */
enum status delivery_prepare(const struct delivery *d,
                             struct delivery_one *o) MUST_CHECK;
/* Tries to show, for at most MS; the outcome is in O and its recipient. */
void delivery_show(const struct delivery *d, struct delivery_one *o, int ms);
/* Makes sure that O never becomes visible, if it is not yet. Where no show
 * was tried, nothing can become visible, and this only tidies. */
void delivery_undo(const struct delivery *d, struct delivery_one *o);
/* True for answers after which the same batch may be tried again. */
bool delivery_may_pass(enum status st);

#endif
