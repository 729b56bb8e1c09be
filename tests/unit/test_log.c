/*
 * Log lines: their form, what quoting does to hostile values, and that a line
 * is one write.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/log.h"

static int64_t fixed_now(void *ctx)
{
    return *(int64_t *)ctx;
}

__attribute__((format(printf, 3, 4))) static const char *
format_line(const struct log *log, enum log_level level, const char *pairs, ...)
{
    static char line[LIMIT_LOG_LINE];
    va_list ap;
    va_start(ap, pairs);
    struct log_event e = {"wal", "synced", pairs, &ap};
    size_t len =
        log_format(log, level, 1600000000123456, &e, line, sizeof(line));
    va_end(ap);
    ck_assert_uint_eq(len, strlen(line));
    return line;
}

START_TEST(forms)
{
    int64_t now = 12000345;
    struct log plain = {.daemon = "penn-storaged", .node = "storage-1"};
    struct log wall = plain, journal = plain, sim = plain;
    wall.wall = true;
    journal.journal = true;
    sim.now_us = fixed_now;
    sim.ctx = &now;
    ck_assert_str_eq(format_line(&plain, LOG_LEVEL_INFO, "bytes=%d", 7),
                     "level=info daemon=penn-storaged node=storage-1 "
                     "module=wal event=synced bytes=7\n");
    ck_assert_str_eq(format_line(&wall, LOG_LEVEL_WARN, "a=%d", 1),
                     "time=2020-09-13T12:26:40.123456Z level=warn "
                     "daemon=penn-storaged node=storage-1 module=wal "
                     "event=synced a=1\n");
    ck_assert_str_eq(format_line(&journal, LOG_LEVEL_ERROR, "a=%d", 1),
                     "<3>level=error daemon=penn-storaged node=storage-1 "
                     "module=wal event=synced a=1\n");
    ck_assert_str_eq(format_line(&sim, LOG_LEVEL_DEBUG, "a=%d", 1),
                     "t=12.000345 level=debug daemon=penn-storaged "
                     "node=storage-1 module=wal event=synced a=1\n");
}
END_TEST

START_TEST(priorities)
{
    static const struct {
        enum log_level level;
        const char *head;
    } rows[] = {
        {LOG_LEVEL_PANIC, "<2>level=panic "},
        {LOG_LEVEL_FATAL, "<2>level=fat"},
        {LOG_LEVEL_ERROR, "<3>level=error "},
        {LOG_LEVEL_WARN, "<4>level=warn "},
        {LOG_LEVEL_INFO, "<6>level=info "},
        {LOG_LEVEL_DEBUG, "<7>level=deb"},
    };
    struct log log = {.journal = true};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        enum log_level parsed;
        const char *line = format_line(&log, rows[i].level, "a=%d", 1);
        ck_assert_msg(strncmp(line, rows[i].head, strlen(rows[i].head)) == 0,
                      "%s", line);
        ck_assert(log_level_parse(log_level_name(rows[i].level), &parsed));
        ck_assert_int_eq(parsed, rows[i].level);
    }
    enum log_level level;
    ck_assert(!log_level_parse("verbose", &level));
    ck_assert(!log_level_parse("", &level));
}
END_TEST

START_TEST(cuts_and_forgery)
{
    struct log log = {.daemon = "d", .node = "n"};
    char big[2 * LIMIT_LOG_LINE];
    memset(big, 'x', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    const char *line = format_line(&log, LOG_LEVEL_INFO, "v=%s", big);
    ck_assert_uint_eq(strlen(line), LIMIT_LOG_LINE - 1);
    ck_assert_int_eq(line[strlen(line) - 1], '\n');
    line =
        format_line(&log, LOG_LEVEL_INFO, "v=%s", "a\nlevel=error\r\x7f\x1b");
    ck_assert_ptr_eq(strchr(line, '\n'), line + strlen(line) - 1);
    ck_assert_ptr_nonnull(strstr(line, "v=a?level=error???\n"));
}
END_TEST

START_TEST(quoting)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        {"plain-1.2:3/4", "plain-1.2:3/4"},
        {"", "\"\""},
        {"two words", "\"two words\""},
        {"a=b", "\"a=b\""},
        {"say \"hi\"", "\"say \\\"hi\\\"\""},
        {"back\\slash", "\"back\\\\slash\""},
        {"a\nb\rc\td", "\"a\\nb\\rc\\td\""},
        {"\x01\x7f\xff", "\"\\x01\\x7f\\xff\""},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        ck_assert_str_eq(log_quote(slice_of(rows[i].in)), rows[i].out);
    }
    ck_assert_str_eq(log_quote(slice_make("a\0b", 3)), "\"a\\x00b\"");
    ck_assert_str_eq(log_quote(slice_make(NULL, 0)), "\"\"");
}
END_TEST

START_TEST(quoting_cut_and_turns)
{
    char big[LIMIT_LOG_VALUE + 2];
    memset(big, 0xff, sizeof(big));
    const char *at = log_quote(slice_make(big, LIMIT_LOG_VALUE));
    ck_assert_uint_eq(strlen(at), 4 * LIMIT_LOG_VALUE + 2);
    at = log_quote(slice_make(big, LIMIT_LOG_VALUE + 1));
    ck_assert_uint_eq(strlen(at), 4 * LIMIT_LOG_VALUE + 5);
    ck_assert_str_eq(at + strlen(at) - 4, "\"...");
    memset(big, 'x', sizeof(big));
    at = log_quote(slice_make(big, LIMIT_LOG_VALUE));
    ck_assert_uint_eq(strlen(at), LIMIT_LOG_VALUE);
    const char *first = log_quote(slice_of("first"));
    for (int i = 0; i < 7; i++) {
        (void)log_quote(slice_of("other"));
    }
    ck_assert_str_eq(first, "first");
}
END_TEST

/* A datagram socket keeps writes apart: one line must be one write. */
START_TEST(one_write)
{
    int fds[2];
    char got[LIMIT_LOG_LINE];
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0, fds),
                     0);
    struct log log = {
        .daemon = "d", .node = "n", .level = LOG_LEVEL_WARN, .fd = fds[0]};
    log_warn(&log, "m", "first", "a=%d", 1);
    log_info(&log, "m", "dropped", "a=%d", 2);
    log_set_level(&log, LOG_LEVEL_INFO);
    log_info(&log, "m", "second", "a=%d", 3);
    ssize_t n = read(fds[1], got, sizeof(got) - 1);
    ck_assert_int_gt((int)n, 0);
    got[n] = '\0';
    ck_assert_str_eq(got,
                     "level=warn daemon=d node=n module=m event=first a=1\n");
    n = read(fds[1], got, sizeof(got) - 1);
    ck_assert_int_gt((int)n, 0);
    got[n] = '\0';
    ck_assert_str_eq(got,
                     "level=info daemon=d node=n module=m event=second a=3\n");
    ck_assert_int_lt((int)read(fds[1], got, sizeof(got)), 0);
    close(fds[0]);
    close(fds[1]);
}
END_TEST

START_TEST(journal_is_recognised)
{
    struct stat st;
    struct log log;
    char text[64];
    ck_assert_int_eq(fstat(STDERR_FILENO, &st), 0);
    snprintf(text, sizeof(text), "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino);
    setenv("JOURNAL_STREAM", text, 1);
    log_init_stderr(&log, "d", "n");
    ck_assert(log.journal && !log.wall);
    snprintf(text, sizeof(text), "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino + 1);
    setenv("JOURNAL_STREAM", text, 1);
    log_init_stderr(&log, "d", "n");
    ck_assert(!log.journal && log.wall);
    unsetenv("JOURNAL_STREAM");
    log_init_stderr(&log, "d", "n");
    ck_assert(!log.journal && log.wall);
    ck_assert_int_eq(log.level, LOG_LEVEL_INFO);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("log");
    TCase *tc = tcase_create("log");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, forms);
    tcase_add_test(tc, priorities);
    tcase_add_test(tc, cuts_and_forgery);
    tcase_add_test(tc, quoting);
    tcase_add_test(tc, quoting_cut_and_turns);
    tcase_add_test(tc, one_write);
    tcase_add_test(tc, journal_is_recognised);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
