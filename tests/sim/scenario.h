/*
 * Scenarios: scripts of fault words, the same words that the tests with real
 * processes use. A script is a text of commands separated by semicolons; each
 * is a word and its arguments. Times are milliseconds.
 *
 *   let NAME WHO            NAME stands for who WHO is now
 *   wait MS
 *   kill WHO [MS]           kill -9; the supervisor starts it again (after MS)
 *   stop WHO                kill -9, and it stays so until `start`
 *   start WHO
 *   power_off WHO [MS]      as stop, and unsynced data is lost; with MS it
 *                           comes back by itself
 *   pause WHO, resume WHO
 *   preempt WHO PPM MS      stops anywhere, also between check and reply
 *   cut A B, oneway A B, heal [A B], isolate A, reset A [B]
 *   latency A B MS
 *   lossy PPM               frames lost, doubled, reordered; 0 ends it
 *   slow_disk WHO MS, hang_disk WHO, full_disk WHO [BYTES], free_disk WHO
 *   fail_sync WHO N, fail_write WHO N
 *   fail_at_step WHO N      killed before its N-th step on disk from now
 *   lose_power_at_step WHO N
 *   wipe WHO                the disk is empty (it must be stopped)
 *   save_disk WHO NAME, restore_disk WHO NAME (it must be stopped)
 *   rot WHO                 flips a bit of some file (it must be stopped)
 *   rot_log WHO             flips bits of records in its log (the same)
 *   rot_value WHO           a bit in memory, of a tablet that it follows
 *   rot_digest WHO          a bit of a state's running digest in memory
 *   rot_files WHO           bits of checkpoints and log while it runs
 *   await_condemned WHO MS  it found a replica of its own damaged
 *   await_mended WHO MS     the same, and the others have filled it
 *   await_scrubbed WHO MS   its scrub looked through all that is there now
 *   quiet, busy             the clients begin nothing new; go on
 *   step_wall WHO MS
 *   await_whole MS          fails if it is not whole by then
 *   await_writes MS         fails if no write is acknowledged within
 *   await_reads MS          fails if no read is answered within
 *   await_moved WHO MS      tablet 0's primary is another than WHO
 *   await_out WHO MS        tablet 0's I is without WHO
 *   await_no_writes MS      fails if they have not ended by then
 *   await_down WHO MS       fails if WHO still runs then
 *   expect_no_writes MS     fails if one is acknowledged within
 *   expect_forwarded        secondaries that run have sent reads on (R9)
 *   mark, expect_epochs N   fewer than N epochs of tablet 0 since `mark`
 *   expect_committed        all that primaries took is committed
 *   expect_gap MS           no longer time without a write since `mark`
 *   expect_starts WHO N     it did not start more than N times since `mark`
 *
 * WHO is a member's name, "primary", "secondary" (sim_cluster_find()), a name
 * made by `let`, or "all" servers or "clients" (kill, stop, start, power_off,
 * preempt, full_disk, free_disk, step_wall).
 */
#ifndef TESTS_SIM_SCENARIO_H
#define TESTS_SIM_SCENARIO_H

#include "tests/sim/cluster.h"

struct scenario {
    const char *name, *about;
    unsigned storages, replicas; /* 0: 3 */
    unsigned tablets;            /* 0: some */
    const char *script;
};

/* All of them; ends with a NULL name. */
extern const struct scenario scenarios[];
const struct scenario *scenario_find(const char *name);

/* Runs SCRIPT on C, whose clients work meanwhile; false if it failed
 * (sim_cluster_fail() was called). */
bool scenario_run(struct cluster *c, const char *script);

/* Random faults until END_US, then everything is mended: no cut, no fault,
 * every member wanted. */
void nemesis_run(struct cluster *c, int64_t end_us);
/* Mends everything. */
void nemesis_mend(struct cluster *c);

#endif
