/*
 * What the files of a shard's blobs share (R6, second half); the rest of the
 * shard sees the functions at the end only.
 *   shard_blobs.c     design; references, recovery, room, time
 *   shard_upload.c    a primary: commands with large values, pushing
 *   shard_incoming.c  everybody else: receiving, asking
 *   shard_keep.c      values of a snapshot
 */
#ifndef STORAGE_SHARD_BLOBS_H
#define STORAGE_SHARD_BLOBS_H

#include "storage/blob_command.h"
#include "storage/shard_impl.h"

#include <sys/queue.h>

#define UPLOADS_BYTES MIB(64) /* values of commands under way */
#define PUSHES_BYTES MIB(64)  /* of what is pushed and waited for no more */
#define PUSH_WINDOW MIB(5)    /* of one blob ahead of its receiver's word */
#define PUSH_FLIGHT MIB(16)   /* of all to one receiver */
#define PULLS_MAX 8           /* under way for one receiver */
#define ASKS_MAX 4            /* under way from here */
#define INCOMING_MAX 256      /* blobs that are being received */
#define INCOMING_IDLE_US 10000000
#define PUSH_AGAIN_US 1000000 /* without a word pieces are sent again */
#define BULK_TICK_US 50000
#define PIECE_STARTS 32 /* of so many pieces the frames' starts are kept */

/* A command whose values are on their way to the blob logs. */
struct upload {
    struct shard_blobs *k;
    struct tablet *t;
    uint64_t epoch;
    struct request *request;
    struct buf payload; /* of the entry to be */
    struct upload_part *parts;
    uint32_t count;
    uint32_t missing; /* parts not synced here */
    uint32_t waited;  /* pushes that are waited for */
    uint64_t bytes;
    TAILQ_ENTRY(upload) link;
};

struct upload_part {
    struct upload *u;
    struct blob_ref ref;
    struct blob_bytes *bytes;
    struct blob_in *in; /* NULL: synced, and referred to */
};

/* What goes before the bytes of a piece, their checksum in it: the same for
 * all receivers. */
struct piece_start {
    uint32_t tablet;
    uint64_t epoch;
    struct id128 blob;
    uint32_t offset, len; /* 0: none */
    struct buf frame;
};

/* A blob on its way to one receiver. */
struct push {
    struct shard_blobs *k;
    uint32_t tablet;
    uint64_t epoch;
    struct replica to;
    struct blob_ref ref;
    struct blob_bytes *bytes; /* NULL: being read, for one who asked */
    uint32_t sent, taken;
    int64_t progress_us;
    struct upload *u; /* that waits for it; NULL: none does (any more) */
    bool abandoned;   /* while it is read */
    TAILQ_ENTRY(push) link;
};

/* A blob that is being received. */
struct incoming {
    struct shard_blobs *k;
    struct blob_in *in;
    struct blob_ref ref;
    uint32_t tablet;
    uint64_t epoch;
    struct replica from;
    int64_t last_us;
    TAILQ_ENTRY(incoming) link;
};

struct shard_blobs {
    struct shard *s;
    struct blobs *blobs;
    struct env_timer tick;
    bool ticking;
    TAILQ_HEAD(, upload) uploads;
    uint64_t upload_bytes;
    struct piece_start starts[PIECE_STARTS]; /* of pieces, as they were sent */
    uint32_t next_start;
    TAILQ_HEAD(, push) pushes;
    TAILQ_HEAD(, incoming) incoming;
    uint32_t incoming_count;
    bool full;
};

/* What a snapshot that is being fetched has put into the blob log and is not
 * synced yet (shard_keep.c). ON_CHANGE comes when all is, or one could not be
 * written (not OK). */
struct kept_blobs {
    struct shard_blobs *k;
    TAILQ_HEAD(, kept_blob) list;
    uint32_t count;
    uint64_t bytes;
    void (*on_change)(void *ctx, enum status s);
    void *ctx;
};
void kept_blobs_init(struct kept_blobs *x, struct shard *s,
                     void (*on_change)(void *ctx, enum status s), void *ctx);
void kept_blobs_drop(struct kept_blobs *x);
/* Keeps VALUE of the (encoded) KEY. ST_BUSY: too much is on its way;
 * ST_NO_SPACE. */
enum status kept_blobs_put(struct kept_blobs *x, struct slice key,
                           struct slice value, struct place *out) MUST_CHECK;

/* ---- between these files ---- */
void bulk_tick(struct shard_blobs *k); /* something waits for time to pass */
/* Sends M over the bulk lane; false if TO is not connected. */
bool bulk_send(struct shard_blobs *k, struct replica to,
               const struct wire_msg *m);
/* The same of a piece, whose BYTES, M's, are not copied; where it is false they
 * are not taken. */
bool bulk_send_piece(struct shard_blobs *k, struct replica to,
                     const struct msg_blob_piece *m,
                     const struct env_lent *bytes);
void upload_on_state(struct shard_blobs *k, const struct env_peer *from,
                     const struct msg_blob_state *m);
void upload_on_ask(struct shard_blobs *k, const struct env_peer *from,
                   const struct msg_blob_ask *m);
void upload_on_tick(struct shard_blobs *k, int64_t now_us);
void upload_on_link(struct shard_blobs *k, uint32_t node, bool up);
void upload_on_epoch(struct shard_blobs *k, const struct tablet *t);
void upload_free_all(struct shard_blobs *k);
void incoming_on_piece(struct shard_blobs *k, const struct env_peer *from,
                       const struct msg_blob_piece *m);
void incoming_on_gone(struct shard_blobs *k, const struct env_peer *from,
                      const struct msg_blob_state *m);
void incoming_on_tick(struct shard_blobs *k, int64_t now_us);
void incoming_on_epoch(struct shard_blobs *k, struct tablet *t);
void incoming_free_all(struct shard_blobs *k);

#endif
