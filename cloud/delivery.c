/*
 * Delivery: see the header. Each recipient goes through these steps:
 *
 *   reserve  pending:<uid> and the quota, one batch   (several recipients, or
 *   chunks   each a cell of its own                    more than 16 KiB)
 *   show     the batch that makes it visible: index cell, place, header,
 *            body, counters; requires that the uid has no place yet, and that
 *            the intent is as written (or, without the reserve step, that
 *            there is none); removes the intent
 *
 * or, backwards, undo: requires the same as show, leaves an INTENT_VOID.
 *
 * Show and undo exclude each other for ever, whatever is repeated, delayed or
 * lost: each takes away what the other requires, and so does a person who
 * deletes the message at once (INTENT_GONE). So both may be tried again after
 * any unknown outcome, and where one answers ST_CONFLICT, the store tells why.
 *
 * When is a failure told? As long as nothing may be visible, after
 * DELIVERY_PATIENCE_MS of a store that does not answer. Once something may be
 * visible, only the deadline ends the trying. At either end what is not visible
 * is undone; what cannot be undone nor seen is unknown.
 */
#include "cloud/delivery.h"

#include <stdlib.h>
#include <string.h>

#include "cloud/delivery_inside.h"

#define SLICE_MS 4000

/* True if something is visible, or may be. */
static bool touched(const struct delivery *d)
{
    for (size_t i = 0; i < d->count; i++) {
        if (d->list[i].step == STEP_SHOWN || d->list[i].uncertain)
            return true;
    }
    return false;
}

/* Open: neither shown nor refused for good. That a disk is full passes, too,
 * but is waited for only where the outcome would be unknown otherwise. */
static bool is_open(const struct delivery *d, const struct delivery_one *o)
{
    enum status st = o->to->status;
    return o->step == STEP_READY &&
           (delivery_may_pass(st) || (st == ST_NO_SPACE && touched(d)));
}

static size_t count_open(const struct delivery *d)
{
    size_t n = 0;
    for (size_t i = 0; i < d->count; i++)
        n += is_open(d, &d->list[i]) ? 1 : 0;
    return n;
}

static enum status prepare_all(const struct delivery *d)
{
    for (size_t i = 0; i < d->count; i++) {
        enum status st = delivery_prepare(d, &d->list[i]);
        if (st != ST_OK) {
            d->list[i].to->status = st;
            /* Nothing is visible: that outcome is known. */
            return st == ST_UNKNOWN_OUTCOME || st == ST_UNKNOWN_CLIENT
                       ? ST_UNREACHABLE
                       : st;
        }
    }
    return ST_OK;
}

/* Shows to each in turn, so that one tablet that does not answer holds up
 * nobody else, until all are decided or it is time to give up. */
static void show_all(struct delivery *d)
{
    int64_t patience_ms = store_now_ms() + DELIVERY_PATIENCE_MS;
    for (size_t i = 0; i < d->count; i++)
        d->list[i].to->status = ST_BUSY; /* not tried yet */
    while (count_open(d) > 0) {
        for (size_t i = 0; i < d->count; i++) {
            if (is_open(d, &d->list[i]))
                delivery_show(d, &d->list[i], SLICE_MS);
        }
        bool patient = touched(d) || store_now_ms() < patience_ms;
        if (cloud_op_left(&d->op) == 0 || !patient)
            return;
        if (count_open(d) > 0)
            store_pause(&d->op, 20);
    }
}

/* Undoes what is not visible, unless others have it and it is only slow. */
static enum status decide(struct delivery *d)
{
    size_t shown = 0, unknown = 0;
    enum status refusal = ST_OK;
    for (size_t i = 0; i < d->count; i++) {
        struct delivery_one *o = &d->list[i];
        delivery_undo(d, o);
        if (o->step == STEP_SHOWN) {
            shown++;
            continue;
        }
        /* A mailbox that has gone away since keeps nobody's mail back. */
        if (o->step == STEP_UNDONE && o->to->status == ST_NOT_FOUND)
            continue;
        if (o->uncertain && o->step != STEP_UNDONE)
            unknown++;
        if (refusal == ST_OK)
            refusal = o->to->status;
    }
    if (refusal == ST_OK)
        return shown > 0 ? ST_OK : ST_NOT_FOUND;
    if (shown > 0 || unknown > 0)
        return ST_UNKNOWN_OUTCOME;
    return refusal == ST_UNKNOWN_OUTCOME || refusal == ST_UNKNOWN_CLIENT ||
                   refusal == ST_VOID || refusal == ST_CONFLICT
               ? ST_UNREACHABLE
               : refusal;
}

static bool recipients_valid(struct slice raw,
                             const struct delivery_recipient *to, size_t count)
{
    if (count == 0 || count > DELIVERY_RECIPIENTS_MAX)
        return false;
    for (size_t i = 0; i < count; i++) {
        if (!account_name_valid(slice_of(to[i].username)) ||
            !mailbox_folder_valid(slice_of(to[i].folder)) ||
            to[i].head.len > KIB(16) || raw.len > LIMIT_MESSAGE)
            return false;
        for (size_t j = 0; j < i; j++) {
            if (strcmp(to[i].username, to[j].username) == 0)
                return false;
        }
    }
    return true;
}

static void begin(struct delivery *d, struct delivery_recipient *to)
{
    d->wall_ms = cloud_wall_ms(d->op.cloud);
    d->message = message_parse(d->raw);
    d->list = xcalloc(d->count, sizeof *d->list);
    for (size_t i = 0; i < d->count; i++)
        delivery_one_init(d, &d->list[i], &to[i]);
}

enum status delivery_run(const struct cloud_op *op, struct slice raw,
                         struct delivery_recipient *to, size_t count)
{
    if (!recipients_valid(raw, to, count))
        return ST_INVALID;
    struct delivery d = {.op = *op, .raw = raw, .count = count};
    begin(&d, to);
    enum status st = prepare_all(&d);
    if (st == ST_OK) {
        show_all(&d);
        st = decide(&d);
    } else {
        for (size_t i = 0; i < count; i++)
            delivery_undo(&d, &d.list[i]);
    }
    for (size_t i = 0; i < count; i++)
        buf_free(&d.list[i].intent);
    free(d.list);
    message_free(d.message);
    return st;
}
