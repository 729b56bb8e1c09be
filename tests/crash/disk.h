/*
 * The data directory of a traced process as its disk may have it. Steps follow
 * the trace: what was synced is durable, what came since is pending. A crash
 * puts what a disk could show then onto a simulated host: all that is durable
 * and, of the pending, what CHOICE lets through. Disks keep whole sectors, in
 * any order; the torn write of a choice may also end within one.
 */
#ifndef TESTS_CRASH_DISK_H
#define TESTS_CRASH_DISK_H

#include "tests/crash/trace.h"
#include "tests/sim/sim_files.h"

struct crash_disk;

struct crash_disk *crash_disk_new(void);
void crash_disk_free(struct crash_disk *d);
/* Takes R; true if a crash after it may show what one before it cannot. */
bool crash_disk_step(struct crash_disk *d, const struct trace_record *r);

enum choice_kind {
    CHOICE_NONE,    /* nothing pending */
    CHOICE_ALL,     /* all of it: a killed process */
    CHOICE_PREFIX,  /* in the order of the calls, the last write torn */
    CHOICE_SECTORS, /* any sectors, any names */
    CHOICE_WRITES,  /* whole writes, any names */
    CHOICE_KINDS
};

struct choice {
    enum choice_kind kind;
    uint64_t seed;
};

/* Fills the disk of H, which is empty. */
void crash_disk_show(const struct crash_disk *d, const struct choice *c,
                     struct sim_host *h);
/* How much is pending: names and writes. */
size_t crash_disk_pending(const struct crash_disk *d);
/* True if the folder at PATH has just what D would have without any crash:
 * else a line on stderr says what differs. For checking the trace itself. */
bool crash_disk_equals(const struct crash_disk *d, const char *path);

#endif
