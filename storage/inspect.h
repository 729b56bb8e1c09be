/*
 * What a data directory holds, as text: one line for each thing, the kind of
 * thing first, then key=value pairs, as in the logs. Pure: inspect_io.c reads
 * the directory, with the engine's own decoders and its own recovery, and
 * fills these structs.
 */
#ifndef STORAGE_INSPECT_H
#define STORAGE_INSPECT_H

#include "storage/blobs.h"
#include "storage/checkpoint.h"
#include "storage/node.h"
#include "storage/shard.h"
#include "storage/store.h"
#include "storage/wal_witness.h"

struct inspect_segment {
    struct wal_found f;
    uint64_t records[WAL_KINDS];
    uint64_t bytes;       /* of valid records */
    uint64_t first, last; /* positions of the first and behind the last */
    bool kept;            /* for values alone, once all is recovered: */
    uint64_t live_values; /* their bytes */
    size_t value_tablets; /* that have some, or whose checkpoint names some */
};

struct inspect_checkpoint {
    uint32_t tablet;
    uint64_t bytes;
    struct checkpoint_info info;
    uint64_t config_epoch;
    enum status status; /* ST_OK: it is whole */
    struct err err;     /* else why not, and where */
};

/* What the log has of a tablet, and what recovery makes of that. */
struct inspect_tablet {
    uint64_t records, entries;
    struct name first, last; /* entries, in the order of the log */
    uint64_t epoch;          /* newest configuration in the log; 0: none */
    uint64_t committed;      /* greatest commit noted */
    bool has_checkpoint;     /* whole */
    struct name checkpoint;
    bool recovered;
    struct tablet_report report;
    uint64_t log_from;
    uint64_t values, value_bytes, damaged_values; /* above 1 KiB, all read */
};

struct inspect_range {
    uint64_t from, to;
};

struct inspect {
    const char *dir;
    bool in_use;
    long pid;
    struct store store;
    enum status store_status, copy_status[2];
    struct err store_err;

    char folder[STORE_FOLDER_MAX];
    bool no_folder; /* it is gone: a start would be refused */
    bool noted;
    uint64_t note_begin, note_known;
    struct inspect_segment *segments;
    size_t segment_count;
    struct inspect_range *damage;
    size_t damage_count;
    struct wal_report log;
    enum status log_status; /* of reading the log ... */
    struct err log_err;
    enum status recovery_status; /* ... and of recovering all */
    struct err recovery_err;
    struct inspect_checkpoint *checkpoints;
    size_t checkpoint_count;
    struct blobs_file *blob_files;
    size_t blob_file_count;
    struct inspect_tablet *tablets; /* LIMIT_TABLETS, by number */
    uint64_t strange_records;       /* of numbers beyond */
};

/* Each appends its lines to OUT. */
void inspect_print_store(const struct inspect *p, struct buf *out);
void inspect_print_record(const struct inspect *p, const struct wal_record *r,
                          uint64_t counter, uint64_t mark, struct buf *out);
void inspect_print_log(const struct inspect *p, struct buf *out);
void inspect_print_checkpoint(const struct inspect_checkpoint *c,
                              struct buf *out);
void inspect_print_tablets(const struct inspect *p, struct buf *out);
/* A value, and whether it is what it was. */
void inspect_print_value(const struct inspect *p,
                         const struct verified_value *v, struct buf *out);
void inspect_print_blobs(const struct inspect *p, struct buf *out);
/* A line that recovery would log: its part from "module=" on. */
void inspect_print_line(struct slice line, struct buf *out);
/* The verdict; true if all is whole. */
bool inspect_print_verdict(const struct inspect *p, struct buf *out);

/* ---- gathering ---- */

/* For a witness; P's segments and tablets are its own. */
void inspect_add_segment(struct inspect *p, const struct wal_found *f);
void inspect_add_record(struct inspect *p, const struct wal_record *r);
void inspect_add_damage(struct inspect *p, uint64_t from, uint64_t to);
/* A start would keep the segment of these positions. */
void inspect_add_kept(struct inspect *p, const struct wal_kept *k);
void inspect_add_blobs(struct inspect *p, const struct blobs_file *f);
void inspect_free(struct inspect *p);

#endif
