/*
 * The trace of a daemon's life on its disk: each system call that changes its
 * data directory, and between them, in one order, what it said to others and
 * what it meant to write. record_io.c writes it, from inside the daemon;
 * disk.c and ledger.c read it. One file for each start of the process.
 *
 * A file is records of a struct trace_head and LEN bytes of payload in the
 * host's own byte order; a torn last one is none. Calls that only change names
 * stand where they were done. A write stands where it began (TRACE_WRITE, with
 * its bytes) and where it ended (TRACE_WRITTEN); so does a sync: it makes
 * durable what ended before it began, once it has ended.
 */
#ifndef TESTS_CRASH_TRACE_H
#define TESTS_CRASH_TRACE_H

#include "common/wire.h"

#define TRACE_MAGIC 0x43525450u

enum trace_kind {
    TRACE_START = 1, /* a new process: no descriptor is open */
    TRACE_OPEN,      /* fd, of: the directory's fd, flags; name */
    TRACE_WRITE,     /* fd, id, offset, size; bytes, none if all are zeros */
    TRACE_WRITTEN,   /* id, size: how many were taken */
    TRACE_SYNC,      /* fd, id: a file's or a directory's */
    TRACE_SYNCED,    /* id, size: 0 if it failed */
    TRACE_RENAME,    /* of; name, zero byte, new name */
    TRACE_UNLINK,    /* of; name */
    TRACE_MKDIR,     /* of; name */
    TRACE_RESIZE,    /* fd, size: the file has this size now */
    TRACE_IDENTITY,  /* struct trace_identity */
    TRACE_APPEND,    /* struct trace_append: a record given to the log */
    TRACE_STATE,     /* struct trace_state: what a state is after an entry */
    TRACE_PROMISE,   /* struct trace_promise: somebody was told */
    TRACE_VALUE,     /* struct trace_value: given to the register */
    TRACE_TOLD,      /* struct trace_value: somebody was told; no hash */
};

#define TRACE_ROOT (-2) /* of: the data directory itself */
#define TRACE_CREATED 1u
#define TRACE_FOLDER 2u
#define TRACE_EMPTIED 4u /* O_TRUNC */

struct trace_head {
    uint32_t magic;
    uint32_t kind;
    uint64_t len; /* of the payload */
    int32_t fd, of;
    uint32_t flags;
    uint32_t id;
    uint64_t offset, size;
};

struct trace_identity {
    struct id128 store;
    uint64_t counter;
};

struct trace_append {
    uint32_t tablet, kind; /* enum wal_kind */
    struct name name;
    uint64_t seq;
    uint64_t hash;  /* of the payload */
    uint64_t epoch; /* EPOCH: the configuration's */
};

struct trace_state {
    uint32_t tablet, zero;
    struct name name;
    struct id128 digest;
};

struct trace_promise {
    uint32_t tablet, zero;
    uint64_t epoch;   /* 0: not of an epoch */
    struct name name; /* seq 0: not of an entry */
};

struct trace_value {
    uint64_t promised, accepted, version, hash;
};

/* One record, in memory. */
struct trace_record {
    struct trace_head h;
    struct slice payload;
};

/* The traces of one process' starts, in order, as one. */
struct trace {
    struct trace_record *at;
    size_t count, cap;
    void *maps[64]; /* what the slices point into */
    size_t lens[64], map_count;
};

/* Reads PATH.0, PATH.1, ...; false with a line on stderr if there is none or
 * one is no trace. */
bool trace_load(struct trace *t, const char *path);
void trace_free(struct trace *t);
/* A copy of R's payload as one of the structs above; asserts its length. */
void trace_get(const struct trace_record *r, void *out, size_t len);

#endif
