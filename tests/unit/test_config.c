/*
 * The configuration: every kind of bad line with its exact text, ranks of
 * sections, types, and that what is printed parses to the same.
 */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/config.h"

struct demo {
    int64_t node;
    char *listen;
    char *data_dir;
    uint64_t memory;
    int64_t stall;
    bool proxy;
    struct config_list words;
    struct config_list peers;
    char *title;
};

#define FIELD(f) offsetof(struct demo, f)

static const char *check_title(const char *text)
{
    return strcmp(text, "forbidden") == 0 ? "is not allowed" : NULL;
}

static const struct config_option options[] = {
    {"node", CONFIG_INT, NULL, 1, 65535, FIELD(node), NULL, "number"},
    {"listen", CONFIG_ADDRESS, "*:7300", 0, 0, FIELD(listen), NULL, "where"},
    {"data_dir", CONFIG_PATH, "/var/lib/x", 0, 0, FIELD(data_dir), NULL, "dir"},
    {"memory", CONFIG_SIZE, "1G", 1 << 20, 1LL << 40, FIELD(memory), NULL,
     "memory"},
    {"stall", CONFIG_DURATION, "1s", 1, 60000, FIELD(stall), NULL, "stall"},
    {"proxy", CONFIG_BOOL, "no", 0, 0, FIELD(proxy), NULL, "proxy"},
    {"words", CONFIG_LIST, "", 0, 3, FIELD(words), NULL, "words"},
    {"peers", CONFIG_ADDRESSES, "", 0, 0, FIELD(peers), NULL, "peers"},
    {"title", CONFIG_STRING, "", 0, 10, FIELD(title), check_title, "title"},
};

static enum status check_demo(const struct config *c, struct err *err)
{
    const struct demo *d = c->own;
    return d->stall == 777 ? err_set(err, ST_CONFIG, "storage.stall: unlucky")
                           : ST_OK;
}

static const struct config_spec spec = {"storage", options,
                                        sizeof(options) / sizeof(options[0]),
                                        sizeof(struct demo), check_demo};

static enum status parse_as(const char *name, const char *text,
                            struct config *out, struct err *err)
{
    struct config_source source = {"p.conf", name, &spec};
    return config_parse(&source, slice_of(text), out, err);
}

#define CLUSTER "[cluster]\ncoordinators = c:1\n"
#define HEAD CLUSTER "[storage]\nnode = 1\n" /* four lines */

static const struct {
    const char *name, *text, *error;
} bad[] = {
    {NULL, "x = 1\n", "p.conf:1: x: stands before the first section"},
    {NULL, "[stroage]\n", "p.conf:1: [stroage]: unknown section"},
    {NULL, "[storage\n", "p.conf:1: section header without ]"},
    {NULL, "[]\n", "p.conf:1: section header is not [kind] or [kind name]"},
    {NULL, "[storage a b]\n",
     "p.conf:1: section header is not [kind] or [kind name]"},
    {NULL, "[cluster x]\n", "p.conf:1: [cluster]: takes no name"},
    {NULL, "[storage Foo]\n", "p.conf:1: [storage Foo]: not a node's name"},
    {NULL, "[storage -a]\n", "p.conf:1: [storage -a]: not a node's name"},
    {NULL, "[storage]\n\n[storage]\n",
     "p.conf:3: [storage]: section given twice, first in line 1"},
    {NULL, "[gateway a]\n[gateway  a]\n",
     "p.conf:2: [gateway a]: section given twice, first in line 1"},
    {NULL, "[storage]\nnode\n", "p.conf:2: not \"key = value\""},
    {NULL, "[storage]\n= 5\n", "p.conf:2: not \"key = value\""},
    {NULL, "[gateway]\nBad-Key = 5\n", "p.conf:2: not \"key = value\""},
    {NULL, "[gateway]\nrubbish\n", "p.conf:2: not \"key = value\""},
    {NULL, "[storage]\ntitle =#5\n", "p.conf:2: title: value begins with #"},
    {NULL, "[storage]\nport = 5\n", "p.conf:2: storage.port: unknown option"},
    {NULL, "[cluster]\nnode = 5\n", "p.conf:2: cluster.node: unknown option"},
    {NULL, "[storage]\nnode = 5\n\nnode = 6\n",
     "p.conf:4: storage.node: given twice, first in line 2"},
    {NULL, "[storage other]\nnode = 5\nnode = 6\n",
     "p.conf:3: storage.node: given twice, first in line 2"},
    {NULL, "[storage other]\nport = 5\n",
     "p.conf:2: storage.port: unknown option"},
    {NULL, "[storage]\nnode = x\n",
     "p.conf:2: storage.node: \"x\" is not a number"},
    {NULL, "[storage]\nnode = -1\n",
     "p.conf:2: storage.node: \"-1\" is not a number"},
    {NULL, "[storage]\nnode = 1K\n",
     "p.conf:2: storage.node: \"1K\" is not a number"},
    {NULL, "[storage]\nnode =\n",
     "p.conf:2: storage.node: \"\" is not a number"},
    {NULL, "[storage]\nnode = 99999999999999999999\n",
     "p.conf:2: storage.node: \"99999999999999999999\" is not a number"},
    {NULL, "[storage]\nnode = 0\n",
     "p.conf:2: storage.node: 0 is outside 1..65535"},
    {NULL, "[storage]\nnode = 65536\n",
     "p.conf:2: storage.node: 65536 is outside 1..65535"},
    {NULL, "[storage]\nmemory = 1X\n",
     "p.conf:2: storage.memory: \"1X\" is not a size (a number, or one with "
     "K, M, G, T)"},
    {NULL, "[storage]\nmemory = 9999999999T\n",
     "p.conf:2: storage.memory: \"9999999999T\" is not a size (a number, or "
     "one with K, M, G, T)"},
    {NULL, "[storage]\nmemory = 1K\n",
     "p.conf:2: storage.memory: 1K is outside 1M..1T"},
    {NULL, "[storage]\nstall = 5\n",
     "p.conf:2: storage.stall: \"5\" is not a duration (a number with ms, s, "
     "m, h or d)"},
    {NULL, "[storage]\nstall = 2m\n",
     "p.conf:2: storage.stall: 2m is outside 1ms..1m"},
    {NULL, "[storage]\nproxy = true\n",
     "p.conf:2: storage.proxy: \"true\" is not yes or no"},
    {NULL, "[storage]\nlisten = 7300\n",
     "p.conf:2: storage.listen: \"7300\" is not host:port"},
    {NULL, "[storage]\nlisten = a:0\n",
     "p.conf:2: storage.listen: \"a:0\" is not host:port"},
    {NULL, "[storage]\nlisten = a:65536\n",
     "p.conf:2: storage.listen: \"a:65536\" is not host:port"},
    {NULL, "[storage]\nlisten = ::1:80\n",
     "p.conf:2: storage.listen: \"::1:80\" is not host:port"},
    {NULL, "[storage]\nlisten = a b:80\n",
     "p.conf:2: storage.listen: \"a b:80\" is not host:port"},
    {NULL, "[storage]\ndata_dir = data\n",
     "p.conf:2: storage.data_dir: \"data\" is not an absolute path"},
    {NULL, "[storage]\nwords = a b, c d\n",
     "p.conf:2: storage.words: its number of items is outside 0..3"},
    {NULL, "[storage]\nwords = a, b, a\n",
     "p.conf:2: storage.words: \"a\" is listed twice"},
    {NULL, "[storage]\nwords = a,#b\n",
     "p.conf:2: storage.words: \"#b\" begins with #"},
    {NULL, "[storage]\npeers = a:1, b\n",
     "p.conf:2: storage.peers: \"b\" is not host:port"},
    {NULL, "[storage]\ntitle = forbidden\n",
     "p.conf:2: storage.title: \"forbidden\" is not allowed"},
    {NULL, "[storage]\ntitle = 12345678901\n",
     "p.conf:2: storage.title: its length is outside 0..10"},
    {NULL, "[cluster]\ncoordinators =\n",
     "p.conf:2: cluster.coordinators: its number of items is outside 1..5"},
    {NULL, "[cluster]\ndomains = a..b\n",
     "p.conf:2: cluster.domains: \"a..b\" is not a domain"},
    {NULL, "[cluster]\ndomains = -a.b\n",
     "p.conf:2: cluster.domains: \"-a.b\" is not a domain"},
    {NULL, "[cluster]\nlog_level = fatal\n",
     "p.conf:2: cluster.log_level: \"fatal\" is not error, warn, info or "
     "debug"},
    {NULL, "[storage]\ntitle = a\x01\n",
     "p.conf:2: control character in column 10"},
    {NULL, "[storage]\ntitle = a\rb\n",
     "p.conf:2: control character in column 10"},
    {NULL, CLUSTER,
     "p.conf: storage.node: must be set, or a node named with -n"},
    {"storage-9", CLUSTER "[storage storage-9]\n",
     "p.conf: storage.node: must be set"},
    {NULL, "[storage]\nnode = 1\n",
     "p.conf: cluster.coordinators: must be set"},
    {"storage-9", HEAD, "p.conf: there is no section [storage storage-9]"},
    {NULL, HEAD "stall = 777ms\n", "p.conf: storage.stall: unlucky"},
};

START_TEST(bad_lines)
{
    struct config c;
    struct err err;
    ck_assert_int_eq(parse_as(bad[_i].name, bad[_i].text, &c, &err), ST_CONFIG);
    ck_assert_str_eq(err.text, bad[_i].error);
}
END_TEST

START_TEST(sizes_of_file_and_line)
{
    struct config c;
    struct err err;
    struct config_source source = {"p.conf", NULL, &spec};
    struct buf b = {0};
    buf_put_text(&b, HEAD "# ");
    while (b.len < LIMIT_CONFIG_LINE + 100) {
        buf_put_text(&b, "x");
    }
    ck_assert_int_eq(config_parse(&source, buf_slice(&b), &c, &err), ST_CONFIG);
    ck_assert_str_eq(err.text, "p.conf:5: line is longer than 4095 bytes");
    while (b.len <= LIMIT_CONFIG_FILE) {
        buf_put_text(&b, "\n");
    }
    ck_assert_int_eq(config_parse(&source, buf_slice(&b), &c, &err), ST_CONFIG);
    ck_assert_str_eq(err.text, "p.conf: file is larger than 262144 bytes");
    buf_free(&b);
    ck_assert_int_eq(config_parse(&source,
                                  slice_make("[storage]\nnode = 1\0", 19), &c,
                                  &err),
                     ST_CONFIG);
    ck_assert_str_eq(err.text, "p.conf:2: control character in column 9");
}
END_TEST

START_TEST(defaults_and_types)
{
    struct config c;
    struct err err;
    ck_assert_int_eq(
        parse_as(NULL,
                 "# all\n[cluster] # shared\r\n"
                 "coordinators=a:1 , [::1]:2\tb:3\n"
                 "  domains = Example.org x-y.test\n"
                 "[gateway]\nwhatever = 1\nwhatever = 2\n"
                 "[storage]\n\tnode\t=\t7\t# seven\n"
                 "listen = [2001:db8::1]:7300\nmemory = 20M\nstall = 1500ms\n"
                 "proxy = yes\nwords = a#b, c\ntitle = two words",
                 &c, &err),
        ST_OK);
    const struct demo *d = c.own;
    ck_assert_str_eq(c.name, "storage-7");
    ck_assert(!c.named);
    ck_assert_uint_eq(c.cluster.coordinators.count, 3);
    ck_assert_str_eq(c.cluster.coordinators.items[1], "[::1]:2");
    ck_assert_ptr_null(c.cluster.coordinators.items[3]);
    ck_assert_uint_eq(c.cluster.domains.count, 2);
    ck_assert_int_eq(c.cluster.replicas, 3);
    ck_assert_int_eq(c.cluster.tablets, 64);
    ck_assert_str_eq(c.cluster.user, "");
    ck_assert_str_eq(c.cluster.log_level, "info");
    ck_assert_int_eq(d->node, 7);
    ck_assert_str_eq(d->listen, "[2001:db8::1]:7300");
    ck_assert_str_eq(d->data_dir, "/var/lib/x");
    ck_assert_uint_eq(d->memory, 20u << 20);
    ck_assert_int_eq(d->stall, 1500);
    ck_assert(d->proxy);
    ck_assert_uint_eq(d->words.count, 2);
    ck_assert_str_eq(d->words.items[0], "a#b");
    ck_assert_uint_eq(d->peers.count, 0);
    ck_assert_ptr_nonnull(d->peers.items);
    ck_assert_str_eq(d->title, "two words");
    config_free(&c);
}
END_TEST

/* The named section wins, before or behind the plain one. */
START_TEST(ranks)
{
    static const char *const texts[] = {
        HEAD "stall = 2s\ntitle = all\n[storage storage-2]\nnode = 2\n"
             "stall = 3s\n[storage storage-3]\nnode = 3\nstall = 4s\n",
        "[storage storage-3]\nstall = 4s\nnode = 3\n"
        "[storage storage-2]\nstall = 3s\nnode = 2\n" HEAD
        "title = all\nstall = 2s\n",
    };
    static const struct {
        const char *name, *is;
        int64_t node, stall;
    } rows[] = {
        {NULL, "storage-1", 1, 2000},
        {"storage-2", "storage-2", 2, 3000},
        {"storage-3", "storage-3", 3, 4000},
    };
    struct config c;
    struct err err;
    for (size_t i = 0; i < 6; i++) {
        size_t r = i % 3;
        ck_assert_int_eq(parse_as(rows[r].name, texts[i / 3], &c, &err), ST_OK);
        const struct demo *d = c.own;
        ck_assert_str_eq(c.name, rows[r].is);
        ck_assert_int_eq(d->node, rows[r].node);
        ck_assert_int_eq(d->stall, rows[r].stall);
        ck_assert_str_eq(d->title, "all");
        config_free(&c);
    }
}
END_TEST

START_TEST(prints_what_it_parses)
{
    struct config c, again;
    struct err err;
    struct buf one = {0}, two = {0};
    ck_assert_int_eq(parse_as(NULL,
                              HEAD "memory = 1536M\nstall = 90ms\nwords = x y\n"
                                   "peers = a:1 b:2\nlisten =\n",
                              &c, &err),
                     ST_OK);
    config_print(&c, &one);
    ck_assert_ptr_nonnull(strstr(buf_cstr(&one),
                                 "[storage]\nnode = 1\nlisten = \n"
                                 "data_dir = /var/lib/x\nmemory = 1536M\n"
                                 "stall = 90ms\nproxy = no\nwords = x, y\n"
                                 "peers = a:1, b:2\ntitle = \n"));
    ck_assert_int_eq(parse_as(NULL, buf_cstr(&one), &again, &err), ST_OK);
    config_print(&again, &two);
    ck_assert_str_eq(buf_cstr(&one), buf_cstr(&two));
    config_free(&c);
    config_free(&again);
    buf_free(&one);
    buf_free(&two);
}
END_TEST

START_TEST(describes)
{
    struct buf b = {0};
    config_describe(&spec, &b);
    const char *text = buf_cstr(&b);
    ck_assert_ptr_nonnull(
        strstr(text, "storage.node\tint\t(required)\t1..65535\tnumber\n"));
    ck_assert_ptr_nonnull(
        strstr(text, "storage.memory\tsize\t1G\t1M..1T\tmemory\n"));
    ck_assert_ptr_nonnull(
        strstr(text, "storage.stall\tduration\t1s\t1ms..1m\tstall\n"));
    buf_free(&b);
}
END_TEST

START_TEST(cluster_only)
{
    struct config c;
    struct err err;
    struct config_source source = {"p.conf", NULL, NULL};
    ck_assert_int_eq(config_parse(&source, slice_of(HEAD), &c, &err), ST_OK);
    ck_assert_str_eq(c.name, "client-1");
    ck_assert_ptr_null(c.own);
    config_free(&c);
}
END_TEST

START_TEST(loads_files)
{
    char path[] = "/tmp/penn-test-config-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq((int)write(fd, HEAD, strlen(HEAD)), (int)strlen(HEAD));
    close(fd);
    struct config_source source = {path, NULL, &spec};
    struct config c;
    struct err err;
    ck_assert_int_eq(config_load(&source, &c, &err), ST_OK);
    ck_assert_str_eq(c.path, path);
    config_free(&c);
    unlink(path);
    char want[128];
    snprintf(want, sizeof(want), "%s: No such file or directory", path);
    ck_assert_int_eq(config_load(&source, &c, &err), ST_CONFIG);
    ck_assert_str_eq(err.text, want);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("config");
    TCase *tc = tcase_create("config");
    tcase_set_timeout(tc, 60);
    tcase_add_loop_test(tc, bad_lines, 0, sizeof(bad) / sizeof(bad[0]));
    tcase_add_test(tc, sizes_of_file_and_line);
    tcase_add_test(tc, defaults_and_types);
    tcase_add_test(tc, ranks);
    tcase_add_test(tc, prints_what_it_parses);
    tcase_add_test(tc, describes);
    tcase_add_test(tc, cluster_only);
    tcase_add_test(tc, loads_files);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
