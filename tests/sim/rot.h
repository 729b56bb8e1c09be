/*
 * Rot of what a running storage process has: its memory, and the files that it
 * does not read again by itself.
 */
#ifndef TESTS_SIM_ROT_H
#define TESTS_SIM_ROT_H

#include "tests/sim/cluster.h"

/* Flips a bit of a cell's value in memory, of a tablet that M follows: what a
 * primary has may be read before anybody finds out. False: there is none. */
bool rot_value(struct member *m);
/* Flips a bit of a state's running digest, of any tablet that has cells. */
bool rot_digest(struct member *m);
/* Flips a bit of each checkpoint, and of some that are not zero in each
 * segment of the log, but for where the process is about to write, and in each
 * file of the blob log. */
void rot_files(struct member *m);

/* What M found since its start: replicas that it condemned, places that its
 * scrub found, passes that it ended. */
void rot_found(struct member *m, struct storage_stats *out);

#endif
