/*
 * The wire format: every message there and back, cut at every byte, changed
 * at every bit, and garbage.
 */
#include "common/wire.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "tests/unit/wire_gen.h"

/* A copy that ends where the memory ends, so that sanitizers see more. */
static uint8_t *exact(struct slice s)
{
    uint8_t *p = malloc(s.len == 0 ? 1 : s.len);
    if (s.len > 0) {
        memcpy(p, s.data, s.len);
    }
    return p;
}

static enum status decode(struct slice frame, struct wire_msg *m,
                          struct arena *a)
{
    memset(m, 0xee, sizeof(*m));
    return wire_decode(frame, a, m);
}

START_TEST(round_trip)
{
    uint16_t type = wire_gen_types[_i];
    for (uint64_t seed = 0; seed < 200; seed++) {
        struct wire_gen g = {.seed = seed};
        struct wire_msg sent, got;
        struct arena a = {0};
        struct buf b = {0}, again = {0};
        wire_gen_message(&g, type, &sent);
        wire_gen_put(&b, &sent);
        ck_assert_int_eq(decode(buf_slice(&b), &got, &a), ST_OK);
        ck_assert(wire_gen_same(&sent, &got));
        wire_gen_put(&again, &got);
        ck_assert(slice_equal(buf_slice(&b), buf_slice(&again)));
        ck_assert_str_ne(wire_type_name(type), "?");
        buf_free(&b);
        buf_free(&again);
        arena_free(&a);
        arena_free(&g.arena);
    }
}
END_TEST

/* A piece that is sent in two parts is the same frame. */
START_TEST(piece_in_parts)
{
    static const size_t sizes[] = {0, 1, 100, KIB(64), LIMIT_BLOB_PIECE};
    uint8_t *bytes = malloc(LIMIT_BLOB_PIECE);
    memset(bytes, 42, LIMIT_BLOB_PIECE);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct msg_blob_piece m = {.tablet = 3,
                                   .epoch = 4,
                                   .blob = {{5}},
                                   .length = 6,
                                   .offset = 7,
                                   .bytes = slice_make(bytes, sizes[i])};
        struct buf whole = {0}, parts = {0};
        buf_put_u8(&parts, 1); /* what is there already stays */
        wire_put_blob_piece(&whole, 0, &m);
        wire_put_piece_start(&parts, &m);
        buf_put_slice(&parts, m.bytes);
        ck_assert(slice_equal(buf_slice(&whole),
                              slice_make(parts.data + 1, parts.len - 1)));
        buf_free(&whole);
        buf_free(&parts);
    }
    free(bytes);
}
END_TEST

/* Every prefix of a payload is refused: no field is optional. */
START_TEST(cut_at_every_byte)
{
    uint16_t type = wire_gen_types[_i];
    for (uint64_t seed = 0; seed < 10; seed++) {
        struct wire_gen g = {.seed = seed};
        struct wire_msg m;
        struct buf b = {0};
        wire_gen_message(&g, type, &m);
        wire_gen_put(&b, &m);
        for (size_t cut = 0; cut < b.len; cut++) {
            struct arena a = {0};
            uint8_t *p = exact(slice_make(b.data, cut));
            ck_assert_int_eq(decode(slice_make(p, cut), &m, &a), ST_INVALID);
            free(p);
            if (cut + WIRE_HEADER < b.len) {
                p = exact(slice_make(b.data + WIRE_HEADER, cut));
                ck_assert_int_eq(
                    wire_decode_payload(type, slice_make(p, cut), &a, &m),
                    ST_INVALID);
                free(p);
            }
            arena_free(&a);
        }
        buf_put_u8(&b, 0); /* nor may anything follow */
        struct arena a = {0};
        struct slice longer =
            slice_make(b.data + WIRE_HEADER, b.len - WIRE_HEADER);
        ck_assert_int_eq(wire_decode_payload(type, longer, &a, &m), ST_INVALID);
        ck_assert_int_eq(decode(buf_slice(&b), &m, &a), ST_INVALID);
        arena_free(&a);
        buf_free(&b);
        arena_free(&g.arena);
    }
}
END_TEST

START_TEST(every_bit_flipped)
{
    struct wire_gen g = {.seed = 1};
    struct wire_msg m;
    struct buf b = {0};
    wire_gen_message(&g, MSG_COMMAND, &m);
    wire_gen_put(&b, &m);
    for (size_t bit = 0; bit < b.len * 8; bit++) {
        struct arena a = {0};
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        ck_assert_int_eq(decode(buf_slice(&b), &m, &a), ST_INVALID);
        b.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        arena_free(&a);
    }
    buf_free(&b);
    arena_free(&g.arena);
}
END_TEST

/* Garbage, and good payloads with changed bytes: any status, no fault, and
 * what decodes encodes to the same again. */
START_TEST(garbage)
{
    uint16_t type = wire_gen_types[_i];
    struct wire_gen g = {.seed = type};
    for (int round = 0; round < 3000; round++) {
        struct wire_msg m = {.request = 0};
        struct buf b = {0}, again = {0};
        struct arena a = {0};
        if (round % 2 == 0) {
            wire_gen_message(&g, type, &m);
            wire_gen_put(&b, &m);
            buf_consume(&b, WIRE_HEADER);
            for (int i = 0; i < 3 && b.len > 0; i++) {
                b.data[wire_gen_next(&g) % b.len] = (uint8_t)wire_gen_next(&g);
            }
        } else {
            for (size_t n = wire_gen_next(&g) % 300; n > 0; n--) {
                /* Small numbers, so that counts and lengths often fit. */
                buf_put_u8(&b, (uint8_t)(wire_gen_next(&g) % 4));
            }
        }
        uint8_t *p = exact(buf_slice(&b));
        struct slice payload = slice_make(p, b.len);
        if (wire_decode_payload(type, payload, &a, &m) == ST_OK) {
            m.request = 0;
            wire_gen_put(&again, &m);
            ck_assert_uint_eq(again.len - WIRE_HEADER, b.len);
            ck_assert(b.len == 0 ||
                      memcmp(again.data + WIRE_HEADER, p, b.len) == 0);
        }
        free(p);
        buf_free(&b);
        buf_free(&again);
        arena_free(&a);
        arena_free(&g.arena);
    }
}
END_TEST

START_TEST(unknown_type)
{
    struct arena a = {0};
    struct wire_msg m;
    struct buf b = {0};
    struct msg_ping p = {.stamp = 5};
    wire_put_ping(&b, 77, &p);
    b.data[4] = 0xff;
    b.data[5] = 0xff;
    uint64_t sum = XXH3_64bits_withSeed(
        b.data + WIRE_HEADER, b.len - WIRE_HEADER, XXH3_64bits(b.data, 16));
    for (size_t i = 0; i < 8; i++) {
        b.data[16 + i] = (uint8_t)(sum >> (8 * i));
    }
    ck_assert_int_eq(wire_decode(buf_slice(&b), &a, &m), ST_UNSUPPORTED);
    ck_assert_uint_eq(m.request, 77);
    ck_assert_str_eq(wire_type_name(0xffff), "?");
    buf_free(&b);
    arena_free(&a);
}
END_TEST

START_TEST(header)
{
    struct buf b = {0};
    struct msg_ping p = {.stamp = 5};
    struct wire_header h;
    wire_put_ping(&b, 0x0102030405060708, &p);
    ck_assert_uint_eq(b.len, WIRE_HEADER + 8);
    ck_assert_int_eq(wire_read_header(b.data, &h), ST_OK);
    ck_assert_uint_eq(h.length, 8);
    ck_assert_uint_eq(h.type, MSG_PING);
    ck_assert_uint_eq(h.request, 0x0102030405060708);
    /* The layout of the comment in wire.h, byte by byte. */
    static const uint8_t want[16] = {8, 0, 0, 0, MSG_PING, 0, 0, 0,
                                     8, 7, 6, 5, 4,        3, 2, 1};
    ck_assert_mem_eq(b.data, want, 16);
    b.data[6] = 1;
    ck_assert_int_eq(wire_read_header(b.data, &h), ST_INVALID);
    b.data[6] = 0;
    b.data[2] = (uint8_t)(LIMIT_FRAME >> 16);
    b.data[0] = 0;
    ck_assert_int_eq(wire_read_header(b.data, &h), ST_OK);
    b.data[0] = 1;
    ck_assert_int_eq(wire_read_header(b.data, &h), ST_INVALID);
    buf_free(&b);
}
END_TEST

/* A length at its limit decodes, one beyond it does not. */
START_TEST(byte_limit)
{
    for (uint32_t over = 0; over < 2; over++) {
        struct buf b = {0};
        struct arena a = {0};
        struct wire_msg m;
        uint32_t len = LIMIT_VALUE + over;
        uint8_t *data = calloc(1, len);
        buf_put_u8(&b, 1);
        buf_put_u32(&b, len);
        buf_put(&b, data, len);
        ck_assert_int_eq(wire_decode_payload(MSG_VALUE, buf_slice(&b), &a, &m),
                         over == 0 ? ST_OK : ST_INVALID);
        free(data);
        buf_free(&b);
        arena_free(&a);
    }
}
END_TEST

START_TEST(list_limit)
{
    for (uint32_t over = 0; over < 2; over++) {
        struct buf b = {0};
        struct arena a = {0};
        struct wire_msg m;
        uint32_t count = LIMIT_TABLETS + over;
        buf_put_u64(&b, 0);
        buf_put_u8(&b, 0);
        buf_put_u32(&b, count);
        for (uint32_t i = 0; i < count; i++) {
            buf_put_u32(&b, i);
            buf_put_u64(&b, i);
        }
        ck_assert_int_eq(wire_decode_payload(MSG_ECHO, buf_slice(&b), &a, &m),
                         over == 0 ? ST_OK : ST_INVALID);
        buf_free(&b);
        arena_free(&a);
    }
}
END_TEST

/* A count that is within its limit but not there takes no memory for it. */
START_TEST(count_without_items)
{
    struct buf b = {0};
    struct arena a = {0};
    struct wire_msg m;
    buf_put_u64(&b, 0);
    buf_put_u8(&b, 0);
    buf_put_u32(&b, LIMIT_TABLETS);
    buf_put_u32(&b, 0);
    ck_assert_int_eq(wire_decode_payload(MSG_ECHO, buf_slice(&b), &a, &m),
                     ST_INVALID);
    ck_assert_ptr_null(a.blocks);
    buf_free(&b);
}
END_TEST

START_TEST(full_buffer)
{
    struct buf b;
    struct msg_value v = {.found = 1, .value = slice_of("0123456789")};
    for (size_t max = 1; max < WIRE_HEADER + 15; max++) {
        buf_init(&b, max);
        wire_put_value(&b, 1, &v);
        ck_assert(b.full);
        ck_assert_uint_le(b.len, max);
        buf_free(&b);
    }
    buf_init(&b, WIRE_HEADER + 15);
    wire_put_value(&b, 1, &v);
    ck_assert(!b.full);
    buf_free(&b);
}
END_TEST

START_TEST(copies_are_deep)
{
    for (uint64_t seed = 0; seed < 50; seed++) {
        struct wire_gen g = {.seed = seed};
        struct wire_msg m, c = {.type = MSG_MAP};
        struct arena a = {0};
        struct buf want = {0}, got = {0};
        wire_gen_message(&g, MSG_MAP, &m);
        wire_gen_put(&want, &m);
        c.request = m.request;
        c.u.map = *wire_copy_map(&a, &m.u.map);
        arena_free(&g.arena); /* the original is gone */
        wire_gen_put(&got, &c);
        ck_assert(slice_equal(buf_slice(&want), buf_slice(&got)));
        buf_free(&want);
        buf_free(&got);
        arena_free(&a);
    }
}
END_TEST

START_TEST(names)
{
    struct name a = {1, 9}, b = {2, 1}, c = {2, 2};
    ck_assert_int_lt(name_compare(a, b), 0);
    ck_assert_int_lt(name_compare(b, c), 0);
    ck_assert_int_gt(name_compare(c, a), 0);
    ck_assert_int_eq(name_compare(c, c), 0);
    ck_assert(name_equal(a, a) && !name_equal(a, b));
    ck_assert_str_eq(role_name(ROLE_STORAGE), "storage");
    ck_assert_str_eq(role_name(200), "unknown");
    ck_assert_str_eq(node_state_name(NODE_DRAINING), "draining");
    ck_assert_str_eq(replica_role_name(REPLICA_PRIMARY), "primary");
    /* Placement is for ever: cells would be lost if this changed. */
    ck_assert_uint_eq(partition_hash(slice_of("alice")),
                      XXH3_64bits("alice", 5));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("wire");
    TCase *t = tcase_create("wire");
    int types = (int)wire_gen_type_count;
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, round_trip, 0, types);
    tcase_add_test(t, piece_in_parts);
    tcase_add_loop_test(t, cut_at_every_byte, 0, types);
    tcase_add_test(t, every_bit_flipped);
    tcase_add_loop_test(t, garbage, 0, types);
    tcase_add_test(t, unknown_type);
    tcase_add_test(t, header);
    tcase_add_test(t, byte_limit);
    tcase_add_test(t, list_limit);
    tcase_add_test(t, count_without_items);
    tcase_add_test(t, full_buffer);
    tcase_add_test(t, copies_are_deep);
    tcase_add_test(t, names);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
