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
 *
 * Values above LIMIT_VALUE_INLINE stay where the log holds them; the state has
 * their places (place.h), and never needs their bytes. Where a value is makes
 * no difference to what entries do, nor to the digest.
 */
#ifndef STORAGE_STATE_H
#define STORAGE_STATE_H

#include "common/wire.h"
#include "storage/place.h"

struct state;
struct state_snapshot;

/* A result with room for its values; r.values points at them. */
struct applied {
    struct result r;
    struct counter_value values[LIMIT_RESULT_VALUES];
};

/* What a cell has: the bytes, or, if place.tag is not VALUE_INLINE, the place
 * where they are. */
struct cell_value {
    struct slice bytes;
    struct place place;
};

struct state *state_new(void);
void state_free(struct state *s); /* its places die (state_on_place()) */

/* Name of the last entry applied; {0,0} at first. */
struct name state_applied(const struct state *s);

/* Applies the entry NAME (name.seq is the applied seq + 1: asserted, I4)
 * with payload PAYLOAD, an encoded REC(command), or empty for an entry that
 * changes nothing. A payload that does not decode gives ST_INVALID in OUT and
 * has no effect: it was committed, every replica finds the same. POSITION is
 * the log position of the payload's first byte: large values that it holds as
 * they are stay there; 0: it is in no log, and all values are kept in
 * memory. */
void state_apply(struct state *s, struct name name, struct slice payload,
                 uint64_t position, struct applied *out);

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

/* What a command is for decides whether a full disk takes it (wal_room.c). */
enum need {
    NEED_ROOM,    /* all that may grow: none */
    NEED_FREES,   /* it deletes and hardly puts anything, or introduces who
                     will: a part of the reserve */
    NEED_SETTLES, /* an unknown outcome (R23): most of the reserve */
};
enum need state_need(const struct command *c);

/* Checks sizes and kinds of a command before it becomes an entry: ST_INVALID,
 * ST_TOO_LARGE. Applying checks again, and an entry that fails has no
 * effect. */
enum status state_check_command(const struct command *c) MUST_CHECK;
/* The same of an entry's, which may refer to blobs (R6). */
enum status state_check_entry(const struct command *c) MUST_CHECK;

/* Cells. Slices of OUT live until the next change of S. */
bool state_get(const struct state *s, struct slice partition, struct slice row,
               struct slice column, struct cell_value *out);
/* Whether V, found in that cell, is VALUE. */
bool cell_value_is(const struct cell_value *v, struct slice key,
                   struct slice value);

/* A page of a partition (msg_scan's meaning) into ARENA, values copied. Those
 * that are not in memory are empty: (*PLACES)[i], in ARENA, is where cell I's
 * is. */
void state_scan(const struct state *s, const struct msg_scan *scan,
                struct arena *a, struct msg_cells *out, struct place **places);

/* Called after each change of a cell; for WATCH. */
void state_on_change(struct state *s,
                     void (*fn)(void *ctx, struct slice partition,
                                struct slice row, struct slice column),
                     void *ctx);

/* Called for each place that begins (DELTA 1) or ceases (-1) to be a cell's,
 * what a batch undoes included; a place that is replaced ceases after the new
 * one began. From now on, and at once for all that there are, unless FN and
 * CTX are told already. FN may be NULL:
 * nobody is told any more, not even of the end. Snapshots, which keep places
 * alive that S has no more, do not count. */
void state_on_place(struct state *s,
                    void (*fn)(void *ctx, const struct place *p, int delta),
                    void *ctx);

/* The value of the cell with the encoded KEY (key.h), at FROM, was copied to
 * TO: the cell names that from now on; false if it has FROM no more. Both have
 * the same length and digest (asserted). */
bool state_move(struct state *s, struct slice key, const struct place *from,
                const struct place *to);

/* A walk over the cells of S that have places, in slices; S may change between
 * them, but must not be freed before the walk is. FN, which must not change S,
 * is given the encoded key and the place. Looks at CELLS cells at most; false
 * when there are no more. */
struct state_walk;
struct state_walk *state_walk_new(const struct state *s);
void state_walk_free(struct state_walk *w);
bool state_walk_on(struct state_walk *w, size_t cells,
                   void (*fn)(void *ctx, struct slice key,
                              const struct place *p),
                   void *ctx);

struct state_counts {
    uint64_t cells;  /* number */
    uint64_t bytes;  /* of keys and values */
    uint64_t placed; /* of BYTES, those of values that are not in memory */
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
/* One more who will free it. */
struct state_snapshot *state_snapshot_retain(struct state_snapshot *p);
void state_snapshot_free(struct state_snapshot *p);
struct name state_snapshot_name(const struct state_snapshot *p);
struct id128 state_snapshot_digest(const struct state_snapshot *p);
uint64_t state_snapshot_cells(const struct state_snapshot *p);
/* Appends up to LIMIT_SCAN_CELLS cells (LIMIT_SCAN_PAGE bytes) in tree order
 * (hash, partition, row, column) after the key in ASK (has_after...) into OUT;
 * slices live until snapshot or ARENA is freed, the array in ARENA. Sets
 * out->name and out->more, and with the last page out->clients; that page has
 * no cells where both would not fit into one frame. PLACES as with
 * state_scan(): the values there count as bytes of the page, too. */
void state_snapshot_page(const struct state_snapshot *p,
                         const struct msg_scan_tablet *ask, struct arena *a,
                         struct msg_tablet_page *out, struct place **places);
/* The same for keeping it as it is: of values that are not in memory only
 * their places count, and there is no client table. */
void state_snapshot_kept(const struct state_snapshot *p,
                         const struct msg_scan_tablet *ask, struct arena *a,
                         struct msg_tablet_page *out, struct place **places);
/* The client table, encoded, in its order. */
void state_snapshot_clients(const struct state_snapshot *p, struct buf *out);

/* ---- loading a checkpoint or a snapshot into an empty state ---- */

/* Cells in tree order; ST_CORRUPT if not. The value is at PLACE, or, where that
 * is NULL or INLINE, CELL's. */
enum status state_load_cell(struct state *s, const struct cell *cell,
                            const struct place *place) MUST_CHECK;
/* Cells in tree order that belong to no state yet: any thread may make such a
 * part. */
struct state_part;
struct state_part *state_part_new(void);
void state_part_free(struct state_part *p); /* NULL is fine */
/* The cell's bytes are needed until state_part_end(). Where TAG is not
 * VALUE_INLINE, its value is an encoded place. ST_CORRUPT: it is none, or the
 * cell not behind the others. */
enum status state_part_add(struct state_part *p, const struct cell *cell,
                           uint8_t tag) MUST_CHECK;
void state_part_end(struct state_part *p);
/* All that P has, which was ended; P is empty then. ST_CORRUPT if it is not
 * behind what S has. Nobody may be told of places (state_on_place()). */
enum status state_load_part(struct state *s, struct state_part *p) MUST_CHECK;
/* Of a state that ends at APPLIED_SEQ; ST_CORRUPT if it cannot be. */
enum status state_load_clients(struct state *s, struct slice encoded,
                               uint64_t applied_seq) MUST_CHECK;
void state_load_done(struct state *s, struct name applied);

#endif
