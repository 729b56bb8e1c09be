/*
 * The wire format: structs, encoders and decoders expanded from
 * messages.def, and the framing that RPC, log and checkpoint share.
 *
 * A frame is 24 bytes of header and a payload:
 *   u32 payload length, u16 message type, u16 zero, u64 request id,
 *   u64 checksum (XXH3-64 of the payload, seeded with that of the 16 bytes
 *   before)
 * A request's answer carries its request id; 0 is for what is no request.
 * A decoder meets bad input with ST_INVALID and never trusts a count or
 * length before checking it against what is there and its limit.
 */
#ifndef COMMON_WIRE_H
#define COMMON_WIRE_H

#include "common/buf.h"
#include "common/limits.h"
#include "common/status.h"

#define WIRE_MAGIC 0x434e4550u /* "PENC" */
#define WIRE_PROTOCOL_LOW 3    /* 2 had no blobs (R6), no R19 */
#define WIRE_PROTOCOL_HIGH 3
#define WIRE_HEADER 24
#define SNAPSHOT_NEW UINT64_MAX

enum role {
    ROLE_NONE = 0,
    ROLE_COORDINATOR = 1,
    ROLE_STORAGE = 2,
    ROLE_GATEWAY = 3,
    ROLE_BALANCER = 4,
    ROLE_ADMIN = 5,
    ROLE_CLIENT = 6, /* pennctl, tests */
};

/* Separate connections, so that bulk never delays a request, nor anything a
 * beacon. */
enum lane { LANE_REQUEST = 0, LANE_BULK = 1, LANE_BEACON = 2 };

/* Node states in the map. */
enum node_state {
    NODE_UNKNOWN = 0,
    NODE_UP = 1,
    NODE_DOWN = 2,
    NODE_DISABLED = 3,
    NODE_DRAINING = 4,
    NODE_STARTING = 5, /* heartbeats, but is not ready */
};

enum replica_role {
    REPLICA_NONE = 0, /* no part in its epoch yet */
    REPLICA_LEARNER = 1,
    REPLICA_SECONDARY = 2,
    REPLICA_PRIMARY = 3,
};

#define REPORT_OPEN 1u      /* primary past R12 (f) */
#define REPORT_DAMAGED 2u   /* R16: cannot vouch for its log */
#define REPORT_RECOVERED 4u /* R16 phase one is over */
#define REPORT_READONLY 8u  /* primary below min_insync */
#define REPORT_FULL 16u     /* the replica's disk is */

enum condition_kind {
    CONDITION_ABSENT = 1,
    CONDITION_EXISTS = 2,
    CONDITION_EQUALS = 3,
    CONDITION_NONE_BELOW = 4, /* no cell whose column starts with COLUMN */
};

enum mutation_kind {
    MUTATION_PUT = 1,
    MUTATION_DELETE = 2,
    MUTATION_DELETE_PREFIX = 3, /* columns of ROW that start with COLUMN */
    MUTATION_INCREMENT = 4,
    MUTATION_ADD = 5,
    /* As DELETE_PREFIX, of every row that starts with ROW. */
    MUTATION_DELETE_ROWS = 6,
};

#define MUTATION_BOUND 1u  /* INCREMENT fails with ST_BOUND beyond BOUND */
#define MUTATION_SUFFIX 2u /* value gets the suffix_of mutation's result */
/* PUT of a COMMAND_BLOBS: the value is a blob's name, length and digest, as a
 * place's bytes (storage/place.h). */
#define MUTATION_BLOB 4u

enum command_kind {
    COMMAND_BATCH = 1,
    COMMAND_INTRODUCE = 2, /* R23: its entry's seq is the session */
    COMMAND_SETTLE = 3,    /* R23: NUMBER's outcome, or void for ever */
    COMMAND_NOTHING = 4,   /* changes nothing: tests, a primary's barrier */
    /* A BATCH some of whose values are in the blob log (R6): only in entries,
     * never from a client. First in an entry's payload, it tells by itself. */
    COMMAND_BLOBS = 5,
};

enum change_kind {
    CHANGE_ADD = 1,      /* the shadow member SUBJECT joins I (R10) */
    CHANGE_REMOVE = 2,   /* SUBJECT leaves I (R11) */
    CHANGE_HANDOVER = 3, /* after RELEASE: SUBJECT becomes primary (R15) */
    CHANGE_LEAVE = 4,    /* the sender itself cannot go on (R16, R18) */
};

/* Structs. */
#define REC(rec) struct rec {
#define MSG(NAME, id, msg) struct msg_##msg {
#define END(name)                                                              \
    }                                                                          \
    ;
#define F_U8(n) uint8_t n;
#define F_U16(n) uint16_t n;
#define F_U32(n) uint32_t n;
#define F_U64(n) uint64_t n;
#define F_I64(n) int64_t n;
#define F_ID(n) struct id128 n;
#define F_BYTES(n, max) struct slice n;
#define F_REC(rec, n) struct rec n;
#define F_LIST(rec, n, max)                                                    \
    struct rec *n;                                                             \
    uint32_t n##_count;
#include "common/messages.def"

enum msg_type {
#define MSG(NAME, id, msg) MSG_##NAME = id,
#include "common/messages.def"
};

/* A decoded message; pointers go into the frame and the arena. */
struct wire_msg {
    enum msg_type type;
    uint64_t request;
    union {
#define MSG(NAME, id, msg) struct msg_##msg msg;
#include "common/messages.def"
    } u;
};

/* wire_put_<msg>: appends a whole frame to OUT. Asserts that lists are
 * within their limits; if OUT has a maximum and is full, out->full is set. */
#define MSG(NAME, id, msg)                                                     \
    void wire_put_##msg(struct buf *out, uint64_t request,                     \
                        const struct msg_##msg *m);
#include "common/messages.def"

/* As wire_put_blob_piece() of request 0, but for M's bytes, with which the
 * frame ends: they are to be sent behind it. */
void wire_put_piece_start(struct buf *out, const struct msg_blob_piece *m);

/* As the wire_put_<msg> of M's type, with M's request id. */
void wire_put(struct buf *out, const struct wire_msg *m);

/* wire_encode_<rec> appends a bare record; wire_decode_<rec> reads one, with
 * lists from ARENA, slices into the cursor's bytes; sets c->bad on bad
 * input. */
#define REC(rec)                                                               \
    void wire_encode_##rec(struct buf *out, const struct rec *r);              \
    void wire_decode_##rec(struct cursor *c, struct arena *a, struct rec *r);
#include "common/messages.def"

/* Header of a frame. */
struct wire_header {
    uint32_t length;
    uint16_t type;
    uint64_t request;
    uint64_t checksum;
};

/* Reads WIRE_HEADER bytes; ST_INVALID if the length passes LIMIT_FRAME or
 * the reserved field is not zero. */
enum status wire_read_header(const uint8_t *bytes,
                             struct wire_header *out) MUST_CHECK;

/* Decodes FRAME, a whole frame of header and payload, into *OUT. ST_INVALID:
 * wrong length, checksum or contents; ST_UNSUPPORTED: unknown type
 * (out->request is then valid). Slices of *OUT point into FRAME. */
enum status wire_decode(struct slice frame, struct arena *a,
                        struct wire_msg *out) MUST_CHECK;

/* As wire_decode, of a payload whose header was checked elsewhere. */
enum status wire_decode_payload(uint16_t type, struct slice payload,
                                struct arena *a,
                                struct wire_msg *out) MUST_CHECK;

/* Appends FRAME, a whole valid frame, to OUT as one of request REQUEST. */
void wire_readdress(struct buf *out, uint64_t request, struct slice frame);

/* "PREPARE"; "?" for an unknown type. */
const char *wire_type_name(uint16_t type);

/* Copies of records whose slices and lists then live in ARENA. */
struct tablet_config wire_copy_tablet_config(struct arena *a,
                                             const struct tablet_config *t);
struct node_info wire_copy_node_info(struct arena *a,
                                     const struct node_info *n);
struct msg_map *wire_copy_map(struct arena *a, const struct msg_map *m);

/* Names compare by epoch, then seq (R14). */
int name_compare(struct name a, struct name b);
bool name_equal(struct name a, struct name b);
bool replica_equal(struct replica a, struct replica b);
bool incarnation_equal(struct incarnation a, struct incarnation b);
const char *role_name(uint8_t role);
const char *node_state_name(uint8_t state);
const char *replica_role_name(uint8_t role);

/* Hash that places a partition (XXH3-64). */
uint64_t partition_hash(struct slice partition);

#endif
