/*
 * The schema's invariants, checked over all cells of a tablet at one instant:
 * for each account's partition
 *   - a folder's #total and #unread are what its index holds;
 *   - each index cell has its message, whose place names that very cell, and
 *     each message has an index cell and a header;
 *   - usage: bytes is the sum of all messages, files and what is reserved;
 *     reserved the sum of what is being written.
 * Pure. Cells are given in tree order, a partition's all in a row.
 */
#ifndef CLOUD_CHECK_H
#define CLOUD_CHECK_H

#include "common/wire.h"

struct cloud_check;

struct cloud_check_counts {
    uint64_t cells, accounts, folders, messages, problems;
};

/* SAY hears of each problem, one line. */
struct cloud_check *cloud_check_new(void (*say)(void *ctx, const char *text),
                                    void *ctx);
void cloud_check_free(struct cloud_check *k);
/* CELL is borrowed for the call. */
void cloud_check_cell(struct cloud_check *k, const struct cell *cell);
/* No cell follows. */
void cloud_check_finish(struct cloud_check *k, struct cloud_check_counts *out);

#endif
