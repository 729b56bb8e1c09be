/*
 * The simulated disk: faults of one host's. Sectors have 512 bytes. What was
 * not synced when the power goes survives wholly, not at all, as a torn
 * prefix, or as any set of its sectors; unsynced changes of directories
 * survive as a prefix of their order.
 */
#ifndef TESTS_SIM_SIM_DISK_H
#define TESTS_SIM_SIM_DISK_H

#include "tests/sim/sim_world.h"

#define SIM_SECTOR 512u

/* Each fdatasync takes EXTRA_US longer. */
void sim_disk_slow(struct sim_host *h, int64_t extra_us);
/* No operation completes until it is let go. */
void sim_disk_hang(struct sim_host *h, bool hung);
/* The N-th sync from now on (1: the next) fails with ST_IO; what was unsynced
 * in that file never reaches the medium, though the page cache shows it. 0:
 * none. */
void sim_disk_fail_sync(struct sim_host *h, uint32_t n);
/* The N-th write from now on fails with ST_IO after part of it is done. */
void sim_disk_fail_write(struct sim_host *h, uint32_t n);
/* Each file_fetch takes EXTRA_US longer. */
void sim_disk_slow_fetch(struct sim_host *h, int64_t extra_us);
/* The N-th file_fetch from now on fails with ST_IO. */
void sim_disk_fail_fetch(struct sim_host *h, uint32_t n);
/* The disk holds at most BYTES; 0: no limit. */
void sim_disk_limit(struct sim_host *h, uint64_t bytes);
uint64_t sim_disk_used(const struct sim_host *h);

/* All files go; the host must not run a process. */
void sim_disk_wipe(struct sim_host *h);
/* All but those whose name begins with PREFIX. */
void sim_disk_wipe_but(struct sim_host *h, const char *prefix);
/* A copy of what the disk holds now, and back to it (no process runs). */
struct sim_disk_image;
struct sim_disk_image *sim_disk_save(const struct sim_host *h);
void sim_disk_restore(struct sim_host *h, const struct sim_disk_image *image);
void sim_disk_image_free(struct sim_disk_image *image);

/* Damage on the medium. False if there is no such file or place. */
bool sim_disk_flip_bit(struct sim_host *h, const char *name, uint64_t offset,
                       unsigned bit);
bool sim_disk_overwrite(struct sim_host *h, const char *name, uint64_t offset,
                        struct slice bytes);
bool sim_disk_truncate(struct sim_host *h, const char *name, uint64_t size);
bool sim_disk_remove(struct sim_host *h, const char *name);
/* True if any of these was ever done to H. */
bool sim_disk_was_damaged(const struct sim_host *h);
/* Calls FN for each file with its name and size, in order of creation. */
void sim_disk_each(struct sim_host *h,
                   void (*fn)(void *ctx, const char *name, uint64_t size),
                   void *ctx);
/* Appends the whole file as the medium has it to OUT; false if none. */
bool sim_disk_read(struct sim_host *h, const char *name, struct buf *out);
/* Replaces or makes a file on the medium. */
void sim_disk_write(struct sim_host *h, const char *name, struct slice bytes);

#endif
