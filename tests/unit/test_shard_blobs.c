/*
 * Large values between a primary and a secondary (R6, second half), one of
 * them played by hand: no entry before its blobs are synced, on either side;
 * and what a faulty peer sends is refused and takes no memory.
 */
#include "storage/blob_command.h"
#include "storage/key.h"
#include "tests/unit/node_rig.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

#define A_WHILE (200 * SIM_MS)
#define SIZE KIB(100)

static struct node_rig g;
static uint8_t bytes[SIZE];
static uint32_t states; /* heard by await_state() */

static void begin(void)
{
    node_rig_start(&g);
    states = 0;
    for (size_t i = 0; i < SIZE; i++) {
        bytes[i] = (uint8_t)(i * 7 + (i >> 8));
    }
}

static void end(void)
{
    ck_assert(!g.fatal);
    node_rig_stop(&g);
}

static struct slice value(void)
{
    return slice_make(bytes, SIZE);
}

/* ---- the node follows ---- */

static uint64_t key_seed(void)
{
    struct key k;
    key_encode(&k, slice_of("p"), slice_of("r"), slice_of("c"));
    return place_seed(key_slice(&k));
}

static struct msg_blob_piece piece(uint8_t id, uint32_t offset, uint32_t len)
{
    return (struct msg_blob_piece){
        .tablet = 1,
        .epoch = 1,
        .blob = {{id}},
        .length = SIZE,
        .digest = blob_digest(key_seed(), value()),
        .seed = key_seed(),
        .offset = offset,
        .bytes = slice_make(bytes + offset, len),
    };
}

static void send_piece(const struct msg_blob_piece *p)
{
    struct wire_msg m = {.type = MSG_BLOB_PIECE, .u.blob_piece = *p};
    party_send(&g.peer, g.peer.conns[g.peer.conn_count - 1], &m);
}

/* The node's next word on a blob. */
static struct msg_blob_state await_state(void)
{
    ck_assert(party_await(&g, &g.peer, MSG_BLOB_STATE, states + 1, SIM_S));
    states = g.peer.heard[MSG_BLOB_STATE];
    return party_last(&g.peer, MSG_BLOB_STATE)->u.blob_state;
}

static void begin_following(void)
{
    node_rig_enter(&g, 1, 2);
    world_run_for(g.w, A_WHILE);
    party_call(&g, &g.peer);
}

static void send_prepare(const struct command *c, struct name name)
{
    struct buf payload = {0};
    struct wire_msg m = {.type = MSG_PREPARE};
    wire_encode_command(&payload, c);
    m.u.prepare = (struct msg_prepare){.tablet = 1,
                                       .epoch = 1,
                                       .entry = name,
                                       .previous = {name.seq > 1, name.seq - 1},
                                       .payload = buf_slice(&payload)};
    party_send(&g.peer, g.peer.conns[g.peer.conn_count - 1], &m);
    buf_free(&payload);
    world_run_for(g.w, 50 * SIM_MS);
}

/* An entry that puts blob ID into a cell. */
static void prepare_blob(uint8_t id, struct name name)
{
    uint8_t room[PLACE_MAX];
    struct place p = {.tag = VALUE_BLOB,
                      .blob = {{id}},
                      .len = SIZE,
                      .digest = blob_digest(key_seed(), value())};
    struct mutation put = {.kind = MUTATION_PUT,
                           .flags = MUTATION_BLOB,
                           .row = slice_of("r"),
                           .column = slice_of("c"),
                           .value = place_encode(&p, room)};
    struct command c = {.kind = COMMAND_BLOBS,
                        .client = {{1}},
                        .session = 1,
                        .number = 1,
                        .oldest_open = 1,
                        .partition = slice_of("p"),
                        .mutations = &put,
                        .mutations_count = 1};
    send_prepare(&c, name);
}

static void prepare_nothing(struct name name)
{
    struct command c = {.kind = COMMAND_NOTHING};
    send_prepare(&c, name);
}

START_TEST(pieces_are_taken_in_order)
{
    begin_following();
    struct msg_blob_piece p = piece(9, 0, KIB(40));
    send_piece(&p);
    ck_assert_uint_eq(await_state().taken, KIB(40));
    send_piece(&p); /* again */
    struct msg_blob_state s = await_state();
    ck_assert(s.status == ST_MORE && s.taken == KIB(40) && !s.synced);
    p = piece(9, KIB(60), KIB(40)); /* something is missing */
    send_piece(&p);
    s = await_state();
    ck_assert(s.status == ST_MORE && s.taken == KIB(40));
    p = piece(9, KIB(20), KIB(80)); /* it is there in part */
    send_piece(&p);
    s = await_state();
    ck_assert(s.status == ST_OK && s.taken == SIZE && s.synced);
    p = piece(9, 0, KIB(40));
    send_piece(&p); /* as of one whose word was lost */
    ck_assert(await_state().synced);
    p = piece(8, KIB(40), KIB(40)); /* of one that it has not heard of */
    send_piece(&p);
    s = await_state();
    ck_assert(s.status == ST_MORE && s.taken == 0);
}
END_TEST

static const struct {
    const char *what;
    uint32_t length, offset, len;
    uint8_t spoil; /* what of a blob whose first 40 KiB are there */
    enum status want;
} bad_pieces[] = {
    {"empty", SIZE, KIB(40), 0, 0, ST_INVALID},
    {"behind the end", SIZE, SIZE - 10, 20, 0, ST_INVALID},
    {"far behind the end", SIZE, UINT32_MAX - 5, 20, 0, ST_INVALID},
    {"no large value", KIB(16), 0, KIB(16), 0, ST_INVALID},
    {"too large", LIMIT_VALUE + 1, 0, KIB(40), 0, ST_INVALID},
    {"of another length", SIZE - 1, KIB(40), KIB(40), 0, ST_INVALID},
    {"of another digest", SIZE, KIB(40), KIB(40), 1, ST_INVALID},
    {"with another seed", SIZE, KIB(40), KIB(40), 2, ST_INVALID},
    {"not what was promised", SIZE, KIB(40), KIB(60), 3, ST_CORRUPT},
};

START_TEST(bad_pieces_are_refused)
{
    begin_following();
    struct msg_blob_piece p = piece(9, 0, KIB(40));
    send_piece(&p);
    ck_assert_uint_eq(await_state().taken, KIB(40));
    p = piece(9, 0, 0);
    p.length = bad_pieces[_i].length;
    p.offset = bad_pieces[_i].offset;
    p.bytes = slice_make(bytes, bad_pieces[_i].len);
    if (bad_pieces[_i].spoil == 1) {
        p.digest.b[2] ^= 1;
    } else if (bad_pieces[_i].spoil == 2) {
        p.seed++;
    }
    send_piece(&p);
    struct msg_blob_state s = await_state();
    ck_assert_msg(s.status == bad_pieces[_i].want && !s.synced, "%s: %s",
                  bad_pieces[_i].what, status_name((enum status)s.status));
    p = piece(7, 0, SIZE); /* and it goes on */
    send_piece(&p);
    ck_assert(await_state().synced);
}
END_TEST

/* So many at once, and no more; those that are given up make room. */
START_TEST(blobs_under_way_are_bounded)
{
    begin_following();
    struct msg_blob_piece p = piece(9, 0, KIB(1));
    uint32_t refused = 0;
    for (uint32_t i = 0; i < 300; i++) {
        memcpy(p.blob.b, &i, sizeof(i));
        p.blob.b[15] = 1;
        send_piece(&p);
        refused += await_state().status == ST_BUSY;
    }
    ck_assert_uint_eq(refused, 300 - 256);
    world_run_for(g.w, 11 * SIM_S);
    p.blob.b[14] = 1;
    send_piece(&p);
    ck_assert_int_eq(await_state().status, ST_OK);
}
END_TEST

/* R3, R4: nobody but the epoch's primary is listened to. */
START_TEST(only_the_primary_is_heard)
{
    begin_following();
    struct msg_blob_piece p = piece(9, 0, SIZE);
    p.epoch = _i == 0 ? 0 : 2;
    if (_i == 2) {
        node_rig_enter(&g, 2, 1); /* now the node itself is */
    }
    send_piece(&p);
    world_run_for(g.w, A_WHILE);
    ck_assert_uint_eq(g.peer.heard[MSG_BLOB_STATE], 0);
}
END_TEST

/* R6: no record before its blobs. What lacks them, and what comes after it, is
 * not taken; the blob is asked for; then it says where its log ends. */
START_TEST(an_entry_waits_for_its_blob)
{
    begin_following();
    prepare_blob(9, (struct name){1, 1});
    ck_assert_uint_eq(g.peer.heard[MSG_BLOB_ASK], 1);
    const struct msg_blob_ask *ask =
        &party_last(&g.peer, MSG_BLOB_ASK)->u.blob_ask;
    ck_assert(ask->blob.b[0] == 9 && ask->offset == 0 && ask->length == SIZE);
    prepare_nothing((struct name){1, 2});
    ck_assert_uint_eq(g.peer.heard[MSG_PREPARED], 0);
    ck_assert_uint_eq(g.peer.heard[MSG_MISMATCH], 0);
    ck_assert_uint_eq(node_rig_report(&g).last.seq, 0);
    world_run_for(g.w, 1500 * SIM_MS);
    ck_assert_uint_ge(g.peer.heard[MSG_BLOB_ASK], 2); /* it was not answered */
    struct msg_blob_piece p = piece(9, 0, SIZE);
    send_piece(&p);
    ck_assert(await_state().synced);
    ck_assert(party_await(&g, &g.peer, MSG_MISMATCH, 1, SIM_S));
    prepare_blob(9, (struct name){1, 1});
    prepare_nothing((struct name){1, 2});
    ck_assert_uint_eq(node_rig_report(&g).last.seq, 2);
    ck_assert_uint_eq(party_last(&g.peer, MSG_PREPARED)->u.prepared.name.seq,
                      2);
}
END_TEST

/* The primary has forgotten the entry meanwhile. */
START_TEST(an_entry_that_is_gone)
{
    begin_following();
    prepare_blob(9, (struct name){1, 1});
    struct wire_msg m = {.type = MSG_BLOB_STATE};
    m.u.blob_state = (struct msg_blob_state){
        .tablet = 1, .epoch = 1, .blob = {{9}}, .status = ST_GONE};
    party_send(&g.peer, g.peer.conns[g.peer.conn_count - 1], &m);
    ck_assert(party_await(&g, &g.peer, MSG_MISMATCH, 1, SIM_S));
    prepare_nothing((struct name){1, 1});
    ck_assert_uint_eq(node_rig_report(&g).last.seq, 1);
}
END_TEST

/* ---- the node leads ---- */

static struct env_conn *peer_conn;

static void begin_leading(void)
{
    g.peer.answers_dialogue = true;
    node_rig_enter(&g, 1, 1);
    world_run_for(g.w, 500 * SIM_MS);
    ck_assert_uint_ne(node_rig_report(&g).flags & REPORT_OPEN, 0);
    party_call(&g, &g.client);
    party_call(&g, &g.peer); /* over its own connection, as nodes do */
    peer_conn = g.peer.conns[g.peer.conn_count - 1];
}

static void put_large(uint64_t request)
{
    struct mutation put = {.kind = MUTATION_PUT,
                           .row = slice_of("r"),
                           .column = slice_of("c"),
                           .value = value()};
    struct wire_msg m = {.type = MSG_COMMAND, .request = request};
    m.u.command.tablet = 1;
    m.u.command.command = (struct command){.kind = COMMAND_BATCH,
                                           .client = {{1}},
                                           .session = 1,
                                           .number = request,
                                           .oldest_open = 1,
                                           .partition = slice_of("p"),
                                           .mutations = &put,
                                           .mutations_count = 1};
    party_send(&g.client, NULL, &m);
    ck_assert(party_await(&g, &g.peer, MSG_BLOB_PIECE, 1, A_WHILE));
}

static void say(enum status status, uint32_t taken, bool synced)
{
    const struct msg_blob_piece *p =
        &party_last(&g.peer, MSG_BLOB_PIECE)->u.blob_piece;
    struct wire_msg m = {.type = MSG_BLOB_STATE};
    m.u.blob_state = (struct msg_blob_state){.tablet = 1,
                                             .epoch = 1,
                                             .blob = p->blob,
                                             .status = (uint16_t)status,
                                             .taken = taken,
                                             .synced = synced};
    party_send(&g.peer, peer_conn, &m);
    world_run_for(g.w, 50 * SIM_MS);
}

/* The entry goes out when the peer reports its blob synced, not before, and
 * refers to it. */
START_TEST(a_command_waits_for_the_peer)
{
    begin_leading();
    put_large(1);
    const struct msg_blob_piece *p =
        &party_last(&g.peer, MSG_BLOB_PIECE)->u.blob_piece;
    ck_assert(p->length == SIZE && p->offset == 0);
    ck_assert(slice_equal(p->bytes, value()));
    ck_assert_uint_eq(p->seed, key_seed());
    struct id128 blob = p->blob;
    world_run_for(g.w, 500 * SIM_MS);
    ck_assert_uint_eq(g.peer.heard[MSG_PREPARE], 0);
    say(ST_OK, SIZE, false); /* written is not synced */
    ck_assert_uint_eq(g.peer.heard[MSG_PREPARE], 0);
    say(ST_OK, SIZE, true);
    ck_assert_uint_eq(g.peer.heard[MSG_PREPARE], 1);
    struct arena a = {0};
    struct blob_ref *refs;
    const struct msg_prepare *e = &party_last(&g.peer, MSG_PREPARE)->u.prepare;
    ck_assert_uint_eq(blob_command_refs(e->payload, &a, &refs), 1);
    ck_assert(id128_equal(refs[0].id, blob) && refs[0].len == SIZE);
    ck_assert(id128_equal(refs[0].digest, blob_digest(key_seed(), value())));
    arena_free(&a);
}
END_TEST

/* Silence for `stall`: the entry goes out, and who lacks its blob asks. */
START_TEST(a_silent_peer_is_not_waited_for)
{
    begin_leading();
    put_large(1);
    struct id128 blob = party_last(&g.peer, MSG_BLOB_PIECE)->u.blob_piece.blob;
    world_run_for(g.w, 900 * SIM_MS);
    ck_assert_uint_eq(g.peer.heard[MSG_PREPARE], 0);
    ck_assert(party_await(&g, &g.peer, MSG_PREPARE, 1, 300 * SIM_MS));
    world_run_for(g.w, 12 * SIM_S); /* nothing is pushed any more */
    uint32_t heard = g.peer.heard[MSG_BLOB_PIECE];
    struct wire_msg m = {.type = MSG_BLOB_ASK};
    m.u.blob_ask =
        (struct msg_blob_ask){.tablet = 1,
                              .epoch = 1,
                              .blob = blob,
                              .length = SIZE,
                              .digest = blob_digest(key_seed(), value()),
                              .offset = KIB(30)};
    party_send(&g.peer, peer_conn, &m);
    ck_assert(party_await(&g, &g.peer, MSG_BLOB_PIECE, heard + 1, SIM_S));
    const struct msg_blob_piece *p =
        &party_last(&g.peer, MSG_BLOB_PIECE)->u.blob_piece;
    ck_assert_uint_eq(p->offset, KIB(30));
    ck_assert_uint_eq(p->seed, key_seed());
    ck_assert_mem_eq(p->bytes.data, bytes + KIB(30), p->bytes.len);
    m.u.blob_ask.blob.b[5] ^= 1; /* one that there is not */
    party_send(&g.peer, peer_conn, &m);
    ck_assert(party_await(&g, &g.peer, MSG_BLOB_STATE, 1, SIM_S));
    ck_assert_uint_eq(party_last(&g.peer, MSG_BLOB_STATE)->u.blob_state.status,
                      ST_GONE);
}
END_TEST

/* A full disk at the peer refuses the command; a restart of the transfer is
 * granted; nonsense ends the pushing, not the command. */
START_TEST(what_the_peer_may_say)
{
    static const struct {
        enum status status;
        uint32_t taken;
        bool refused, prepared;
    } cases[] = {
        {ST_NO_SPACE, 0, true, false},    {ST_MORE, 0, false, false},
        {ST_MORE, SIZE + 1, false, true}, {ST_CORRUPT, 0, false, true},
        {ST_BUSY, 0, false, false},
    };
    begin_leading();
    put_large(1);
    uint32_t pieces = g.peer.heard[MSG_BLOB_PIECE];
    say(cases[_i].status, cases[_i].taken, false);
    ck_assert_uint_eq(g.client.heard[MSG_ERROR], cases[_i].refused);
    ck_assert_uint_eq(g.peer.heard[MSG_PREPARE], cases[_i].prepared);
    if (cases[_i].refused) {
        ck_assert_uint_eq(party_last(&g.client, MSG_ERROR)->u.error.status,
                          ST_NO_SPACE);
    }
    bool again = cases[_i].status == ST_MORE && cases[_i].taken == 0;
    ck_assert((g.peer.heard[MSG_BLOB_PIECE] > pieces) == again);
}
END_TEST

/* The epoch ends meanwhile: refused if the node leads no more, for there is no
 * entry; gone on with if it does. */
START_TEST(the_epoch_ends)
{
    begin_leading();
    put_large(1);
    node_rig_enter(&g, 2, _i == 0 ? 2 : 1);
    world_run_for(g.w, SIM_S);
    if (_i == 0) {
        ck_assert_uint_eq(party_last(&g.client, MSG_ERROR)->u.error.status,
                          ST_NOT_PRIMARY);
        ck_assert_uint_eq(g.peer.heard[MSG_PREPARE], 0);
    } else {
        ck_assert(party_await(&g, &g.peer, MSG_PREPARE, 1, SIM_S));
        ck_assert_uint_eq(g.client.heard[MSG_ERROR], 0);
    }
}
END_TEST

/* Nobody else may send references: they would name others' blobs. */
START_TEST(clients_send_no_references)
{
    begin_leading();
    struct wire_msg m = {.type = MSG_COMMAND, .request = 3};
    uint8_t room[PLACE_MAX];
    struct place p = {.tag = VALUE_BLOB, .blob = {{9}}, .len = SIZE};
    struct mutation put = {.kind = MUTATION_PUT,
                           .flags = MUTATION_BLOB,
                           .value = place_encode(&p, room)};
    m.u.command.tablet = 1;
    m.u.command.command =
        (struct command){.kind = _i == 0 ? COMMAND_BLOBS : COMMAND_BATCH,
                         .client = {{1}},
                         .session = 1,
                         .number = 1,
                         .oldest_open = 1,
                         .mutations = &put,
                         .mutations_count = 1};
    party_send(&g.client, NULL, &m);
    ck_assert(party_await(&g, &g.client, MSG_ERROR, 1, A_WHILE));
    ck_assert_uint_eq(party_last(&g.client, MSG_ERROR)->u.error.status,
                      ST_INVALID);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("shard_blobs");
    TCase *t = tcase_create("shard_blobs");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, begin, end);
    tcase_add_test(t, pieces_are_taken_in_order);
    tcase_add_loop_test(t, bad_pieces_are_refused, 0,
                        (int)(sizeof(bad_pieces) / sizeof(bad_pieces[0])));
    tcase_add_test(t, blobs_under_way_are_bounded);
    tcase_add_loop_test(t, only_the_primary_is_heard, 0, 3);
    tcase_add_test(t, an_entry_waits_for_its_blob);
    tcase_add_test(t, an_entry_that_is_gone);
    tcase_add_test(t, a_command_waits_for_the_peer);
    tcase_add_test(t, a_silent_peer_is_not_waited_for);
    tcase_add_loop_test(t, what_the_peer_may_say, 0, 5);
    tcase_add_loop_test(t, the_epoch_ends, 0, 2);
    tcase_add_loop_test(t, clients_send_no_references, 0, 2);
    suite_add_tcase(s, t);
    return s;
}

int main(void)
{
    SRunner *r = srunner_create(suite());
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? 0 : 1;
}
