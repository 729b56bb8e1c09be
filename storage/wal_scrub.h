/*
 * Looking the log through on the medium while it is in use, beside the loop,
 * in pieces: does each record that a restart would read, or a place names, have
 * its checksums?
 */
#ifndef STORAGE_WAL_SCRUB_H
#define STORAGE_WAL_SCRUB_H

#include "storage/wal.h"

struct wal_scrub;

/* Of all that W keeps and that is synced now. W must outlive it. */
struct wal_scrub *wal_scrub_new(struct wal *w);
/* Not while a read is under way, unless the env's process is dead; W may be
 * gone. */
void wal_scrub_free(struct wal_scrub *s);
/* Asks for the next piece and returns its bytes; IO is told when it is there.
 * 0: the end was reached, and IO will not be told. */
size_t wal_scrub_ask(struct wal_scrub *s, struct env_io *io);
/* Where the piece begins that was asked for. */
uint64_t wal_scrub_position(const struct wal_scrub *s);
/* After IO was told READ: ST_OK; or ST_CORRUPT: nothing reads as a record from
 * *FROM up to *TO. */
enum status wal_scrub_take(struct wal_scrub *s, enum status read,
                           uint64_t *from, uint64_t *to) MUST_CHECK;

#endif
