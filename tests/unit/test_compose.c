/*
 * Writing mails: bytes that any server takes as they are, that read back the
 * same, and addresses as people type them.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cloud/compose.h"
#include "cloud/message.h"
#include "tests/unit/cloud_fixture.h"

static struct fixture f;

static void set_up(void)
{
    fixture_init(&f);
}

static void tear_down(void)
{
    fixture_fini(&f);
}

static struct compose make(const char *subject, const char *text)
{
    static char from[] = "a@x.test", to[] = "b@x.test";
    static struct compose_mailbox one = {NULL, to};
    struct compose c = {.subject = subject,
                        .text = text,
                        .message_id = "1@x.test",
                        .date_ms = 1700000000000};
    c.from.address = from;
    c.to = (struct compose_mailboxes){&one, 1};
    return c;
}

static const char *const texts[] = {
    "",
    "x",
    "one line\n",
    "two\nlines",
    "dots\n.\n..\n.x\n",
    "From the start\nFrom a line\n",
    "trailing blanks  \n\ttabs\t\n",
    "Zeilen mit Umlauten: \xc3\xa4\xc3\xb6\xc3\xbc\n",
    "\xf0\x9f\xa6\x89 = 3D =\n=3D\n",
    "\n\n\n",
};

static void expect_clean(struct slice raw)
{
    size_t line = 0;
    for (size_t i = 0; i < raw.len; i++) {
        uint8_t b = raw.data[i];
        ck_assert_msg(b < 0x80 && b != 0, "byte %u at %zu", b, i);
        ck_assert(b != '\n' || (i > 0 && raw.data[i - 1] == '\r'));
        ck_assert(b != '\r' || (i + 1 < raw.len && raw.data[i + 1] == '\n'));
        line = b == '\n' ? 0 : line + 1;
        ck_assert_uint_le(line, 999);
    }
}

/* A text that does not end its last line gets that from the mail. */
static void expect_text(struct message_body *body, const char *want)
{
    size_t len = strlen(want), got = body->text.len;
    if (got == len + 1 && body->text.data[len] == '\n')
        got--;
    ck_assert_uint_eq(got, len);
    ck_assert(len == 0 || memcmp(body->text.data, want, len) == 0);
}

START_TEST(texts_come_back)
{
    struct compose c = make("S", texts[_i]);
    struct buf raw = {0};
    struct message_body body;
    compose_build(&c, &raw);
    expect_clean(buf_slice(&raw));
    struct message *m = message_parse(buf_slice(&raw));
    message_body(m, &body);
    expect_text(&body, texts[_i]);
    message_body_free(&body);
    message_free(m);
    buf_free(&raw);
}
END_TEST

START_TEST(long_lines_are_broken)
{
    char *text = malloc(5001);
    struct buf raw = {0};
    struct message_body body;
    memset(text, 'x', 5000);
    text[5000] = '\0';
    struct compose c = make("S", text);
    compose_build(&c, &raw);
    expect_clean(buf_slice(&raw));
    struct message *m = message_parse(buf_slice(&raw));
    message_body(m, &body);
    expect_text(&body, text);
    message_body_free(&body);
    message_free(m);
    buf_free(&raw);
    free(text);
}
END_TEST

START_TEST(fields_come_back)
{
    struct compose c = make("Gr\xc3\xbc\xc3\x9f"
                            "e \xe2\x80\x94 ein recht langer "
                            "Betreff, der \xc3\xbc"
                            "ber eine Zeile hinausgeht",
                            "x");
    char name[] = "M\xc3\xbcller, \"J\" <x@y>", address[] = "j.m@x.test";
    struct compose_mailbox cc = {name, address};
    static const uint8_t bytes[] = {0, 1, 2, 255, '\r', '\n', '.', '\r', '\n'};
    struct compose_attachment files[] = {
        {"a \xc3\xa4\"b.bin", "application/x-thing", {bytes, sizeof(bytes)}},
        {"empty", "text/plain", {NULL, 0}},
    };
    struct buf raw = {0}, header = {0}, part = {0};
    c.cc = (struct compose_mailboxes){&cc, 1};
    c.in_reply_to = "0@x.test";
    c.references = "<00@x.test> <0@x.test>";
    c.attachments = files;
    c.attachments_count = 2;
    compose_build(&c, &raw);
    expect_clean(buf_slice(&raw));
    struct message *m = message_parse(buf_slice(&raw));
    message_header_json(m, raw.len, &header);
    const char *json = buf_cstr(&header);
    ck_assert_str_eq(message_summary(m)->subject, c.subject);
    ck_assert_uint_eq(message_summary(m)->attachments, 2);
    ck_assert_int_eq(message_summary(m)->date_ms, c.date_ms);
    ck_assert_ptr_nonnull(
        strstr(json, "\"name\":\"M\xc3\xbcller, \\\"J\\\" <x@y>\""));
    ck_assert_ptr_nonnull(strstr(json, "\"message_id\":\"1@x.test\""));
    ck_assert_ptr_nonnull(strstr(json, "\"in_reply_to\":\"0@x.test\""));
    ck_assert_ptr_nonnull(
        strstr(json, "\"references\":[\"00@x.test\",\"0@x.test\"]"));
    const struct message_part *p = message_part_at(m, 1);
    ck_assert_str_eq(p->name, "a \xc3\xa4\"b.bin");
    ck_assert_str_eq(p->type, "application/x-thing");
    ck_assert_int_eq(message_part_decode(m, p->number, &part), ST_OK);
    ck_assert_uint_eq(part.len, sizeof(bytes));
    ck_assert_mem_eq(part.data, bytes, sizeof(bytes));
    message_free(m);
    buf_free(&raw);
    buf_free(&header);
    buf_free(&part);
}
END_TEST

static const struct {
    const char *text;
    const char *want; /* "name|address;..."; NULL: refused */
} lists[] = {
    {"", ""},
    {" , ;", ""},
    {"a@b", "|a@b;"},
    {" a@b , c@d ", "|a@b;|c@d;"},
    {"a@b; c@d", "|a@b;|c@d;"},
    {"A <a@b>", "A|a@b;"},
    {"A B. C <a@b>,d@e", "A B. C|a@b;|d@e;"},
    {"\"B, A\" <a@b>", "B, A|a@b;"},
    {"\"a \\\"q\\\" b\" <a@b>", "a \"q\" b|a@b;"},
    {"<a@b>", "|a@b;"},
    {"< a@b >", "|a@b;"},
    {"\"a b\"@c", "|\"a b\"@c;"},
    {"\"a,b\"@c, d@e", "|\"a,b\"@c;|d@e;"},
    {"M\xc3\xbcller <a@b>", "M\xc3\xbcller|a@b;"},
    {"<a@b", NULL},
    {"A <a@b> x", NULL},
    {"A <>", NULL},
    {"\"A <a@b>", NULL},
};

START_TEST(address_lists)
{
    struct arena arena = {0};
    struct compose_mailboxes list = {NULL, 0};
    struct buf got = {0};
    enum status s = compose_parse_mailboxes(lists[_i].text, 10, &arena, &list);
    for (size_t i = 0; i < list.count; i++)
        buf_printf(&got, "%s|%s;",
                   list.items[i].name == NULL ? "" : list.items[i].name,
                   list.items[i].address);
    ck_assert_int_eq(s, lists[_i].want == NULL ? ST_INVALID : ST_OK);
    if (lists[_i].want != NULL)
        ck_assert_str_eq(buf_cstr(&got), lists[_i].want);
    buf_free(&got);
    arena_free(&arena);
}
END_TEST

START_TEST(address_lists_are_bounded)
{
    struct buf text = {0};
    for (int n = 99; n <= 101; n++) {
        struct arena arena = {0};
        struct compose_mailboxes list = {NULL, 0};
        buf_clear(&text);
        for (int i = 0; i < n; i++)
            buf_printf(&text, "a%d@b,", i);
        ck_assert_int_eq(
            compose_parse_mailboxes(buf_cstr(&text), 100, &arena, &list),
            n > 100 ? ST_TOO_LARGE : ST_OK);
        ck_assert_uint_eq(list.count, n > 100 ? 100 : (size_t)n);
        ck_assert_str_eq(list.items[97].address, "a97@b");
        arena_free(&arena);
    }
    buf_free(&text);
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

int main(void)
{
    Suite *s = suite_create("compose");
    TCase *t = tcase_create("compose");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, set_up, tear_down);
    tcase_add_loop_test(t, texts_come_back, 0, COUNT(texts));
    tcase_add_test(t, long_lines_are_broken);
    tcase_add_test(t, fields_come_back);
    tcase_add_loop_test(t, address_lists, 0, COUNT(lists));
    tcase_add_test(t, address_lists_are_bounded);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
