/*
 * The named scenarios; numbers are those of the project's list of scenarios.
 * Each is run with many seeds: times, latencies, what the clients do and what
 * a crash leaves differ. After the script everything is mended, the cluster
 * must become whole, and all that was acknowledged is audited.
 */
#include "tests/sim/scenario.h"

#include <stddef.h>

#define ONE_WAY(from, to)                                                      \
    "let P primary; let S secondary; let C coordinator-1; wait 500;"           \
    "oneway " from " " to "; wait 6000; await_writes 3000; heal;"              \
    "await_whole 40000"

const struct scenario scenarios[] = {
    {"primary-cut-from-coordinator", "1: others and clients reach it", 0, 0, 0,
     "let P primary; cut P coordinator-1; await_moved P 3000;"
     "await_writes 3000; wait 3000; heal; await_whole 40000"},
    {"primary-and-secondary-cut", "2: both see the coordinator", 0, 0, 0,
     "let P primary; let S secondary; mark; cut P S; await_writes 4000;"
     "wait 26000; expect_epochs 3; await_writes 2000; heal;"
     "await_whole 40000"},
    {"oneway-primary-secondary", "3", 0, 0, 0, ONE_WAY("P", "S")},
    {"oneway-secondary-primary", "3", 0, 0, 0, ONE_WAY("S", "P")},
    {"oneway-primary-coordinator", "3", 0, 0, 0, ONE_WAY("P", "C")},
    {"oneway-for-long", "3: no epoch is made in vain", 0, 0, 0,
     "let P primary; let C coordinator-1; wait 500; oneway P C;"
     "await_moved P 3000; wait 1500; mark; wait 12000; expect_epochs 1;"
     "expect_gap 2000; heal; await_whole 40000; await_writes 2000"},
    {"oneway-coordinator-primary", "3", 0, 0, 0, ONE_WAY("C", "P")},
    {"oneway-secondary-coordinator", "3", 0, 0, 0, ONE_WAY("S", "C")},
    {"oneway-coordinator-secondary", "3", 0, 0, 0, ONE_WAY("C", "S")},
    {"primary-with-one-client", "4: cut from all but a client", 0, 0, 0,
     "let P primary; isolate P; heal P client-1; await_moved P 3000;"
     "wait 3000; await_writes 3000; heal; await_whole 40000"},
    {"primary-stopped", "5: beyond lease and detection, then continued", 0, 0,
     0,
     "let P primary; wait 300; pause P; await_moved P 3000;"
     "await_writes 3000; wait 500; resume P; await_whole 40000;"
     "let Q primary; wait 100; pause Q; wait 210; resume Q; wait 1000"},
    {"primary-stopped-anywhere", "5: also between check and reply", 0, 0, 0,
     "let P primary; preempt P 3000 1500; wait 8000; preempt P 0 1;"
     "let Q primary; preempt Q 3000 400; wait 5000; preempt Q 0 1;"
     "await_whole 40000"},
    {"secondary-wiped",
     "6: returns empty under its name, then the primary dies", 0, 0, 0,
     "let S secondary; stop S; wait 200; wipe S; start S; wait 150;"
     "let P primary; stop P; wait 3000; start P; await_whole 60000;"
     "await_writes 2000"},
    {"two-wiped-secondary", "6: with two replicas", 2, 2, 0,
     "let S secondary; let P primary; stop S; wipe S; start S; wait 50;"
     "stop P; expect_no_writes 4000; start P; await_whole 60000;"
     "await_writes 2000"},
    {"left-behind", "7: A dies, B goes on and dies, A returns first", 0, 0, 0,
     "let A storage-1; let B storage-2; let C storage-3;"
     "stop A; await_writes 4000; wait 1500; stop B; stop C; start A;"
     "expect_no_writes 4000; start B; wait 2000; start C;"
     "await_whole 60000; await_writes 2000"},
    {"two-left-behind", "7: with two replicas", 2, 2, 0,
     "stop storage-1; wait 2000; stop storage-2; start storage-1; wait 4000;"
     "start storage-2; await_whole 60000; await_writes 2000;"
     "stop storage-2; wait 2000; stop storage-1; start storage-2; wait 4000;"
     "start storage-1; await_whole 60000; await_writes 2000"},
    {"different-tails", "8: two failovers within 100 ms", 0, 0, 0,
     "let P primary; let S secondary; latency P S 40; wait 500; kill P 2000;"
     "wait 60; kill S 1000; await_whole 60000; let Q primary;"
     "let R secondary; let T secondary-2; isolate Q; wait 900; heal; kill R;"
     "wait 50; kill T; await_whole 60000"},
    {"coordinator-dies-changing", "9: before each step of its register", 0, 0,
     0,
     "fail_at_step coordinator-1 1; kill secondary; wait 2000;"
     "fail_at_step coordinator-1 2; kill primary; wait 2000;"
     "fail_at_step coordinator-1 3; kill primary; wait 2000;"
     "lose_power_at_step coordinator-1 1; kill secondary; wait 2000;"
     "lose_power_at_step coordinator-1 2; kill primary; wait 2000;"
     "lose_power_at_step coordinator-1 3; kill primary; wait 2000;"
     "await_whole 60000; await_writes 2000"},
    {"coordinator-from-old-copy", "10: it refuses to act", 0, 0, 0,
     "save_disk coordinator-1 old; let P primary; kill P 3000;"
     "await_moved P 3000; await_whole 60000; stop coordinator-1;"
     "save_disk coordinator-1 new; restore_disk coordinator-1 old;"
     "start coordinator-1; wait 100; await_down coordinator-1 5000;"
     "stop coordinator-1; restore_disk coordinator-1 new;"
     "start coordinator-1; await_whole 60000; await_writes 2000"},
    {"messages-disturbed", "11: lost, doubled, reordered, late", 0, 0, 0,
     "lossy 3000; wait 3000; kill primary; wait 3000; let P primary;"
     "isolate P; wait 1500; heal; wait 2000; lossy 20000; wait 3000;"
     "lossy 0; await_whole 60000; await_writes 2000"},
    {"failed-sync", "15: EIO once, on log and coordinator", 0, 0, 0,
     "fail_sync secondary 2; wait 3000; fail_sync primary 3; wait 3000;"
     "fail_sync coordinator-1 1; kill secondary; wait 3000;"
     "fail_write primary 2; wait 3000; await_whole 60000;"
     "await_writes 2000"},
    {"disk-full", "16: on secondary, primary, coordinator", 0, 0, 0,
     "full_disk secondary 100; wait 8000; free_disk storage-1; free_disk "
     "storage-2; free_disk storage-3; await_whole 60000; let P primary;"
     "full_disk P 2000; wait 8000; free_disk P; await_whole 60000;"
     "full_disk coordinator-1; kill secondary; wait 3000; free_disk "
     "coordinator-1; await_whole 60000; await_writes 3000"},
    {"all-disks-full", "16: writes refused, reads go on, then all is well", 0,
     0, 0,
     "mark; full_disk all 100; await_no_writes 400000; expect_no_writes 3000;"
     "await_reads 20000; expect_committed; free_disk all; await_writes 4000;"
     "await_whole 40000; expect_starts storage-1 0; expect_starts storage-2 0;"
     "expect_starts storage-3 0; expect_starts coordinator-1 0"},
    {"primarys-disk-full", "16: one with room takes over", 0, 0, 0,
     "let P primary; mark; full_disk P; await_moved P 400000;"
     "await_out P 3000; expect_gap 3000; await_writes 2000; wait 20000;"
     "expect_gap 3000; free_disk P; await_whole 40000; expect_gap 3000;"
     "expect_starts storage-1 0; expect_starts storage-2 0;"
     "expect_starts storage-3 0"},
    {"secondarys-disk-full", "16: the others go on without it", 0, 0, 0,
     "let S secondary; mark; full_disk S; await_out S 400000; expect_gap 3000;"
     "await_writes 2000; wait 20000; expect_gap 3000; free_disk S;"
     "await_whole 40000; expect_gap 3000; expect_starts storage-1 0;"
     "expect_starts storage-2 0; expect_starts storage-3 0"},
    {"one-disk-of-two-full", "16: I cannot shrink: refused, and nothing lost",
     2, 2, 0,
     "mark; full_disk secondary; await_no_writes 400000; await_reads 20000;"
     "expect_committed; expect_epochs 1; free_disk storage-1;"
     "free_disk storage-2; await_writes 4000; await_whole 40000;"
     "full_disk primary; await_no_writes 400000; await_reads 20000;"
     "free_disk storage-1; free_disk storage-2; await_writes 4000;"
     "await_whole 40000"},
    {"full-disks-lose-power", "16, 19: and come back full", 0, 0, 0,
     "full_disk all 100; await_no_writes 400000; power_off all; start all;"
     "wait 8000; kill primary; wait 2000; free_disk all; await_writes 20000;"
     "await_whole 60000"},
    {"disk-slow", "17: by 200 ms and 2 s, then never", 0, 0, 0,
     "let S secondary; slow_disk S 200; await_writes 2000; wait 3000;"
     "slow_disk S 2000; wait 5000; await_writes 3000; free_disk S;"
     "await_whole 60000; let P primary; hang_disk P; await_moved P 5000;"
     "await_writes 3000; free_disk P; await_whole 60000"},
    {"all-lose-power", "19: under load, returning in any order", 0, 0, 0,
     "power_off all; wait 500; start storage-2; wait 300; start coordinator-1;"
     "wait 1500; start storage-1; wait 2500; start storage-3;"
     "await_whole 60000; await_writes 2000; power_off all; wait 100;"
     "start all; await_whole 60000; await_writes 2000"},
    {"wall-clock-steps", "20: by an hour and ten years", 0, 0, 0,
     "mark; step_wall all 3600000; wait 3000; step_wall all 315360000000;"
     "wait 3000; step_wall all -315400000000; wait 3000; expect_epochs 1;"
     "expect_gap 2000"},
    {"catch-up-disturbed", "21: source dies, log recycled, primary changes", 0,
     0, 0,
     "let S secondary; stop S; wait 12000; start S; wait 400; kill primary;"
     "wait 4000; let T secondary; stop T; wait 5000; wipe T; start T;"
     "wait 300; kill T 200; wait 1000; kill primary; await_whole 60000;"
     "await_writes 2000"},
    {"retry-across-failovers", "23: one effect, same answer", 0, 0, 0,
     "kill primary 500; wait 1500; kill primary 500; wait 1500;"
     "reset primary; wait 500; reset primary; kill primary 500;"
     "await_whole 60000; await_writes 2000"},
    {"slow-lease", "25: slow disk and late beacons at a renewal", 0, 0, 0,
     "let P primary; let S secondary; slow_disk S 150; latency S P 90;"
     "latency P S 90; wait 4000; kill P 1000; wait 3000; latency S P 0;"
     "latency P S 0; free_disk S; await_whole 60000"},
    {"late-echo", "25: an echo of an old epoch arrives when the cut heals", 0,
     0, 0,
     "let P primary; let S secondary; let T secondary-2; wait 300;"
     "oneway S P; oneway T P; wait 60; isolate P; await_moved P 3000;"
     "wait 600; heal P client-1; heal P S; heal P T; wait 700; heal;"
     "await_whole 60000"},
    {"old-primarys-late-frames", "11: they arrive when others have its epoch",
     0, 0, 0,
     "let P primary; let S secondary; let T secondary-2; latency P S 900;"
     "latency P T 900; wait 300; stop clients; kill P 4000; wait 2000;"
     "start clients; latency P S 0; latency P T 0; await_whole 60000;"
     "await_writes 3000"},
    {"left-behind-forgotten", "7: the coordinator has forgotten names, too", 0,
     0, 0,
     "stop storage-1; await_writes 4000; wait 1500; stop storage-2;"
     "stop storage-3; kill coordinator-1; start storage-1;"
     "expect_no_writes 6000; start storage-2; wait 2000; start storage-3;"
     "await_whole 60000; await_writes 2000"},
    {"all-syncs-fail", "15: on all nodes at once, then the power goes", 0, 0, 0,
     "slow_disk storage-1 30; slow_disk storage-2 30; slow_disk storage-3 30;"
     "wait 500; fail_sync storage-1 1; fail_sync storage-2 1;"
     "fail_sync storage-3 1; wait 120; power_off all; wait 100;"
     "free_disk storage-1; free_disk storage-2; free_disk storage-3;"
     "start all; await_whole 60000; await_writes 2000"},
    {"wiped-first-back", "6: the wiped one alone, after all lost power", 0, 0,
     0,
     "let S secondary; power_off all; wipe S; start coordinator-1; start S;"
     "expect_no_writes 7000; start all; await_whole 60000;"
     "await_writes 2000"},
    {"rotten-first-back", "14: a rotten log comes back alone", 0, 0, 0,
     "wait 2000; quiet; wait 300; let S secondary; power_off all; rot_log S;"
     "start coordinator-1; start S; busy; wait 6500; start all;"
     "await_whole 60000; await_writes 2000"},
    {"memory-rots", "13: in a secondary's state: found and rebuilt", 0, 0, 0,
     "wait 2000; let S secondary; rot_value S; await_mended S 20000;"
     "await_whole 40000; await_writes 2000; let P primary; rot_digest P;"
     "await_mended P 20000; await_whole 40000; await_writes 2000"},
    {"memory-of-two-rots", "14: in different places, one after the other", 0, 0,
     0,
     "wait 2000; let S secondary; let T secondary-2; rot_digest S;"
     "rot_digest T; await_mended S 30000; await_mended T 30000;"
     "await_whole 60000; await_writes 2000"},
    {"memory-of-one-of-two-rots", "R19: of two, whose own state is sound", 2, 2,
     0,
     "wait 2000; let P primary; rot_digest P; await_condemned P 20000;"
     "await_writes 5000"},
    {"files-rot", "13: while it runs: mended before they are needed", 0, 0, 0,
     "wait 3000; quiet; wait 500; let S secondary; rot_files S;"
     "await_scrubbed S 60000; await_whole 40000; busy; wait 500; let P primary;"
     "kill P 2000; await_moved P 3000; await_whole 60000; quiet; wait 500;"
     "let Q primary; rot_files Q; await_scrubbed Q 60000; await_whole 40000;"
     "busy; await_writes 2000; power_off all; start all; await_whole 60000;"
     "await_writes 2000"},
    {"files-of-two-rot", "14: of two replicas, mended from the third", 0, 0, 0,
     "wait 3000; quiet; wait 500; let S secondary; let T secondary-2;"
     "rot_files S; rot_files T; await_scrubbed S 60000; await_scrubbed T 60000;"
     "await_whole 40000; busy; wait 500; let P primary; power_off P;"
     "await_moved P 6000; await_writes 3000; start P; await_whole 60000"},
    {"dark-while-syncing", "19: power goes while all wait for slow disks", 0, 0,
     0,
     "slow_disk storage-1 150; slow_disk storage-2 150; slow_disk storage-3 "
     "150; wait 1500; power_off storage-1 100; power_off storage-2 300;"
     "power_off storage-3 200; free_disk storage-1; free_disk storage-2;"
     "free_disk storage-3; await_whole 60000; await_writes 2000"},
    {"slow-first-back",
     "19: dark while one waits for its disk, it is back first", 2, 2, 0,
     "let S secondary; slow_disk S 150; wait 2000; power_off all;"
     "free_disk S; start coordinator-1; start S; wait 6500; start all;"
     "await_whole 60000; await_writes 2000"},
    {"dark-at-the-start", "18, 19: what a start wrote is lost, or in part", 1,
     1, 0,
     "quiet; wait 300; power_off all; start all; wait 1; power_off all;"
     "start all; wait 2; power_off all; start all; wait 5; power_off all;"
     "start all; wait 10; power_off all; start all; wait 100; busy;"
     "await_whole 60000; await_writes 2000"},
    {"reads-sent-on", "R9: a client that reaches only a secondary reads", 0, 0,
     1,
     "let P primary; let X client-1; stop clients; start client-1; wait 700;"
     "quiet; wait 1000; isolate X; heal X P; kill P 300; await_moved P 3000;"
     "await_whole 20000; busy; await_reads 40000; expect_forwarded; heal;"
     "await_whole 40000"},
    {"far-apart", "R12 d: dialogues over 300 ms one way, two replicas", 2, 2, 0,
     "let P primary; let S secondary; latency P S 300; latency S P 300;"
     "wait 2000; reset P S; wait 2500; await_writes 20000;"
     "await_writes 20000; latency P S 0; latency S P 0; heal;"
     "await_whole 60000; await_writes 2000"},
    {"returns-late", "26: a node re-added after long absence", 4, 0, 0,
     "let S secondary; stop S; wait 25000; await_writes 1000; start S;"
     "await_whole 60000; await_writes 1000"},
    {"no-faults", "nothing happens: no epoch is made, no gap is long", 0, 0, 0,
     "mark; wait 10000; expect_epochs 1; expect_gap 1500;"
     "expect_starts storage-1 0"},
    {NULL, NULL, 0, 0, 0, NULL},
};
