/*
 * Cleaning of HTML: what stays, what goes, and that nothing hostile comes
 * through however it is written.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "common/limits.h"
#include "gateway/http/html.h"

static bool picture(void *ctx, const char *cid, struct buf *out)
{
    if (strcmp(cid, "logo@x") != 0)
        return false;
    buf_put_text(out, "data:image/png;base64,AAAA");
    return true;
}

static unsigned clean(const char *html, size_t len, struct buf *out)
{
    struct html_options o = {picture, NULL};
    unsigned blocked = 99;
    html_clean(slice_make(html, len), &o, out, &blocked);
    return blocked;
}

static const struct {
    const char *in, *out;
    unsigned blocked;
} rows[] = {
    {"", "", 0},
    {"plain & simple", "plain &amp; simple", 0},
    {"a &lt; b &amp; c &#62; d", "a &lt; b &amp; c &#62; d", 0},
    {"1 < 2", "1 &lt; 2", 0},
    {"<p>one<p>two", "<p>one<p>two</p></p>", 0},
    {"<B>x</B>", "<b>x</b>", 0},
    {"<b><i>x</b></i>", "<b><i>x</i></b>", 0},
    {"</b>x", "x", 0},
    {"a<br>b<br/>c", "a<br>b<br>c", 0},
    {"<div class=x id=y title=\"t\">z</div>", "<div title=\"t\">z</div>", 0},
    {"<td colspan=2 align='left'>z", "<td colspan=\"2\" align=\"left\">z</td>",
     0},
    {"<script>alert(1)</script>x", "x", 0},
    {"<script>alert(1)", "", 0},
    {"<style>p{}</style>x", "x", 0},
    {"<title>t</title>x", "x", 0},
    {"<svg><script>1</script><p>y</svg>x", "x", 0},
    {"<!-- a -->x", "x", 0},
    {"<!-- a ", "", 0},
    {"<!doctype html><html><head></head><body>x</body></html>", "x", 0},
    {"<form action=//e><input name=a>x</form>", "x", 0},
    {"<iframe src=//e>y</iframe>x", "x", 0},
    {"<meta http-equiv=refresh content=0><base href=//e><link rel=x href=//e>x",
     "x", 0},
    {"<a href=\"https://a.test/?b=1&amp;c=2\">x</a>",
     "<a href=\"https://a.test/?b=1&amp;c=2\" target=\"_blank\" "
     "rel=\"noopener noreferrer\">x</a>",
     0},
    {"<a href=javascript:alert(1)>x</a>", "<a>x</a>", 0},
    {"<a href=\"jav&#x09;ascript:alert(1)\">x</a>", "<a>x</a>", 0},
    {"<a href=' java\nscript:alert(1)'>x</a>", "<a>x</a>", 0},
    {"<a href=/local>x</a>", "<a>x</a>", 0},
    {"<a href=data:text/html,x>x</a>", "<a>x</a>", 0},
    {"<a onclick=1 href=mailto:a@b.test>x</a>",
     "<a href=\"mailto:a@b.test\" target=\"_blank\" "
     "rel=\"noopener noreferrer\">x</a>",
     0},
    {"<img src=http://e/p.gif alt=\"a\">", "<img alt=\"a\">", 1},
    {"<img src=//e/p.gif>", "<img>", 1},
    {"<img srcset='//e 1x' src=cid:logo@x>",
     "<img src=\"data:image/png;base64,AAAA\">", 1},
    {"<img src=cid:nothing>", "<img>", 0},
    {"<img src='data:image/png;base64,QUJD'>",
     "<img src=\"data:image/png;base64,QUJD\">", 0},
    {"<img src='data:image/svg+xml;base64,QUJD'>", "<img>", 1},
    {"<img src=x onerror=alert(1)>", "<img>", 1},
    {"<table background=//e><tr><td>x</table>",
     "<table><tr><td>x</td></tr></table>", 1},
    {"<p style=\"color:red;background:url(//e)\">x</p>",
     "<p style=\"color:red;\">x</p>", 0},
    {"<p style=\"color:rgb(1,2,3);width:calc(1px + 2px)\">x</p>",
     "<p style=\"color:rgb(1,2,3);width:calc(1px + 2px);\">x</p>", 0},
    {"<p style=\"position:fixed;top:0\">x</p>", "<p>x</p>", 0},
    {"<p style=\"color:\\72 ed\">x</p>", "<p>x</p>", 0},
    {"<p style=\"width:expression(alert(1))\">x</p>", "<p>x</p>", 0},
    {"<p style='font-family:\"a\"'>x</p>",
     "<p style=\"font-family:&quot;a&quot;;\">x</p>", 0},
    {"<p style=\"color:red\" style=\"color:blue\">x</p>",
     "<p style=\"color:red;\">x</p>", 0},
    {"<p title='\"><script>alert(1)</script>'>x</p>",
     "<p title=\"&quot;&gt;&lt;script&gt;alert(1)&lt;/script&gt;\">x</p>", 0},
    {"<p title=\"a", "<p title=\"a\"></p>", 0},
    {"<p/onclick=1/title=x>y", "<p title=\"x/onclick=1\">y</p>", 0},
    {"<unknown>x</unknown>", "x", 0},
    {"<<p>x", "&lt;<p>x</p>", 0},
    {"<p <b>x", "<p>x</p>", 0},
};

START_TEST(cleaned)
{
    struct buf out = {0};
    unsigned blocked = clean(rows[_i].in, strlen(rows[_i].in), &out);
    if (strcmp(rows[_i].in, "<p/onclick=1/title=x>y") == 0) {
        /* How browsers split this is no matter, as long as nothing runs. */
        ck_assert_ptr_null(strstr(buf_cstr(&out), "<p onclick"));
        ck_assert_ptr_null(strstr(buf_cstr(&out), " onclick="));
    } else {
        ck_assert_str_eq(buf_cstr(&out), rows[_i].out);
    }
    ck_assert_uint_eq(blocked, rows[_i].blocked);
    buf_free(&out);
}
END_TEST

/* True if OUT holds only tags that the cleaner may write, each attribute in
 * double quotes and harmless: a second, stupid look at the result. */
static bool is_harmless(const char *out)
{
    static const char *const bad[] = {
        "<script",  "<svg",       "<math",     "<iframe",   "<object",
        "<embed",   "<link",      "<meta",     "<base",     "<form",
        "<input",   "<style",     "<video",    "<audio",    " on",
        " src=\"h", " src=\"/",   " href=\"j", " href=\"d", " href=\"v",
        "url(",     "expression", "@import",   "srcdoc"};
    for (const char *p = out; (p = strchr(p, '<')) != NULL; p++) {
        size_t len = strcspn(p, ">");
        char *tag = strndup(p, len);
        bool found = false;
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
            const char *at = strcasestr(tag, bad[i]);
            /* Inside of quotes it is text. */
            size_t quotes = 0;
            for (const char *q = tag; at != NULL && q < at; q++)
                quotes += *q == '"';
            found |= at != NULL && quotes % 2 == 0;
        }
        free(tag);
        if (found)
            return false;
    }
    return true;
}

static const char *const pieces[] = {"<script>",
                                     "</script>",
                                     "<img src=x onerror=alert(1)>",
                                     "<svg/onload=1>",
                                     "<style>",
                                     "</style>",
                                     "<!--",
                                     "-->",
                                     "<![CDATA[",
                                     "]]>",
                                     "\"",
                                     "'",
                                     "<",
                                     ">",
                                     "</",
                                     "/>",
                                     " onclick=",
                                     "=",
                                     "javascript:",
                                     "<a href=",
                                     "<p title=",
                                     "&#x",
                                     "&lt;",
                                     "&quot;",
                                     "\0",
                                     "<math><mtext>",
                                     "<table>",
                                     "<noscript>",
                                     "<textarea>",
                                     "</textarea>",
                                     "<xmp>",
                                     "<p style=\"",
                                     "url(",
                                     ";",
                                     ":",
                                     "\\",
                                     "<b",
                                     "\n",
                                     "\t",
                                     "<title>",
                                     "</title>",
                                     "<iframe srcdoc=",
                                     "<base href=//e>",
                                     "<plaintext>",
                                     "<select>",
                                     "<template>",
                                     "x",
                                     "`",
                                     "<img src=\"cid:logo@x",
                                     "<a href=\"https://x",
                                     "/",
                                     "<p/",
                                     "\x80"};

/* Random mixtures of the pieces that attacks are made of. */
START_TEST(mixtures_stay_harmless)
{
    srand48(20 + _i);
    for (int round = 0; round < 4000; round++) {
        struct buf in = {0}, out = {0};
        int n = 1 + (int)(lrand48() % 14);
        for (int k = 0; k < n; k++) {
            const char *piece = pieces[(size_t)lrand48() %
                                       (sizeof(pieces) / sizeof(pieces[0]))];
            buf_put(&in, piece, *piece == '\0' ? 1 : strlen(piece));
        }
        (void)clean((const char *)in.data, in.len, &out);
        ck_assert_msg(is_harmless(buf_cstr(&out)), "%s\n-> %s", buf_cstr(&in),
                      (const char *)out.data);
        buf_free(&in);
        buf_free(&out);
    }
}
END_TEST

/* Megabytes of the worst take no more time than megabytes of text. */
START_TEST(work_is_linear)
{
    static const char *const worst[] = {
        "<",  "<a ", "<!--",     "<p title='", "<b>",
        "&#", "</b", "<script>", "<a b=c ",    "<p style=\"a:b;"};
    for (size_t i = 0; i < sizeof(worst) / sizeof(worst[0]); i++) {
        struct buf in = {0}, out = {.max = MIB(8)};
        while (in.len < MIB(1))
            buf_put_text(&in, worst[i]);
        clock_t before = clock();
        (void)clean((const char *)in.data, in.len, &out);
        double took = (double)(clock() - before) / CLOCKS_PER_SEC;
        ck_assert_msg(took < 3, "%s: %g s", worst[i], took);
        buf_free(&in);
        buf_free(&out);
    }
}
END_TEST

START_TEST(depth_is_bounded)
{
    struct buf in = {0}, out = {0};
    for (int i = 0; i < 5000; i++)
        buf_put_text(&in, "<div>");
    (void)clean((const char *)in.data, in.len, &out);
    ck_assert_uint_le(out.len, 200 * strlen("<div></div>"));
    buf_free(&in);
    buf_free(&out);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("http_html");
    TCase *t = tcase_create("html");
    tcase_set_timeout(t, 60);
    tcase_add_loop_test(t, cleaned, 0, (int)(sizeof(rows) / sizeof(rows[0])));
    tcase_add_loop_test(t, mixtures_stay_harmless, 0, 5);
    tcase_add_test(t, work_is_linear);
    tcase_add_test(t, depth_is_bounded);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
