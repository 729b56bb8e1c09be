/*
 * A daemon that writes a trace (trace.h) of what it does to its disk and says
 * to others: the daemon's own code, linked with --wrap around the system calls
 * that change files (listed in local.mk), so that the real env is
 * what is recorded, and around a few of the product's own functions.
 *
 * PENN_CRASH_TRACE: the trace's path; PENN_CRASH_DIR: the data directory.
 * PENN_CRASH_PLANT: a call of the program's that is left out, or done by
 * halves, without its knowing: what a program does that forgot it.
 *   no-root-sync        no fsync of the data directory
 *   no-shard-sync       no fsync of a folder in it
 *   no-sync             no fdatasync of a file
 *   short-write         writes are done by halves and said to be whole
 *   no-publish-sync     no fsync of a file before it is renamed
 * PENN_CRASH_BUGS: bits of storage/bugs.def, or of the coordinator's.
 *
 * Other calls fail as a test asks for: fault_io.h.
 *
 * On SIGUSR1 the process dies as by SIGKILL, at a moment at which no call is
 * under way: so the trace has just what the page cache has.
 */
#ifndef TESTS_CRASH_RECORD_IO_H
#define TESTS_CRASH_RECORD_IO_H

#include "tests/crash/trace.h"

struct env;

/* Opens the trace; ends the process if it cannot. */
void record_begin(void);
void record_note(enum trace_kind kind, const void *data, size_t len);
/* From now on HEARD gets each message that is sent over E, before it is sent;
 * on E's loop. */
void record_tap(struct env *e, void (*heard)(const struct wire_msg *m));

#endif
