/*
 * Files of a simulated disk, for sim_disk.c and sim_disk_ops.c.
 */
#ifndef TESTS_SIM_SIM_FILES_H
#define TESTS_SIM_SIM_FILES_H

#include "tests/sim/sim_internal.h"

#define SIM_PAGE 4096u
#define SIM_FOLDERS 16

/* A write that the medium has not got. */
struct dirty {
    struct dirty *next;
    uint64_t offset;
    size_t len;
    bool lost; /* a sync failed: the medium never gets it */
    uint8_t data[];
};

/* Inodes that were one share it until one of them changes it. */
struct page {
    int refs;
    uint8_t data[SIM_PAGE];
};

struct inode {
    int refs;
    uint64_t size, medium_size;
    struct page **pages; /* absent ones are zeros */
    size_t page_count;
    struct dirty *writes, *writes_tail;
};

struct dent {
    char *name;
    struct inode *ino;
};

struct dents {
    struct dent *at;
    size_t count, cap;
};

/* NAME is INO from now on (NULL: there is no NAME any more), and in the same
 * instant there is no GONE. */
struct name_change {
    struct name_change *next;
    char *name;
    char *gone; /* may be NULL */
    struct inode *ino;
};

struct sim_disk {
    struct dents names, medium;
    struct name_change *changes;
    char *folders[SIM_FOLDERS];
    size_t folder_count;
    int64_t slow_us, slow_fetch_us;
    uint32_t fail_sync_in, fail_write_in, fail_fetch_in;
    uint64_t limit;
    bool hung, damaged;
    struct sim_op *held; /* due, but the disk hangs */
};

struct inode *inode_new(void);
void inode_unref(struct inode *i);
/* Another with what FROM's medium has; costs nothing but memory of names. */
struct inode *inode_share(const struct inode *from);
/* Reads what the page cache (MEDIUM: the medium) has; returns the length. */
size_t inode_read(const struct inode *i, uint64_t offset, uint8_t *out,
                  size_t len, bool medium);
void inode_write(struct inode *i, uint64_t offset, const uint8_t *data,
                 size_t len);
void inode_to_medium(struct inode *i, uint64_t offset, const uint8_t *data,
                     size_t len);
/* Zeros, of which none takes memory that has none yet. */
void inode_zero_medium(struct inode *i, uint64_t offset, uint64_t len);
/* Cuts what the medium has, or adds zeros to it. */
void inode_resize_medium(struct inode *i, uint64_t size);
void inode_synced(struct inode *i);
void inode_sync_failed(struct inode *i);
void inode_power_lost(struct inode *i, struct sim_rng *r);
void inode_cache_dropped(struct inode *i);

struct dent *dents_find(struct dents *d, const char *name);
bool in_folder(const char *name, const char *folder);
struct inode *disk_create(struct sim_disk *d, const char *name);
/* Puts INO (taken) on the medium as NAME. */
void disk_place_take(struct sim_disk *d, const char *name, struct inode *ino);
void disk_rename(struct sim_disk *d, const char *from, const char *to);
void disk_unlink(struct sim_disk *d, const char *name);
/* Makes durable what changed in the folder that NAME is in. */
void disk_sync_folder(struct sim_disk *d, const char *name);
/* The disk hangs no more. */
void disk_let_go(struct sim_host *h);

#endif
