/*
 * One tablet's state: its cells in an ordered copy-on-write tree, and the
 * client table (R23). A deterministic machine: entries are applied in seq
 * order, alike on every replica; applying reads no clock and no random. Not
 * thread-safe: it belongs to its shard.
 *
 * Counter cells hold their value as decimal text. Sequence columns and
 * suffixes are 16 lower-case hex digits.
 *
 * A batch gives ST_OK or, without any effect, result.failed being the index:
 *   CONFLICT  that condition does not hold (conditions are looked at first,
 *             in order, on the state before the batch)
 *   BOUND     that increment would pass its bound or leave the 64-bit range
 *   EXISTS    that add finds its new column taken
 *   INVALID   that increment's or add's counter cell is no (for add: no
 *             non-negative) number
 * Deleting what is not there is ST_OK. Increments and adds give their new
 * value in result.values.
 */
#ifndef STORAGE_STATE_H
#define STORAGE_STATE_H

#include "common/wire.h"

struct state;
struct state_snapshot;

/* A result with room for its values; r.values points at them. */
struct applied {
    struct result r;
    struct counter_value values[LIMIT_RESULT_VALUES];
};

struct state *state_new(void);
void state_free(struct state *s);

/* Name of the last entry applied; {0,0} at first. */
struct name state_applied(const struct state *s);

/* Applies the entry NAME (name.seq is the applied seq + 1: asserted, I4)
 * with payload PAYLOAD, an encoded REC(command), or empty for an entry that
 * changes nothing. A payload that does not decode gives ST_INVALID in OUT and
 * has no effect: it was committed, every replica finds the same. */
void state_apply(struct state *s, struct name name, struct slice payload,
                 struct applied *out);

#ifdef PENN_BUGS
/* From now on S remembers no request (bugs.def). */
void state_forget_requests(struct state *s);
#endif

/* What a request will be told without an entry: false if it must become an
 * entry; else OUT holds the stored result, or a refusal that no entry still
 * under way can change. For a retry of what was applied already; decides
 * nothing (R23: decisions are made at apply). */
bool state_stored_result(const struct state *s, const struct command *c,
                         struct applied *out);

/* Checks sizes and kinds of a command before it becomes an entry: ST_INVALID,
 * ST_TOO_LARGE. Applying checks again, and an entry that fails has no
 * effect. */
enum status state_check_command(const struct command *c) MUST_CHECK;

/* Cells. Slices of OUT live until the next change of S. */
bool state_get(const struct state *s, struct slice partition, struct slice row,
               struct slice column, struct slice *out);

/* A page of a partition (msg_scan's meaning) into ARENA, values copied. */
void state_scan(const struct state *s, const struct msg_scan *scan,
                struct arena *a, struct msg_cells *out);

/* Called after each change of a cell; for WATCH. */
void state_on_change(struct state *s,
                     void (*fn)(void *ctx, struct slice partition,
                                struct slice row, struct slice column),
                     void *ctx);

struct state_counts {
    uint64_t cells;  /* number */
    uint64_t bytes;  /* of keys and values */
    uint64_t memory; /* bytes of heap that cells and clients take */
    uint32_t clients;
    uint64_t clients_memory; /* of MEMORY */
};
void state_count(const struct state *s, struct state_counts *out);

/* Digest of cells and client table: equal states, equal digests (R19).
 * The cells' part is kept up to date by each change; the client table's is
 * worked out anew. */
struct id128 state_digest(const struct state *s);

/* ---- snapshots: a reference to a root, O(1) in the number of cells, and the
 * client table encoded ---- */

struct state_snapshot *state_snapshot(struct state *s);
void state_snapshot_free(struct state_snapshot *p);
struct name state_snapshot_name(const struct state_snapshot *p);
struct id128 state_snapshot_digest(const struct state_snapshot *p);
uint64_t state_snapshot_cells(const struct state_snapshot *p);
/* Appends up to LIMIT_SCAN_CELLS cells (LIMIT_SCAN_PAGE bytes) in tree order
 * (hash, partition, row, column) after the key in ASK (has_after...) into OUT;
 * slices live until snapshot or ARENA is freed, the array in ARENA. Sets
 * out->name and out->more, and with the last page out->clients; that page has
 * no cells where both would not fit into one frame. */
void state_snapshot_page(const struct state_snapshot *p,
                         const struct msg_scan_tablet *ask, struct arena *a,
                         struct msg_tablet_page *out);
/* The client table, encoded, in its order. */
void state_snapshot_clients(const struct state_snapshot *p, struct buf *out);

/* ---- loading a checkpoint or a snapshot into an empty state ---- */

/* Cells in tree order; ST_CORRUPT if not. */
enum status state_load_cell(struct state *s,
                            const struct cell *cell) MUST_CHECK;
/* Of a state that ends at APPLIED_SEQ; ST_CORRUPT if it cannot be. */
enum status state_load_clients(struct state *s, struct slice encoded,
                               uint64_t applied_seq) MUST_CHECK;
void state_load_done(struct state *s, struct name applied);

#endif
