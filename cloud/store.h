/*
 * Reading and writing cells for the rest of cloud/: settles unknown outcomes,
 * repeats what surely did not happen, up to the request's deadline.
 */
#ifndef CLOUD_STORE_H
#define CLOUD_STORE_H

#include "cloud/cloud.h"

/* A row or partition name. LIMIT_KEY_PART bounds it. */
struct store_name {
    char text[LIMIT_KEY_PART];
};
struct store_name store_name(const char *format, ...)
    __attribute__((format(printf, 1, 2)));

/* Runs B until its outcome is known or the deadline comes. Besides kv_run()'s
 * definite answers: ST_UNKNOWN_OUTCOME at the deadline, and
 * ST_UNKNOWN_CLIENT: our session at the store is lost; it either has happened
 * or never will, the caller looks which. RESULT may be NULL. */
enum status store_run(const struct cloud_op *op, const struct kv_batch *b,
                      struct kv_result *result) MUST_CHECK;

/* Writes that may be repeated without harm: a put of the same value, a
 * delete. As store_run, but never ST_UNKNOWN_CLIENT. */
enum status store_repeat(const struct cloud_op *op,
                         const struct kv_batch *b) MUST_CHECK;
/* A put that is needed by whoever is to delete something: on a full disk it is
 * taken as that is (limits.h: LIMIT_FREEING), for it deletes the cell first. */
enum status store_put_always(const struct cloud_op *op, const char *partition,
                             const char *row, const char *column,
                             struct slice value) MUST_CHECK;
enum status store_put(const struct cloud_op *op, const char *partition,
                      const char *row, const char *column,
                      struct slice value) MUST_CHECK;
enum status store_delete(const struct cloud_op *op, const char *partition,
                         const char *row, const char *column) MUST_CHECK;

/* Appends to OUT. */
enum status store_get(const struct cloud_op *op, const char *partition,
                      const char *row, const char *column,
                      struct buf *out) MUST_CHECK;
/* A counter's value; 0 if it is not there. */
enum status store_get_counter(const struct cloud_op *op, const char *partition,
                              const char *row, const char *column,
                              int64_t *out) MUST_CHECK;
/* Some cells of one row, in order. */
struct store_cells {
    struct cell *cells;
    size_t count;
    struct arena arena; /* they live here */
};
/* All cells of ROW whose column starts with PREFIX: for rows that have few
 * (at most one page; ST_TOO_LARGE otherwise). One instant. *OUT is to be freed
 * whatever the outcome. */
enum status store_row(const struct cloud_op *op, const char *partition,
                      const char *row, const char *prefix,
                      struct store_cells *out) MUST_CHECK;
void store_cells_free(struct store_cells *c);
/* The cell with COLUMN among them; NULL if absent. */
const struct cell *store_find(const struct store_cells *c, const char *column);

/* CLOCK_BOOTTIME in milliseconds. */
int64_t store_now_ms(void);
/* Nothing tells us when a refusing store has recovered; so wait MS, or what
 * is left. */
void store_pause(const struct cloud_op *op, int ms);
/* A decimal number as counters hold it; false if it is none. */
bool store_parse_counter(struct slice text, int64_t *out);

#endif
