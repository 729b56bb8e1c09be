/*
 * What clients did to each key and what they were told, and whether one order
 * explains it (I3): operations take effect at one instant between being asked
 * and being answered; one whose outcome is unknown at any instant after it was
 * asked, or never; one that was refused, never.
 *
 * The search is that of Wing and Gong with Lowe's memory of states seen, as in
 * Porcupine. It is fast while few operations of a key are open at once.
 */
#ifndef TESTS_SIM_HISTORY_H
#define TESTS_SIM_HISTORY_H

#include "common/buf.h"

#define HISTORY_ABSENT INT64_MIN
#define HISTORY_NONE UINT32_MAX

enum history_kind {
    HISTORY_GET,      /* VALUE is what was read, or HISTORY_ABSENT */
    HISTORY_PUT,      /* of ARGUMENT */
    HISTORY_CPUT,     /* of ARGUMENT if the cell is EXPECTED */
    HISTORY_DELETE,   /* also of what is not there */
    HISTORY_INCREMENT /* by ARGUMENT; VALUE is the new value; absent is 0 */
};

enum history_outcome {
    HISTORY_OPEN = 0, /* not answered (yet): as unknown */
    HISTORY_OK,
    HISTORY_CONFLICT, /* CPUT only: the cell was not as expected */
    HISTORY_REFUSED,  /* surely no effect, now and for ever */
    HISTORY_UNKNOWN,
};

enum history_verdict {
    HISTORY_GOOD,
    HISTORY_BAD,
    HISTORY_UNDECIDED, /* the search grew too large */
};

struct history_ask {
    uint32_t client; /* for reading only */
    uint32_t key;
    enum history_kind kind;
    int64_t argument, expected;
    int64_t time_us; /* for reading only: order counts */
};

struct history;
struct history *history_new(void);
void history_free(struct history *h);

/* Asked now; returns the operation's number. */
uint32_t history_invoke(struct history *h, const struct history_ask *ask);
/* Answered now, with a final outcome. An unknown one that was settled later
 * returns when it is settled. */
void history_return(struct history *h, uint32_t op,
                    enum history_outcome outcome, int64_t value,
                    int64_t time_us);

uint32_t history_keys(const struct history *h); /* greatest key + 1 */
uint32_t history_length(const struct history *h);
enum history_verdict history_check_key(const struct history *h, uint32_t key);
/* All keys. Appends to WHY what is wrong, with the key's operations. */
enum history_verdict history_check(const struct history *h, struct buf *why);
/* One line for each operation of KEY, in order. */
void history_print(const struct history *h, uint32_t key, struct buf *out);

/* Sums of a key's increments: done for certain, and at most. */
void history_sum(const struct history *h, uint32_t key, int64_t *certain,
                 int64_t *most);

/* KEY's increments are also a list, where the K-th one left its operation's
 * number: IDS is what was found at the end. False if one that was certain is
 * missing or elsewhere, one that was refused is there, or one is there twice;
 * WHY tells. */
bool history_check_list(const struct history *h, uint32_t key,
                        const uint32_t *ids, uint32_t count, struct buf *why);

#endif
