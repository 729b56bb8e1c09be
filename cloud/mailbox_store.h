/*
 * The cells of a mailbox: names and contents; for cloud/ alone.
 */
#ifndef CLOUD_MAILBOX_STORE_H
#define CLOUD_MAILBOX_STORE_H

#include "cloud/mailbox.h"
#include "cloud/store.h"

struct store_name mailbox_row(const char *username);
struct store_name mailbox_message_row(const char *username, const char *uid);
struct store_name mailbox_pending_row(const char *username, const char *uid);
/* Also the partition of that chunk. */
struct store_name mailbox_chunk_row(const char *username, const char *uid,
                                    uint32_t i);
/* Chunks of a message of SIZE bytes; 0 if it is kept in its body cell. */
uint32_t mailbox_chunk_count(uint64_t size);

/* The index cell. */
void mailbox_write_entry(const struct mailbox_entry *e, struct buf *out);
/* Texts go into ARENA; seq is not in the cell. */
bool mailbox_parse_entry(struct slice value, struct arena *arena,
                         struct mailbox_entry *out);

/* The place cell: "<folder>/<seq>", which is the index cell's column. */
struct mailbox_place {
    char column[MAILBOX_FOLDER_MAX + 1 + MAILBOX_SEQ_TEXT + 1];
    char folder[MAILBOX_FOLDER_MAX + 1];
    char seq[MAILBOX_SEQ_TEXT + 1];
};
bool mailbox_parse_place(struct slice value, struct mailbox_place *out);
enum status mailbox_read_place(const struct cloud_op *op, const char *username,
                               const char *uid,
                               struct mailbox_place *out) MUST_CHECK;

/* pending:<uid>, column intent. */
enum intent_kind {
    INTENT_MAIL = 1, /* being delivered: SIZE bytes are counted and reserved */
    INTENT_GONE = 2, /* was visible and has been deleted ... */
    INTENT_VOID = 3, /* never was and never will be visible; of both, chunks
                        may be left; nothing is counted */
};
struct intent {
    enum intent_kind kind;
    uint32_t chunks;
    uint64_t size;
    int64_t created_ms; /* by the writer's clock */
};
void intent_write(const struct intent *i, struct buf *out);
/* False: damaged, or a kind of somebody else's (drive). */
bool intent_parse(struct slice value, struct intent *out);

/* Removes chunks 0..COUNT-1. */
enum status mailbox_delete_chunks(const struct cloud_op *op,
                                  const char *username, const char *uid,
                                  uint32_t count) MUST_CHECK;
/* Those of all messages and intents of an account that is being deleted. */
enum status mailbox_delete_all_chunks(const struct cloud_op *op,
                                      const char *username) MUST_CHECK;

/* ST_NOT_FOUND if FOLDER is not there. */
enum status mailbox_check_folder(const struct cloud_op *op,
                                 const char *username,
                                 const char *folder) MUST_CHECK;

#endif
