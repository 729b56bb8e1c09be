/*
 * Watching the log being opened: what wal_open() finds and reads, for
 * explaining a data directory (inspect.h). A witness decides nothing.
 */
#ifndef STORAGE_WAL_WITNESS_H
#define STORAGE_WAL_WITNESS_H

#include "storage/wal.h"

/* Kinds in files, from 1 on: enum wal_kind, and the seal. */
#define WAL_KINDS 10
const char *wal_kind_name(int kind);
/* The log's own: of no tablet. */
bool wal_kind_is_own(int kind);

/* A segment's file, or one that is missing. */
struct wal_found {
    uint32_t slot;   /* in its name; 0: the file is missing */
    bool has_header; /* of this format, whole */
    bool cut_short;  /* of the file */
    bool live;       /* of the chain that is read; else spare, or kept for the
                        live values that it holds (wal_kept.c) */
    uint64_t file_size;
    uint64_t sequence, base, size, begin, counter; /* as its header says */
};

struct wal_witness {
    /* The note beside the log; NOTED false: there is none, or none whole. */
    void (*note)(void *ctx, bool noted, uint64_t begin, uint64_t known);
    /* All segments, before any record. */
    void (*segment)(void *ctx, const struct wal_found *f);
    /* Each valid record, marks and seals included, with the start counter and
     * the mark that it carries. */
    void (*record)(void *ctx, const struct wal_record *r, uint64_t counter,
                   uint64_t mark);
    /* A range that was on disk and does not read any more. */
    void (*damage)(void *ctx, uint64_t from, uint64_t to);
    void *ctx;
};

#endif
