/*
 * The balancer's choices, its counts by address, and the PROXY header.
 */
#include <check.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "common/proxy2.h"
#include "balancer/core.h"
#include "balancer/metrics.h"
#include "balancer/peers.h"

/* ---- maps ---- */

struct node {
    uint32_t id;
    uint8_t role, state;
    const char *http, *smtp;
};

static bool take(struct balancer *b, uint64_t term, uint64_t version,
                 const struct node *nodes, uint32_t count)
{
    struct node_info infos[BALANCER_GATEWAYS + 4];
    struct service services[BALANCER_GATEWAYS + 4][2];
    memset(infos, 0, sizeof(infos));
    for (uint32_t i = 0; i < count; i++) {
        uint32_t n = 0;
        if (nodes[i].http != NULL) {
            services[i][n++] =
                (struct service){slice_of("http"), slice_of(nodes[i].http)};
        }
        if (nodes[i].smtp != NULL) {
            services[i][n++] =
                (struct service){slice_of("smtp"), slice_of(nodes[i].smtp)};
        }
        infos[i] = (struct node_info){.node = nodes[i].id,
                                      .role = nodes[i].role,
                                      .state = nodes[i].state,
                                      .name = slice_of("gateway-x"),
                                      .services = services[i],
                                      .services_count = n};
    }
    struct msg_map map = {
        .term = term, .version = version, .nodes = infos, .nodes_count = count};
    return balancer_take_map(b, &map);
}

#define UP(id)                                                                 \
    {                                                                          \
        id, ROLE_GATEWAY, NODE_UP, "10.0.0." #id ":80", NULL                   \
    }
#define IN(id, state)                                                          \
    {                                                                          \
        id, ROLE_GATEWAY, state, "10.0.0." #id ":80", NULL                     \
    }

/* Node of the gateway chosen for http; 0: none. */
static uint32_t pick(struct balancer *b, uint64_t tried, int64_t now,
                     unsigned *place)
{
    unsigned p = 0;
    if (!balancer_choose(b, SERVICE_HTTP, tried, now, &p)) {
        return 0;
    }
    if (place != NULL) {
        *place = p;
    }
    return b->gateways[p].node;
}

START_TEST(least_connections)
{
    static const struct node nodes[] = {UP(1), UP(2), UP(3)};
    struct balancer b = {0};
    unsigned places[10];
    uint32_t got[4] = {0};
    ck_assert(take(&b, 1, 1, nodes, 3));
    for (int i = 0; i < 9; i++) {
        got[pick(&b, 0, 0, &places[i])]++;
    }
    ck_assert_uint_eq(got[1], 3);
    ck_assert_uint_eq(got[2], 3);
    ck_assert_uint_eq(got[3], 3);
    for (int i = 0; i < 9; i++) { /* all but gateway 2's leave */
        if (b.gateways[places[i]].node != 2) {
            balancer_closed(&b, places[i], SERVICE_HTTP);
        }
    }
    for (int i = 0; i < 6; i++) {
        ck_assert_uint_ne(pick(&b, 0, 0, NULL), 2);
    }
    got[2] = 0;
    for (int i = 0; i < 3; i++) {
        got[pick(&b, 0, 0, NULL)]++;
    }
    ck_assert_uint_eq(got[2], 1);
}
END_TEST

/* Connections that end at once: fewest recent, then the longest waiting. */
START_TEST(ties)
{
    static const struct node nodes[] = {UP(1), UP(2), UP(3)};
    struct balancer b = {0};
    unsigned p = 0;
    uint32_t order[6];
    ck_assert(take(&b, 1, 1, nodes, 2));
    for (int i = 0; i < 4; i++) {
        order[i] = pick(&b, 0, 0, &p);
        balancer_closed(&b, p, SERVICE_HTTP);
    }
    ck_assert_uint_eq(order[0], 1);
    ck_assert_uint_eq(order[1], 2);
    ck_assert_uint_eq(order[2], 1);
    ck_assert_uint_eq(order[3], 2);
    ck_assert(take(&b, 1, 2, nodes, 3));
    for (int i = 0; i < 2; i++) { /* the newcomer catches up */
        ck_assert_uint_eq(pick(&b, 0, 0, &p), 3);
        balancer_closed(&b, p, SERVICE_HTTP);
    }
    ck_assert_uint_eq(pick(&b, 0, 0, &p), 1);
    balancer_closed(&b, p, SERVICE_HTTP);
    /* Two windows later nothing of this counts, only the turns. */
    ck_assert_uint_eq(pick(&b, 0, 2 * BALANCER_WINDOW_US, &p), 2);
    ck_assert_uint_eq(pick(&b, 0, 2 * BALANCER_WINDOW_US, &p), 3);
    ck_assert_uint_eq(pick(&b, 0, 2 * BALANCER_WINDOW_US, &p), 1);
}
END_TEST

static const struct {
    uint8_t state;
    bool alone, beside_up; /* is it chosen */
} states[] = {
    {NODE_UP, true, true},
    {NODE_DOWN, true, false},
    {NODE_UNKNOWN, true, false},
    {NODE_DISABLED, false, false},
    {NODE_DRAINING, false, false},
    {NODE_STARTING, false, false},
    {77, false, false},
};

START_TEST(states_decide)
{
    struct balancer b = {0};
    struct node nodes[] = {IN(1, states[_i].state), UP(2)};
    ck_assert(take(&b, 1, 1, nodes, 1));
    ck_assert_uint_eq(pick(&b, 0, 0, NULL), states[_i].alone ? 1 : 0);
    struct balancer c = {0};
    ck_assert(take(&c, 1, 1, nodes, 2));
    uint32_t first = pick(&c, 0, 0, NULL), second = pick(&c, 0, 0, NULL);
    ck_assert(first == 2 || second == 2);
    ck_assert((first == 1 || second == 1) == states[_i].beside_up);
}
END_TEST

START_TEST(refusals)
{
    static const struct node nodes[] = {UP(1), UP(2), IN(3, NODE_DOWN)};
    struct balancer b = {0};
    unsigned p = 0, q = 0;
    uint64_t tried = 0;
    ck_assert(take(&b, 1, 1, nodes, 3));
    ck_assert_uint_eq(pick(&b, 0, 0, &p), 1);
    balancer_refused(&b, p, SERVICE_HTTP, 0);
    tried |= (uint64_t)1 << p;
    ck_assert_uint_eq(pick(&b, tried, 0, &q), 2);
    /* Others do not even try it, although it has fewer connections ... */
    ck_assert_uint_eq(pick(&b, 0, BALANCER_SKIP_US - 1, NULL), 2);
    ck_assert_uint_eq(pick(&b, 0, BALANCER_SKIP_US - 1, NULL), 2);
    /* ... until the second is over. */
    ck_assert_uint_eq(pick(&b, 0, BALANCER_SKIP_US, NULL), 1);
    /* Who is passed over goes before who is down; nobody goes twice. */
    balancer_refused(&b, q, SERVICE_HTTP, BALANCER_SKIP_US);
    ck_assert_uint_eq(pick(&b, tried, BALANCER_SKIP_US, &q), 2);
    tried |= (uint64_t)1 << q;
    ck_assert_uint_eq(pick(&b, tried, BALANCER_SKIP_US, &q), 3);
    tried |= (uint64_t)1 << q;
    ck_assert_uint_eq(pick(&b, tried, BALANCER_SKIP_US, &q), 0);
    ck_assert_uint_eq(b.gateways[p].refused, 1);
}
END_TEST

/* A new address, or a return, ends the passing over. */
START_TEST(forgiven_by_map)
{
    static const struct node before[] = {UP(1), UP(2)};
    static const struct node moved[] = {
        {1, ROLE_GATEWAY, NODE_UP, "10.0.0.9:80", NULL}, UP(2)};
    static const struct node down[] = {IN(1, NODE_DOWN), UP(2)};
    struct balancer b = {0};
    unsigned p = 0;
    ck_assert(take(&b, 1, 1, before, 2));
    ck_assert_uint_eq(pick(&b, 0, 0, &p), 1);
    balancer_refused(&b, p, SERVICE_HTTP, 0);
    ck_assert_uint_eq(pick(&b, 0, 1, NULL), 2);
    ck_assert(take(&b, 1, 2, before, 2));
    ck_assert_uint_eq(pick(&b, 0, 1, NULL), 2);
    ck_assert(take(&b, 1, 3, moved, 2));
    ck_assert_uint_eq(pick(&b, 0, 1, &p), 1);
    balancer_refused(&b, p, SERVICE_HTTP, 1);
    ck_assert_uint_eq(pick(&b, 0, 1, NULL), 2);
    ck_assert(take(&b, 1, 4, down, 2));
    ck_assert(take(&b, 1, 5, before, 2));
    ck_assert_uint_eq(pick(&b, 0, 1, &p), 1);
}
END_TEST

START_TEST(maps_in_order)
{
    static const struct node one[] = {UP(1)}, two[] = {UP(2)};
    struct balancer b = {0};
    ck_assert(take(&b, 2, 5, one, 1));
    ck_assert(!take(&b, 2, 4, two, 1));
    ck_assert(!take(&b, 1, 9, two, 1));
    ck_assert_uint_eq(pick(&b, 0, 0, NULL), 1);
    ck_assert(take(&b, 2, 5, two, 1));
    ck_assert_uint_eq(pick(&b, 0, 0, NULL), 2);
    ck_assert(take(&b, 3, 1, one, 1));
    ck_assert_uint_eq(pick(&b, 0, 0, NULL), 1);
}
END_TEST

START_TEST(services_and_roles)
{
    static const struct node nodes[] = {
        {1, ROLE_GATEWAY, NODE_UP, NULL, "10.0.0.1:25"},
        {2, ROLE_STORAGE, NODE_UP, "10.0.0.2:80", "10.0.0.2:25"},
        {3, ROLE_BALANCER, NODE_UP, "10.0.0.3:80", "10.0.0.3:25"},
        {0, ROLE_GATEWAY, NODE_UP, "10.0.0.4:80", "10.0.0.4:25"},
    };
    struct balancer b = {0};
    unsigned p = 0;
    ck_assert(take(&b, 1, 1, nodes, 4));
    ck_assert_uint_eq(pick(&b, 0, 0, NULL), 0);
    ck_assert(balancer_choose(&b, SERVICE_SMTP, 0, 0, &p));
    ck_assert_uint_eq(b.gateways[p].node, 1);
    ck_assert(!balancer_choose(&b, SERVICE_SMTP, (uint64_t)1 << p, 0, &p));
    ck_assert(!balancer_choose(&b, SERVICE_HTTPS, 0, 0, &p));
}
END_TEST

/* Places keep their meaning while connections are open, and come free. */
START_TEST(places)
{
    struct node nodes[BALANCER_GATEWAYS];
    struct balancer b = {0};
    static const struct node first[] = {UP(200)};
    unsigned p = 0;
    ck_assert(take(&b, 1, 1, first, 1));
    ck_assert_uint_eq(pick(&b, 0, 0, &p), 200);
    for (uint32_t i = 0; i < BALANCER_GATEWAYS; i++) {
        nodes[i] =
            (struct node){i + 1, ROLE_GATEWAY, NODE_UP, "10.0.0.1:80", NULL};
    }
    ck_assert(take(&b, 1, 2, nodes, BALANCER_GATEWAYS));
    ck_assert_uint_eq(b.gateways[p].node, 200);
    uint64_t tried = 0;
    for (int i = 0; i < BALANCER_GATEWAYS - 1; i++) {
        unsigned q;
        ck_assert_uint_ne(pick(&b, tried, 0, &q), 0);
        ck_assert_uint_ne(q, p);
        tried |= (uint64_t)1 << q;
    }
    ck_assert_uint_eq(pick(&b, tried, 0, NULL), 0);
    balancer_closed(&b, p, SERVICE_HTTP);
    ck_assert(take(&b, 1, 3, nodes, BALANCER_GATEWAYS));
    ck_assert_uint_eq(pick(&b, tried, 0, NULL), BALANCER_GATEWAYS);
}
END_TEST

START_TEST(service_rows)
{
    const char *http = service_refusal(SERVICE_HTTP);
    const char *body = strstr(http, "\r\n\r\n");
    ck_assert_ptr_nonnull(body);
    ck_assert_uint_eq(strlen(body + 4),
                      strtoul(strstr(http, "Content-Length: ") + 16, NULL, 10));
    ck_assert_str_eq(service_name(SERVICE_SUBMISSIONS), "submissions");
    struct metrics *m = metrics_new(balancer_metrics, M_COUNT);
    metrics_free(m); /* its asserts check the table */
}
END_TEST

/* ---- counts by address ---- */

static struct peer_key key_of(const char *text)
{
    struct sockaddr_in four = {.sin_family = AF_INET};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    if (inet_pton(AF_INET, text, &four.sin_addr) == 1) {
        return peer_key_of((struct sockaddr *)&four);
    }
    ck_assert_int_eq(inet_pton(AF_INET6, text, &six.sin6_addr), 1);
    return peer_key_of((struct sockaddr *)&six);
}

START_TEST(peer_keys)
{
    static const struct {
        const char *a, *b;
        bool same;
    } rows[] = {
        {"10.0.0.1", "10.0.0.1", true},
        {"10.0.0.1", "10.0.0.2", false},
        {"10.0.0.1", "::ffff:10.0.0.1", true},
        {"::ffff:10.0.0.1", "::ffff:10.0.0.2", false},
        {"2001:db8::1", "2001:db8::2", true},
        {"2001:db8:0:1::1", "2001:db8:0:2::1", false},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct peer_key a = key_of(rows[i].a), b = key_of(rows[i].b);
        ck_assert_msg((memcmp(&a, &b, sizeof(a)) == 0) == rows[i].same, "%s %s",
                      rows[i].a, rows[i].b);
    }
}
END_TEST

/* Random enters and leaves against a plain array. */
START_TEST(peer_counts)
{
    enum { KEYS = 300, STEPS = 60000, MOST = 4 };
    uint32_t model[KEYS] = {0};
    struct peer_key keys[KEYS];
    struct peers *p = peers_new(42);
    uint64_t random = 7;
    size_t used = 0;
    memset(keys, 0, sizeof(keys));
    for (uint32_t i = 0; i < KEYS; i++) {
        memcpy(keys[i].b + 12, &i, sizeof(i));
    }
    for (int step = 0; step < STEPS; step++) {
        random = random * 6364136223846793005u + 1442695040888963407u;
        size_t i = (random >> 33) % KEYS;
        bool enter = (random >> 20 & 7) < (step / 10000 % 2 == 0 ? 5u : 3u);
        if (enter) {
            ck_assert(peers_enter(p, keys[i], MOST) == (model[i] < MOST));
            used += model[i] == 0 ? 1 : 0;
            model[i] += model[i] < MOST ? 1 : 0;
        } else if (model[i] > 0) {
            peers_leave(p, keys[i]);
            model[i]--;
            used -= model[i] == 0 ? 1 : 0;
        }
        ck_assert_uint_eq(peers_count(p), used);
    }
    for (size_t i = 0; i < KEYS; i++) {
        for (; model[i] > 0; model[i]--) {
            peers_leave(p, keys[i]);
        }
    }
    ck_assert_uint_eq(peers_count(p), 0);
    peers_free(p);
}
END_TEST

/* ---- PROXY v2 ---- */

static struct sockaddr_storage make_address(const char *ip, uint16_t port)
{
    struct sockaddr_storage ss = {0};
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6,
                               .sin6_port = htons(port)};
    if (inet_pton(AF_INET, ip, &four.sin_addr) == 1) {
        memcpy(&ss, &four, sizeof(four));
    } else if (inet_pton(AF_INET6, ip, &six.sin6_addr) == 1) {
        memcpy(&ss, &six, sizeof(six));
    }
    return ss;
}

static const struct {
    const char *from, *to, *from_read, *to_read;
    size_t length;
} heads[] = {
    {"192.0.2.1", "198.51.100.7", "192.0.2.1", "198.51.100.7", 28},
    {"::ffff:192.0.2.1", "::ffff:198.51.100.7", "192.0.2.1", "198.51.100.7",
     28},
    {"2001:db8::1", "2001:db8::2", "2001:db8::1", "2001:db8::2", 52},
    {"192.0.2.1", "2001:db8::2", "192.0.2.1", "2001:db8::2", 52},
    {"", "192.0.2.1", NULL, NULL, 16},
};

START_TEST(proxy_round_trip)
{
    struct sockaddr_storage from = make_address(heads[_i].from, 4711),
                            to = make_address(heads[_i].to, 25);
    struct buf b = {.max = LIMIT_PROXY2};
    struct proxy2 p;
    proxy2_encode(&b, (struct sockaddr *)&from, (struct sockaddr *)&to);
    ck_assert(!b.full);
    ck_assert_uint_eq(b.len, heads[_i].length);
    for (size_t i = 0; i < b.len; i++) {
        ck_assert_int_eq(proxy2_decode(slice_make(b.data, i), &p), ST_MORE);
    }
    ck_assert_int_eq(proxy2_decode(buf_slice(&b), &p), ST_OK);
    ck_assert_uint_eq(p.length, b.len);
    ck_assert(p.local == (heads[_i].from_read == NULL));
    if (!p.local) {
        from = make_address(heads[_i].from_read, 4711);
        to = make_address(heads[_i].to_read, 25);
        ck_assert_mem_eq(&p.from, &from, sizeof(from));
        ck_assert_mem_eq(&p.to, &to, sizeof(to));
    }
    buf_free(&b);
}
END_TEST

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

static const struct {
    const char *bytes;
    size_t len;
    enum status status;
} bytes[] = {
    {"", 0, ST_MORE},
    {"GET / HTTP", 10, ST_INVALID},
    {"\r\n\r\nX", 5, ST_INVALID},
    {SIGNATURE "\x21\x11\x00\x0c", 16, ST_MORE},
    {SIGNATURE "\x11\x11\x00\x0c", 16, ST_INVALID}, /* version 1 */
    {SIGNATURE "\x22\x11\x00\x0c", 16, ST_INVALID}, /* no such command */
    {SIGNATURE "\x21\x11\x08\x01", 16, ST_INVALID}, /* longer than we read */
    {SIGNATURE "\x21\x11\x00\x0b...........", 27, ST_INVALID},  /* short */
    {SIGNATURE "\x21\x12\x00\x0c............", 28, ST_INVALID}, /* UDP */
    {SIGNATURE "\x21\x31\x00\x0c............", 28, ST_INVALID}, /* AF_UNIX */
    {SIGNATURE "\x21\x21\x00\x0c............", 28, ST_INVALID}, /* short */
    {SIGNATURE "\x20\x00\x00\x00", 16, ST_OK},
    {SIGNATURE "\x20\x11\x00\x02..GET", 21, ST_OK},
    {SIGNATURE "\x21\x00\x00\x00", 16, ST_OK},
    {SIGNATURE "\x21\x11\x00\x0f...............GET", 34, ST_OK}, /* with TLV */
};

START_TEST(proxy_hostile)
{
    struct proxy2 p;
    ck_assert_int_eq(
        proxy2_decode(slice_make(bytes[_i].bytes, bytes[_i].len), &p),
        bytes[_i].status);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("balancer");
    TCase *tc = tcase_create("balancer");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, least_connections);
    tcase_add_test(tc, ties);
    tcase_add_loop_test(tc, states_decide, 0,
                        sizeof(states) / sizeof(states[0]));
    tcase_add_test(tc, refusals);
    tcase_add_test(tc, forgiven_by_map);
    tcase_add_test(tc, maps_in_order);
    tcase_add_test(tc, services_and_roles);
    tcase_add_test(tc, places);
    tcase_add_test(tc, service_rows);
    tcase_add_test(tc, peer_keys);
    tcase_add_test(tc, peer_counts);
    tcase_add_loop_test(tc, proxy_round_trip, 0,
                        sizeof(heads) / sizeof(heads[0]));
    tcase_add_loop_test(tc, proxy_hostile, 0, sizeof(bytes) / sizeof(bytes[0]));
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
