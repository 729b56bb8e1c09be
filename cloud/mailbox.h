/*
 * A mailbox: folders, lists, messages, flags; and putting a message in. All
 * of one account is one partition, so each change is one batch: the index
 * cell, the message's place, the folder's #total and #unread and the usage
 * counter always agree.
 */
#ifndef CLOUD_MAILBOX_H
#define CLOUD_MAILBOX_H

#include "cloud/account.h"
#include "cloud/message.h"
#include "cloud/ulid.h"

#define MAILBOX_FOLDER_MAX 26 /* "inbox", ... or a ULID */
#define MAILBOX_FOLDER_NAME_MAX 128
#define MAILBOX_SEQ_TEXT 16

/* "inbox", "sent", "drafts", "archive", "junk", "trash" or a ULID. */
bool mailbox_folder_valid(struct slice id);

struct mailbox_folder {
    char id[MAILBOX_FOLDER_MAX + 1];
    char name[MAILBOX_FOLDER_NAME_MAX + 1];
    char role[16]; /* "inbox", ...; "" for the user's own */
    uint64_t uid_validity;
    int64_t unread, total, next; /* next: grows with each arrival */
};

/* All folders, the six first, into ARENA. */
enum status mailbox_folders(const struct cloud_op *op, const char *username,
                            struct arena *arena, struct mailbox_folder **out,
                            size_t *count) MUST_CHECK;
/* ST_EXISTS: a folder has that name; ST_INVALID: a bad name. */
enum status mailbox_folder_create(const struct cloud_op *op,
                                  const char *username, const char *name,
                                  char id[MAILBOX_FOLDER_MAX + 1]) MUST_CHECK;

#define MAILBOX_READ 1u
#define MAILBOX_FLAGGED 2u
#define MAILBOX_ANSWERED 4u

/* A line of a folder's list. Texts live in the arena. */
struct mailbox_entry {
    char uid[ULID_SIZE];
    char seq[MAILBOX_SEQ_TEXT + 1];
    const char *from, *to, *subject, *snippet;
    int64_t date_ms; /* of arrival */
    uint64_t size;
    unsigned flags; /* MAILBOX_* */
    unsigned attachments;
};

struct mailbox_page {
    struct mailbox_entry *entries; /* newest first */
    size_t count;
    /* For BEFORE of the next page; "" at the end. */
    char next[MAILBOX_SEQ_TEXT + 1];
};

struct mailbox_query {
    const char *username;
    const char *folder;
    unsigned limit;     /* 1..200 */
    const char *before; /* cursor, or NULL */
};
/* ST_NOT_FOUND: no such folder; ST_INVALID: a bad cursor or limit. */
enum status mailbox_list(const struct cloud_op *op,
                         const struct mailbox_query *q, struct arena *arena,
                         struct mailbox_page *out) MUST_CHECK;

/* One message. Free header with buf_free(). */
struct mailbox_message {
    char folder[MAILBOX_FOLDER_MAX + 1];
    struct mailbox_entry entry; /* in the arena */
    struct buf header;          /* JSON, see message_header_json() */
};
/* UID may be anything. ST_NOT_FOUND. */
enum status mailbox_get(const struct cloud_op *op, const char *username,
                        const char *uid, struct arena *arena,
                        struct mailbox_message *out) MUST_CHECK;

/* The raw message, in pieces of at most 4 MiB: mailbox_raw_open() finds size
 * and number of pieces, mailbox_raw_read() appends piece I to OUT. */
struct mailbox_raw {
    char username[ACCOUNT_NAME_MAX + 1];
    char uid[ULID_SIZE];
    uint64_t size;
    uint32_t pieces;
    bool is_inline; /* the one piece is in the body cell */
};
enum status mailbox_raw_open(const struct cloud_op *op, const char *username,
                             const char *uid,
                             struct mailbox_raw *out) MUST_CHECK;
enum status mailbox_raw_read(const struct cloud_op *op,
                             const struct mailbox_raw *raw, uint32_t i,
                             struct buf *out) MUST_CHECK;
/* All of it. */
enum status mailbox_read_raw(const struct cloud_op *op, const char *username,
                             const char *uid, struct buf *out) MUST_CHECK;

/* Flags become (flags & ~CLEAR) | SET. ST_NOT_FOUND. Idempotent. */
enum status mailbox_set_flags(const struct cloud_op *op, const char *username,
                              const char *uid, unsigned set,
                              unsigned clear) MUST_CHECK;
/* Into FOLDER; ST_NOT_FOUND: no such message or folder. Idempotent. */
enum status mailbox_move(const struct cloud_op *op, const char *username,
                         const char *uid, const char *folder) MUST_CHECK;
/* For ever: hides it by one batch, then removes its contents. Moving to
 * "trash" first is the caller's choice. ST_NOT_FOUND. */
enum status mailbox_delete(const struct cloud_op *op, const char *username,
                           const char *uid) MUST_CHECK;

/* Waits until FOLDER's #next differs from SEEN or WAIT_MS have passed. ST_OK:
 * *NEXT is the new value; ST_TIMEOUT. For event streams. */
enum status mailbox_wait(const struct cloud_op *op, const char *username,
                         const char *folder, int64_t seen,
                         int64_t *next) MUST_CHECK;

#endif
