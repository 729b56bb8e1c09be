/*
 * The store as seen by its clients (R23, R24): blocking, thread-safe, one
 * handle for a process. Behind it runs one thread with a loop, the pure core
 * (kv/core.h), and connections to every storage node and the coordinator.
 *
 * Every call has a deadline, in milliseconds from now. Reads answer ST_OK,
 * ST_NOT_FOUND, or why not (ST_TIMEOUT, ST_UNREACHABLE). Writes answer ST_OK,
 * a definite refusal without any effect (ST_CONFLICT, ST_BOUND, ST_NOT_FOUND,
 * ST_TOO_LARGE, ST_INVALID, ST_DEGRADED, ST_UNREACHABLE, ST_VOID), or
 * ST_UNKNOWN_OUTCOME: it may have happened or may still happen; kv_settle()
 * then makes the outcome known.
 */
#ifndef KV_KV_H
#define KV_KV_H

#include "common/env.h"

struct kv;
struct kv_batch;

struct kv_options {
    const char *const *coordinators; /* "host:port", ends with NULL */
    const char *key_file;            /* the cluster key */
    uint8_t role;                    /* enum role */
    uint32_t node;                   /* 0 where the process has none */
    const char *name;                /* for the hello: "gateway-1" */
    struct log *log;
};

/* Starts the client's thread; does not wait for the cluster. */
enum status kv_open(const struct kv_options *o, struct kv **out,
                    struct err *err) MUST_CHECK;
/* Ends what is under way with ST_STOPPING or ST_UNKNOWN_OUTCOME; joins. */
void kv_close(struct kv *kv);
/* Waits until a map is known; ST_TIMEOUT otherwise. */
enum status kv_wait_ready(struct kv *kv, int timeout_ms) MUST_CHECK;

/* A key; slices are borrowed for the call. */
struct kv_key {
    struct slice partition, row, column;
    bool bulk; /* the value is large (a chunk): read it on the bulk
                * connection, so that it delays no small request */
};
/* From C strings. */
struct kv_key kv_key_of(const char *partition, const char *row,
                        const char *column);

/* Appends the value to OUT. */
enum status kv_get(struct kv *kv, struct kv_key key, int timeout_ms,
                   struct buf *out) MUST_CHECK;

/* ---- writes ---- */

/* A batch: mutations of one partition with preconditions, all or nothing.
 * Adders copy what they are given; limits are checked by kv_run(). Their
 * return is the mutation's index, by which results are asked for. */
struct kv_batch *kv_batch_new(struct slice partition);
void kv_batch_free(struct kv_batch *b);
void kv_batch_require_absent(struct kv_batch *b, const char *row,
                             const char *column);
void kv_batch_require_exists(struct kv_batch *b, const char *row,
                             const char *column);
void kv_batch_require_equal(struct kv_batch *b, const char *row,
                            const char *column, struct slice value);
/* No cell of ROW has a column that starts with PREFIX. */
void kv_batch_require_none_below(struct kv_batch *b, const char *row,
                                 const char *prefix);
int kv_batch_put(struct kv_batch *b, const char *row, const char *column,
                 struct slice value);
/* As put; VALUE is followed by mutation SUFFIX_OF's result, 16 hex digits. */
int kv_batch_put_suffixed(struct kv_batch *b, const char *row,
                          const char *column, struct slice value,
                          int suffix_of);
int kv_batch_delete(struct kv_batch *b, const char *row, const char *column);
/* At most LIMIT_DELETE_PREFIX cells go; result->more says if some are left. */
int kv_batch_delete_prefix(struct kv_batch *b, const char *row,
                           const char *column_prefix);
/* The same over all rows that start with ROW_PREFIX. */
int kv_batch_delete_rows(struct kv_batch *b, const char *row_prefix);
int kv_batch_increment(struct kv_batch *b, const char *row, const char *column,
                       int64_t delta);
/* Refused with ST_BOUND if it would pass BOUND (above for a positive delta,
 * below for a negative one). */
int kv_batch_increment_bounded(struct kv_batch *b, const char *row,
                               const char *column, int64_t delta,
                               int64_t bound);
/* Puts VALUE at column PREFIX followed by the next value of the counter in
 * column COUNTER of the same row, as 16 hex digits; the result is that
 * value. */
int kv_batch_add(struct kv_batch *b, const char *row, const char *prefix,
                 const char *counter, struct slice value);

/* What a batch gave. */
struct kv_result {
    uint16_t failed; /* on a refusal: index of the condition or mutation */
    bool more;
    uint32_t count;
    struct {
        uint16_t mutation;
        int64_t value;
    } values[LIMIT_RESULT_VALUES];
    /* On ST_UNKNOWN_OUTCOME: what kv_settle() needs. */
    struct kv_pending {
        uint32_t tablet;
        uint64_t session, number;
    } pending;
};
/* Value of mutation INDEX; false if it has none. */
bool kv_result_value(const struct kv_result *r, int index, int64_t *out);

/* Runs B once (kept by the caller). RESULT may be NULL: then an unknown
 * outcome is given up, and its number closed. */
enum status kv_run(struct kv *kv, const struct kv_batch *b, int timeout_ms,
                   struct kv_result *result) MUST_CHECK;

/* After ST_UNKNOWN_OUTCOME: makes the outcome known (R23). ST_OK: it
 * happened, RESULT is its own; ST_VOID: it did not and never will; its own
 * refusal; ST_UNKNOWN_OUTCOME: still unknown, may be asked again;
 * ST_UNKNOWN_CLIENT: the session is lost, the caller must look. */
enum status kv_settle(struct kv *kv, struct kv_result *result,
                      int timeout_ms) MUST_CHECK;
/* Gives up an unknown outcome for good, so that its number can be closed. */
void kv_abandon(struct kv *kv, const struct kv_result *result);

/* Batches of one. */
enum status kv_put(struct kv *kv, struct kv_key key, struct slice value,
                   int timeout_ms) MUST_CHECK;
enum status kv_delete(struct kv *kv, struct kv_key key,
                      int timeout_ms) MUST_CHECK;
/* EXPECTED NULL: must be absent. ST_CONFLICT if it is otherwise. */
enum status kv_cput(struct kv *kv, struct kv_key key,
                    const struct slice *expected, struct slice value,
                    int timeout_ms) MUST_CHECK;

/* ---- scans ---- */

struct kv_scan {
    struct slice partition;
    struct slice row; /* prefix, or the whole row */
    bool row_exact;
    struct slice column_prefix;
    bool reverse;
    /* Last key of the page before; has_after false: from the start. */
    bool has_after;
    struct slice after_row, after_column;
    uint32_t limit; /* cells; 0: as many as fit in a page */
};
/* A page; cells live in ARENA. *MORE: something may follow. */
enum status kv_scan_page(struct kv *kv, const struct kv_scan *scan,
                         int timeout_ms, struct arena *arena,
                         struct cell **cells, size_t *count,
                         bool *more) MUST_CHECK;

/* Waits until KEY's value differs from SEEN (NULL: absent), at most WAIT_MS.
 * ST_OK: it differs, *FOUND and OUT tell the new value; ST_TIMEOUT: not
 * within WAIT_MS. */
enum status kv_watch(struct kv *kv, struct kv_key key, const struct slice *seen,
                     int wait_ms, bool *found, struct buf *out) MUST_CHECK;

/* ---- the cluster, for pennctl and status pages ---- */

/* Current map, copied into ARENA; NULL while none is known. */
const struct msg_map *kv_map(struct kv *kv, struct arena *arena);
/* Sends the encoded frame REQUEST (request id ignored) to the coordinator,
 * or to node NODE if not 0, and gives the answer, which lives in ARENA. */
enum status kv_call(struct kv *kv, uint32_t node, const struct buf *request,
                    int timeout_ms, struct arena *arena,
                    struct wire_msg *answer) MUST_CHECK;

/* Counters of retries, unknown outcomes, re-sends, for /metrics. */
struct kv_stats {
    uint64_t requests, retries, resends, unknown, settled, map_changes;
};
void kv_get_stats(struct kv *kv, struct kv_stats *out);

#endif
