/*
 * Cleaning of HTML: any bytes give something in which no forbidden element
 * stands, and which cleaning again does not change.
 */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "gateway/http/html.h"
#include "tests/fuzz/fuzz.h"

static bool picture(void *ctx, const char *cid, struct buf *out)
{
    if (cid[0] != 'a')
        return false;
    buf_put_text(out, "data:image/png;base64,AAAA");
    return true;
}

/* Outside of quotes, "<" begins a tag that may be there, and no tag has an
 * attribute that is not written in double quotes. */
static void look(const char *out)
{
    static const char *const bad[] = {"script", "style",  "svg",  "math",
                                      "iframe", "object", "link", "meta",
                                      "base",   "form",   "embed"};
    for (const char *p = out; (p = strchr(p, '<')) != NULL;) {
        const char *name = p + 1 + (p[1] == '/');
        size_t len = strcspn(name, " >");
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
            if (strlen(bad[i]) == len && strncasecmp(name, bad[i], len) == 0)
                abort();
        }
        for (p = name + len; *p == ' ';) {
            p++;
            if (strncasecmp(p, "on", 2) == 0)
                abort();
            p += strcspn(p, "=> \"");
            if (p[0] != '=' || p[1] != '"')
                abort();
            p = strchr(p + 2, '"');
            if (p == NULL)
                abort();
            p++;
        }
        if (*p != '>')
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct html_options o = {picture, NULL};
    struct buf one = {0}, two = {0};
    unsigned blocked = 0, again = 0;
    html_clean(slice_make(data, size), &o, &one, &blocked);
    html_clean(buf_slice(&one), &o, &two, &again);
    if (again != 0 || !slice_equal(buf_slice(&one), buf_slice(&two)))
        abort();
    look(buf_cstr(&one));
    buf_free(&one);
    buf_free(&two);
    return 0;
}
