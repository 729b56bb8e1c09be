/*
 * Reading mail: structure, header fields, bodies, bounds; bombs within a
 * second; every message of the Python test suite, whole and cut anywhere.
 */
#include <check.h>
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cloud/charset.h"
#include "cloud/json.h"
#include "cloud/message.h"
#include "cloud/text.h"
#include "cloud/ulid.h"

#define SAMPLES "/usr/lib/python3.11/test/test_email/data"

static void put_many(struct buf *b, const char *text, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_put_text(b, text);
}

/* Parts as "number type name size" lines. */
static void list_parts(const struct message *m, struct buf *out)
{
    for (size_t i = 0; i < message_part_count(m); i++) {
        const struct message_part *p = message_part_at(m, i);
        buf_printf(out, "%s %s%s%s %u%s\n", p->number, p->type,
                   p->name != NULL ? " " : "", p->name != NULL ? p->name : "",
                   (unsigned)p->size, p->attachment ? " a" : "");
    }
}

static const struct {
    const char *raw, *parts;
} structures[] = {
    {"Subject: x\r\n\r\nhello\r\n", "1 text/plain 7\n"},
    {"Subject: x\n\nhello\n", "1 text/plain 6\n"},
    {"", "1 text/plain 0\n"},
    {"\r\n", "1 text/plain 0\n"},
    {"just text, no header", "1 text/plain 20\n"},
    {"Content-Type: TEXT/Html; charset=utf-8\n\n<p>", "1 text/html 3\n"},
    {"Content-Type: nonsense\n\nx", "1 application/octet-stream 1 a\n"},
    {"Content-Type: multipart/mixed; boundary=b\n\npreamble\n--b\n\none\n--b\n"
     "Content-Type: text/html\n\ntwo\n--b--\nepilogue\n",
     "1 text/plain 3\n2 text/html 3\n"},
    {"Content-Type: multipart/mixed; boundary=\"b\"\r\n\r\n--b\r\n\r\none\r\n"
     "--b--\r\n",
     "1 text/plain 3\n"},
    /* No end, no blank line, trailing blanks, a look-alike. */
    {"Content-Type: multipart/mixed; boundary=b\n\n--b  \nX: y\n--bb\nin\n--b",
     "1 text/plain 7\n2 text/plain 0\n"},
    {"Content-Type: multipart/mixed; boundary=b\n\nno parts", "1 text/plain "
                                                              "8\n"},
    {"Content-Type: multipart/mixed\n\n--b\n\nx\n--b--",
     "1 multipart/mixed 12 a\n"},
    {"Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: "
     "multipart/alternative; boundary=i\n\n--i\n\nt\n--i\nContent-Type: "
     "text/html\n\nh\n--i--\n--o\nContent-Type: application/pdf; "
     "name=\"a.pdf\"\nContent-Disposition: attachment\n\nPDF\n--o--\n",
     "1.1 text/plain 1\n1.2 text/html 1\n2 application/pdf a.pdf 3 a\n"},
    /* The outer delimiter ends inner multiparts that did not end. */
    {"Content-Type: multipart/mixed; boundary=o\n\n--o\nContent-Type: "
     "multipart/mixed; boundary=i\n\n--i\n\nx\n--o\n\ny\n--o--\n",
     "1.1 text/plain 1\n2 text/plain 1\n"},
    {"Content-Type: multipart/digest; boundary=b\n\n--b\n\nSubject: in\n\n"
     "x\n--b--\n",
     "1 message/rfc822 14 a\n"},
    {"Content-Transfer-Encoding: base64\n\naGVsbG8=\n", "1 text/plain 5\n"},
    {"Content-Transfer-Encoding: quoted-printable\n\na=3Db=\n\n",
     "1 text/plain 4\n"},
    {"Content-Type: image/png\nContent-ID: <i@x>\nContent-Disposition: "
     "inline; filename=\"../../etc/passwd\"\n\nx",
     "1 image/png .._.._etc_passwd 1\n"},
    {"Content-Type: text/plain; name*=utf-8''%e2%82%ac.txt\n"
     "Content-Disposition: attachment\n\nx",
     "1 text/plain \xe2\x82\xac.txt 1 a\n"},
    {"Content-Disposition: attachment; filename=\"..\"\n\nx",
     "1 text/plain _. 1 a\n"},
    {"From sender Thu Jan 1\nContent-Type: text/html\n\nx", "1 text/html 1\n"},
    {" fold\nContent-Type: text/html\n\nx", "1 text/html 1\n"},
    /* The same once trace fields are in front. */
    {"Received: x\n\ty\nFrom sender Thu Jan 1\nContent-Type: text/html\n\nx",
     "1 text/html 1\n"},
    {"Received: x\n fold\nContent-Type: text/html\n\nx", "1 text/html 1\n"},
    /* But not in a part. */
    {"Content-Type: multipart/mixed; boundary=b\n\n--b\nA: b\nFrom x\n"
     "Content-Type: text/html\n\nx\n--b--\n",
     "1 text/plain 33\n"},
};

START_TEST(structure)
{
    struct message *m = message_parse(slice_of(structures[_i].raw));
    struct buf parts = {0};
    list_parts(m, &parts);
    ck_assert_str_eq(buf_cstr(&parts), structures[_i].parts);
    buf_free(&parts);
    message_free(m);
}
END_TEST

START_TEST(header_fields)
{
    static const char raw[] =
        "From: =?utf-8?q?J=C3=BCrgen?= <j@a.test>\r\n"
        "To: b@b.test, \"C, D\" <c@c.test>, group: d@d.test;\r\n"
        "Subject: =?utf-8?b?4oKs?= folded\r\n =?iso-8859-1?q?=E4?=\r\n"
        "Date: Sat, 22 Nov 2025 10:00:00 +0100\r\n"
        "Message-ID: <id@a.test>\r\n"
        "In-Reply-To: <r1@a.test>\r\n"
        "References: <r0@a.test>\r\n\t<r1@a.test>\r\n\r\nbody\r\n";
    struct message *m = message_parse(slice_of(raw));
    const struct message_summary *s = message_summary(m);
    ck_assert_str_eq(s->from, "J\xc3\xbcrgen <j@a.test>");
    ck_assert_str_eq(s->to, "b@b.test, C, D <c@c.test>, d@d.test");
    ck_assert_str_eq(s->subject, "\xe2\x82\xac folded \xc3\xa4");
    ck_assert_str_eq(s->snippet, "body");
    ck_assert_int_eq(s->date_ms, 1763802000000);
    struct buf json = {0};
    message_header_json(m, sizeof raw - 1, &json);
    ck_assert_str_eq(
        buf_cstr(&json),
        "{\"from\":[{\"name\":\"J\xc3\xbcrgen\",\"address\":\"j@a.test\"}],"
        "\"to\":[{\"name\":\"\",\"address\":\"b@b.test\"},"
        "{\"name\":\"C, D\",\"address\":\"c@c.test\"},"
        "{\"name\":\"\",\"address\":\"d@d.test\"}],\"cc\":[],\"bcc\":[],"
        "\"reply_to\":[],\"subject\":\"\xe2\x82\xac folded \xc3\xa4\","
        "\"date\":\"2025-11-22T09:00:00Z\",\"message_id\":\"id@a.test\","
        "\"in_reply_to\":\"r1@a.test\",\"references\":[\"r0@a.test\","
        "\"r1@a.test\"],\"size\":287,\"truncated\":false,\"parts\":[{"
        "\"number\":\"1\",\"type\":\"text/plain\",\"size\":6,"
        "\"attachment\":false}]}");
    buf_free(&json);
    message_free(m);
}
END_TEST

START_TEST(nasty_fields)
{
    static const char raw[] =
        "From: \"<script>\\r\\nX\" <a@a.test>\r\n"
        "Subject: a\0b\x01\x7f =?utf-8?q?=0D=0AInjected:_x=00?= "
        "\xe2\x80\xaegnp.exe \xff\xfe\r\n"
        "Date: Thu, 99 Foo 99999 99:99:99 +9999\r\n"
        "To: ((((((((\r\nCc: <<<<>>>>,,,;;;\r\n"
        "Message-ID: garbage\r\n\r\n";
    struct message *m = message_parse(slice_make(raw, sizeof raw - 1));
    const struct message_summary *s = message_summary(m);
    ck_assert(!text_is_unsafe(slice_of(s->from)));
    ck_assert(!text_is_unsafe(slice_of(s->subject)));
    ck_assert_ptr_null(strstr(s->subject, "\xe2\x80\xae"));
    struct buf json = {0};
    message_header_json(m, 1, &json);
    ck_assert(text_utf8_valid(buf_slice(&json)));
    cJSON *o = json_parse_object(buf_slice(&json));
    ck_assert_ptr_nonnull(o);
    cJSON_Delete(o);
    buf_free(&json);
    message_free(m);
}
END_TEST

static const struct {
    const char *raw, *text, *html, *snippet;
} bodies[] = {
    {"\n\nplain \xe2\x82\xac\n", "\nplain \xe2\x82\xac\n", "",
     "plain \xe2\x82\xac"},
    {"Subject: x\n\nraw \x80 bytes", "raw \xe2\x82\xac bytes", "",
     "raw \xe2\x82\xac bytes"},
    {"Content-Type: text/plain; charset=iso-8859-15\n\n\xa4", "\xe2\x82\xac",
     "", "\xe2\x82\xac"},
    {"Content-Type: text/plain; charset=utf-8\n\na\xff"
     "b",
     "a\xef\xbf\xbd"
     "b",
     "",
     "a\xef\xbf\xbd"
     "b"},
    {"Content-Type: text/plain; charset=\"/etc/passwd//TRANSLIT\"\n\nx", "x",
     "", "x"},
    {"Content-Type: text/plain; charset=utf-16le\n\n\xac\x20", "\xe2\x82\xac",
     "", "\xe2\x82\xac"},
    {"Content-Type: text/html\n\n<style>p{}</style><p>A &amp;&nbsp;<b>b</b>",
     "", "<style>p{}</style><p>A &amp;&nbsp;<b>b</b>", "A & b"},
    {"Content-Type: multipart/alternative; boundary=b\n\n--b\n\nT\n--b\n"
     "Content-Type: text/html\n\n<i>H</i>\n--b--",
     "T", "<i>H</i>", "T"},
    {"Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Disposition: "
     "attachment\n\nno\n--b\n\nyes\n--b--",
     "yes", "", "yes"},
    {"Content-Type: text/plain\n\na\r\nb\tc\x01\x1b[31md", "a\nb\tc[31md", "",
     "a b c[31md"},
};

START_TEST(body)
{
    struct message *m = message_parse(slice_of(bodies[_i].raw));
    struct message_body b;
    message_body(m, &b);
    ck_assert_str_eq(buf_cstr(&b.text), bodies[_i].text);
    ck_assert_str_eq(buf_cstr(&b.html), bodies[_i].html);
    ck_assert_str_eq(message_summary(m)->snippet, bodies[_i].snippet);
    message_body_free(&b);
    message_free(m);
}
END_TEST

START_TEST(part_contents)
{
    static const char raw[] =
        "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nt\r\n--b"
        "\r\nContent-Type: application/x; name=f\r\n"
        "Content-Transfer-Encoding: base64\r\n\r\nAAEC/w==\r\n--b--\r\n";
    struct message *m = message_parse(slice_of(raw));
    struct buf out = {0};
    ck_assert_int_eq(message_part_decode(m, "2", &out), ST_OK);
    ck_assert(slice_equal(buf_slice(&out), slice_make("\0\1\2\xff", 4)));
    ck_assert_int_eq(message_part_decode(m, "3", &out), ST_NOT_FOUND);
    ck_assert_int_eq(message_part_decode(m, "../1", &out), ST_NOT_FOUND);
    buf_free(&out);
    message_free(m);
}
END_TEST

/* ---- bounds ---- */

/* A message of N parts. */
static struct message *parse_parts(size_t n, struct buf *raw)
{
    buf_put_text(raw, "Content-Type: multipart/mixed; boundary=b\n\n");
    put_many(raw, "--b\n\nx\n", n);
    buf_put_text(raw, "--b--\n");
    return message_parse(buf_slice(raw));
}

START_TEST(part_bound)
{
    /* The container counts too. */
    for (size_t n = LIMIT_MIME_PARTS - 2; n <= LIMIT_MIME_PARTS; n++) {
        struct buf raw = {0};
        struct message *m = parse_parts(n, &raw);
        bool fits = n + 1 <= LIMIT_MIME_PARTS;
        ck_assert_uint_eq(message_part_count(m),
                          fits ? n : LIMIT_MIME_PARTS - 1);
        ck_assert(message_summary(m)->truncated == !fits);
        message_free(m);
        buf_free(&raw);
    }
}
END_TEST

static struct message *parse_nested(int depth, struct buf *raw)
{
    for (int i = 0; i < depth; i++)
        buf_printf(raw,
                   "%sContent-Type: multipart/mixed; boundary=b%d\n\n--b%d\n",
                   "", i, i);
    buf_put_text(raw, "\ninnermost\n");
    for (int i = depth; i-- > 0;)
        buf_printf(raw, "--b%d--\n", i);
    return message_parse(buf_slice(raw));
}

START_TEST(depth_bound)
{
    for (int n = LIMIT_MIME_DEPTH - 1; n <= LIMIT_MIME_DEPTH + 1; n++) {
        struct buf raw = {0};
        struct message *m = parse_nested(n, &raw);
        bool fits = n <= LIMIT_MIME_DEPTH;
        ck_assert_uint_eq(message_part_count(m), 1);
        ck_assert_str_eq(message_part_at(m, 0)->type,
                         fits ? "text/plain" : "application/octet-stream");
        ck_assert(message_summary(m)->truncated == !fits);
        message_free(m);
        buf_free(&raw);
    }
}
END_TEST

START_TEST(body_bound)
{
    for (size_t n = LIMIT_MESSAGE_BODY - 1; n <= LIMIT_MESSAGE_BODY + 1; n++) {
        struct buf raw = {0};
        buf_put_text(&raw, "Subject: x\n\n");
        put_many(&raw, "y", n);
        struct message *m = message_parse(buf_slice(&raw));
        struct message_body b;
        message_body(m, &b);
        ck_assert_int_eq(b.cut, n > LIMIT_MESSAGE_BODY);
        ck_assert_uint_eq(b.text.len,
                          n > LIMIT_MESSAGE_BODY ? LIMIT_MESSAGE_BODY : n);
        message_body_free(&b);
        message_free(m);
        buf_free(&raw);
    }
}
END_TEST

START_TEST(received_count)
{
    struct buf raw = {0};
    put_many(&raw, "Received: x\r\n by y\r\nX-Received: no\r\n", 7);
    buf_put_text(&raw, "\r\nReceived: body\r\n");
    ck_assert_uint_eq(message_count_received(buf_slice(&raw), 100), 7);
    ck_assert_uint_eq(message_count_received(buf_slice(&raw), 5), 5);
    buf_free(&raw);
}
END_TEST

/* ---- bombs ---- */

static void fill(struct buf *raw, const char *head, const char *unit)
{
    buf_put_text(raw, head);
    size_t n = strlen(unit);
    while (raw->len + n <= LIMIT_MESSAGE)
        buf_put(raw, unit, n);
}

static void nested_units(struct buf *raw, const char *unit)
{
    while (raw->len + 200 < LIMIT_MESSAGE)
        buf_printf(raw, "%s%zu\n\n--b%zu\n", unit, raw->len, raw->len);
}

/* Boundaries of one length that differ in their last digits only, then lines
 * that look like them. */
static void look_alikes(struct buf *raw)
{
    for (int i = 0; i < 50; i++)
        buf_printf(raw,
                   "Content-Type: multipart/mixed; boundary=aaaaaaaaaaaa%02d"
                   "\n\n--aaaaaaaaaaaa%02d\n",
                   i, i);
    fill(raw, "\n", "--aaaaaaaaaaaa99\n");
}

/* As many parts as fit, each with a field as long as one may be. */
static void heavy_heads(struct buf *raw, const char *field, const char *unit)
{
    size_t n = strlen(unit);
    buf_put_text(raw, "Content-Type: multipart/mixed; boundary=b\n\n");
    while (raw->len + LIMIT_MESSAGE_FIELD + 100 < LIMIT_MESSAGE) {
        buf_put_text(raw, "--b\n");
        buf_put_text(raw, field);
        for (size_t at = 0; at + n <= LIMIT_MESSAGE_FIELD; at += n)
            buf_put(raw, unit, n);
        buf_put_text(raw, "\n\n");
    }
}

static const char *const heads[][2] = {
    {"Content-Type: text/plain", "; a=b"},
    {"Content-Type: text/plain; ", "a*0*=x; "},
    {"Content-Type: text/plain; name=\"", "=?utf-8?q?a?= "},
    {"Content-Type: text/plain; charset=\"", "\\\""},
    {"Content-Type: ", "(((("},
    {"Content-Disposition: attachment; filename", "*0*=utf-8''%41; x"},
    {"Content-Disposition: attachment", "; filename=\"\""},
    {"Content-Transfer-Encoding: ", "x"},
    {"Content-ID: ", "<a@b> "},
    {"Content-ID: ", "(((("},
    {"Content-ID: <", "\"\"."},
};
#define HEADS ((int)(sizeof heads / sizeof *heads))

static void make_bomb(int kind, struct buf *raw)
{
    static const char *const simple[][2] = {
        {"Content-Type: multipart/mixed; boundary=b\n\n", "--b\n"},
        {"Content-Type: multipart/mixed; boundary=b\n\n", "--b\n\n"},
        {"Content-Type: multipart/mixed; boundary=b\n\n", "--b--\n"},
        {"Content-Type: multipart/mixed; boundary=b\n\n",
         "--b\nContent-Type: multipart/mixed; boundary=b\n\n"},
        {"", "Content-Type: message/rfc822\n\n"},
        {"", "\n"},
        {"", "X: y\n"},
        {"", "Content-Type: multipart/mixed;\n"},
        {"Subject: ", "=?utf-8?q?a?= "},
        {"To: ", "a@b.test, "},
        {"To: ", "a:"},
        {"To: ", "(((("},
        {"To: ", "\"\\\""},
        {"References: ", "<a@b> "},
        {"Content-Type: text/plain; ", "a*0*=x; "},
        {"Content-Disposition: attachment; filename", "*0*=utf-8''%41; x"},
        {"Content-Transfer-Encoding: base64\n\n", "===="},
        {"Content-Transfer-Encoding: quoted-printable\n\n", "=\n=="},
        {"Content-Transfer-Encoding: x-uuencode\n\nbegin 644 x\n", "M~~~~\n"},
        {"Content-Type: text/html\n\n", "<"},
        {"Content-Type: text/html\n\n", "<!--"},
        {"Content-Type: text/plain; charset=iso-2022-jp\n\n", "\x1b$B\x80"},
        {"Content-Type: text/plain; charset=utf-8\n\n", "\xff"},
        {"From: ", "<<<<"},
        {"From: ", "a@[1.2."},
        {"From: ", "=?utf-8?b?4?= <a@b>;:"},
        {"Reply-To: ", "a;b;"},
        {"Date: ", "1 Jan "},
        {"Date: ", "(1"},
        {"Message-ID: <", "a.\"\"."},
        {"In-Reply-To: ", "((a@b"},
        {"Subject: =?utf-8?b?", "=4A"},
        {"Subject: ", "=?iso-2022-jp?b?GyRC?="},
    };
    const int simple_count = (int)(sizeof simple / sizeof *simple);
    if (kind < simple_count)
        fill(raw, simple[kind][0], simple[kind][1]);
    else if (kind < simple_count + HEADS)
        heavy_heads(raw, heads[kind - simple_count][0],
                    heads[kind - simple_count][1]);
    else if (kind == simple_count + HEADS)
        nested_units(raw, "Content-Type: multipart/mixed; boundary=b");
    else
        look_alikes(raw);
}
#define BOMBS (35 + HEADS)

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* What a mail does to the thread that takes it. */
struct defusing {
    struct slice raw;
    double took;
    size_t parts, json;
};

static void *defuse(void *arg)
{
    struct defusing *d = arg;
    struct buf json = {0};
    struct message_body b;
    double began = seconds();
    struct message *m = message_parse(d->raw);
    message_header_json(m, d->raw.len, &json);
    message_body(m, &b);
    d->took = seconds() - began;
    d->parts = message_part_count(m);
    d->json = json.len;
    message_body_free(&b);
    message_free(m);
    buf_free(&json);
    return NULL;
}

#ifdef __SANITIZE_ADDRESS__
#define SLOWER 10
#else
#define SLOWER 1
#endif

/* On a stack as small as an SMTP session's. */
START_TEST(bomb)
{
    struct buf raw = {0};
    make_bomb(_i, &raw);
    struct defusing d = {.raw = buf_slice(&raw)};
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, KIB(256) * SLOWER);
    ck_assert_int_eq(pthread_create(&thread, &attr, defuse, &d), 0);
    pthread_join(thread, NULL);
    ck_assert_msg(d.took < 1 * SLOWER, "%.2f s", d.took);
    ck_assert_uint_le(d.parts, LIMIT_MIME_PARTS);
    ck_assert_uint_le(d.json, LIMIT_VALUE);
    buf_free(&raw);
}
END_TEST

/* ---- real messages ---- */

static void exercise(struct slice raw)
{
    struct buf json = {0}, part = {0};
    struct message *m = message_parse(raw);
    struct message_body b;
    message_header_json(m, raw.len, &json);
    cJSON *o = json_parse_object(buf_slice(&json));
    ck_assert_ptr_nonnull(o);
    cJSON_Delete(o);
    ck_assert(text_utf8_valid(buf_slice(&json)));
    message_body(m, &b);
    ck_assert(text_utf8_valid(buf_slice(&b.text)));
    ck_assert(text_utf8_valid(buf_slice(&b.html)));
    for (size_t i = 0; i < message_part_count(m); i++) {
        const struct message_part *p = message_part_at(m, i);
        buf_clear(&part);
        ck_assert_int_eq(message_part_decode(m, p->number, &part), ST_OK);
        ck_assert_uint_eq(part.len, p->size);
    }
    message_body_free(&b);
    message_free(m);
    buf_free(&json);
    buf_free(&part);
}

static void read_whole(const char *path, struct buf *out)
{
    FILE *f = fopen(path, "rb");
    ck_assert_ptr_nonnull(f);
    for (int c = getc(f); c != EOF; c = getc(f))
        buf_put_u8(out, (uint8_t)c);
    fclose(f);
}

START_TEST(python_samples)
{
    DIR *dir = opendir(SAMPLES);
    if (dir == NULL) {
        fprintf(stderr,
                "SKIP python_samples: no %s (libpython3.11-testsuite)"
                "\n",
                SAMPLES);
        return;
    }
    int count = 0;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        char path[512];
        struct buf raw = {0};
        if (strstr(e->d_name, ".txt") == NULL)
            continue;
        snprintf(path, sizeof path, "%s/%s", SAMPLES, e->d_name);
        read_whole(path, &raw);
        exercise(buf_slice(&raw));
        size_t stride = raw.len / 97 + 1;
        for (size_t cut = 0; cut < raw.len; cut += stride)
            exercise(slice_make(raw.data, cut));
        for (size_t at = 0; at < raw.len; at += stride) {
            raw.data[at] ^= 0x55;
            exercise(buf_slice(&raw));
        }
        buf_free(&raw);
        count++;
    }
    closedir(dir);
    ck_assert_int_ge(count, 40);
}
END_TEST

/* ---- the small ones ---- */

START_TEST(utf8)
{
    static const struct {
        const char *text;
        bool valid;
    } table[] = {
        {"", true},
        {"a", true},
        {"\xc3\xa4", true},
        {"\xe2\x82\xac", true},
        {"\xf0\x9f\x98\x80", true},
        {"\xf4\x8f\xbf\xbf", true},
        {"\xc3", false},
        {"\x80", false},
        {"\xc0\x80", false},
        {"\xc1\xbf", false},
        {"\xe0\x80\x80", false},
        {"\xed\xa0\x80", false},
        {"\xf0\x80\x80\x80", false},
        {"\xf4\x90\x80\x80", false},
        {"\xf5\x80\x80\x80", false},
        {"\xff", false},
        {"\xe2\x82", false},
        {"\xe2\x82"
         "a",
         false},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        ck_assert_msg(text_utf8_valid(slice_of(table[i].text)) ==
                          table[i].valid,
                      "%zu", i);
}
END_TEST

START_TEST(lines)
{
    char out[8];
    text_line(slice_of("  a \r\n\t b  "), out, sizeof out);
    ck_assert_str_eq(out, "a b");
    /* Cut between characters. */
    text_line(slice_of("12345\xe2\x82\xac"), out, sizeof out);
    ck_assert_str_eq(out, "12345");
    text_line(slice_of("1234\xe2\x82\xac"), out, sizeof out);
    ck_assert_str_eq(out, "1234\xe2\x82\xac");
    text_line(slice_of(""), out, sizeof out);
    ck_assert_str_eq(out, "");
}
END_TEST

START_TEST(ulids)
{
    static const uint8_t zero[10] = {0};
    static const uint8_t ones[10] = {255, 255, 255, 255, 255,
                                     255, 255, 255, 255, 255};
    char a[ULID_SIZE], b[ULID_SIZE];
    ulid_encode(0, zero, a);
    ck_assert_str_eq(a, "00000000000000000000000000");
    ulid_encode((1ll << 48) - 1, ones, a);
    ck_assert_str_eq(a, "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
    ulid_encode(1469918176385, zero, a);
    ck_assert_int_eq(strncmp(a, "01ARYZ6S41", 10), 0);
    ck_assert_int_eq(ulid_time_ms(slice_of(a)), 1469918176385);
    ulid_encode(1469918176386, zero, b);
    ck_assert_int_lt(strcmp(a, b), 0);
    static const char *const bad[] = {"",
                                      "01ARYZ6S41",
                                      "81ARZ3NDEKTSV4RRFFQ69G5FAV",
                                      "01ARZ3NDEKTSV4RRFFQ69G5FAI",
                                      "01arz3ndektsv4rrffq69g5fav",
                                      "01ARZ3NDEKTSV4RRFFQ69G5FA/",
                                      "01ARZ3NDEKTSV4RRFFQ69G5FAV0"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        ck_assert_msg(!ulid_valid(slice_of(bad[i])), "%s", bad[i]);
    ck_assert(ulid_valid(slice_of("01ARZ3NDEKTSV4RRFFQ69G5FAV")));
}
END_TEST

int main(void)
{
    message_init();
    Suite *s = suite_create("message");
    TCase *t = tcase_create("all");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, structure, 0,
                        (int)(sizeof structures / sizeof *structures));
    tcase_add_test(t, header_fields);
    tcase_add_test(t, nasty_fields);
    tcase_add_loop_test(t, body, 0, (int)(sizeof bodies / sizeof *bodies));
    tcase_add_test(t, part_contents);
    tcase_add_test(t, part_bound);
    tcase_add_test(t, depth_bound);
    tcase_add_test(t, body_bound);
    tcase_add_test(t, received_count);
    tcase_add_loop_test(t, bomb, 0, BOMBS);
    tcase_add_test(t, python_samples);
    tcase_add_test(t, utf8);
    tcase_add_test(t, lines);
    tcase_add_test(t, ulids);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
