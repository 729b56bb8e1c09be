/*
 * Charset conversion: see the header. Input is converted in pieces through
 * iconv into a scratch buffer, then cleaned; bytes that do not convert become
 * U+FFFD one by one.
 */
#include "cloud/charset.h"

#include <errno.h>
#include <iconv.h>
#include <string.h>
#include <strings.h>

#include "cloud/text.h"

#define FALLBACK "WINDOWS-1252"

/* Names in mail -> iconv's. */
static const struct {
    const char *name, *iconv_name;
} charsets[] = {
    {"iso-8859-1", FALLBACK}, /* as everybody reads it */
    {"latin1", FALLBACK},
    {"windows-1252", FALLBACK},
    {"cp1252", FALLBACK},
    {"iso-8859-2", "ISO-8859-2"},
    {"iso-8859-3", "ISO-8859-3"},
    {"iso-8859-4", "ISO-8859-4"},
    {"iso-8859-5", "ISO-8859-5"},
    {"iso-8859-6", "ISO-8859-6"},
    {"iso-8859-7", "ISO-8859-7"},
    {"iso-8859-8", "ISO-8859-8"},
    {"iso-8859-8-i", "ISO-8859-8"},
    {"iso-8859-9", "ISO-8859-9"},
    {"iso-8859-10", "ISO-8859-10"},
    {"iso-8859-13", "ISO-8859-13"},
    {"iso-8859-14", "ISO-8859-14"},
    {"iso-8859-15", "ISO-8859-15"},
    {"iso-8859-16", "ISO-8859-16"},
    {"windows-1250", "WINDOWS-1250"},
    {"windows-1251", "WINDOWS-1251"},
    {"windows-1253", "WINDOWS-1253"},
    {"windows-1254", "WINDOWS-1254"},
    {"windows-1255", "WINDOWS-1255"},
    {"windows-1256", "WINDOWS-1256"},
    {"windows-1257", "WINDOWS-1257"},
    {"windows-1258", "WINDOWS-1258"},
    {"koi8-r", "KOI8-R"},
    {"koi8-u", "KOI8-U"},
    {"gb2312", "GB18030"},
    {"gbk", "GB18030"},
    {"gb18030", "GB18030"},
    {"big5", "BIG5"},
    {"shift_jis", "SHIFT_JIS"},
    {"euc-jp", "EUC-JP"},
    {"iso-2022-jp", "ISO-2022-JP"},
    {"euc-kr", "EUC-KR"},
    {"ks_c_5601-1987", "EUC-KR"},
    {"tis-620", "TIS-620"},
    {"utf-16", "UTF-16"},
    {"utf-16le", "UTF-16LE"},
    {"utf-16be", "UTF-16BE"},
};

static const char *iconv_name(const char *charset)
{
    for (size_t i = 0; i < sizeof charsets / sizeof *charsets; i++) {
        if (strcasecmp(charset, charsets[i].name) == 0)
            return charsets[i].iconv_name;
    }
    return FALLBACK;
}

static bool is_utf8_name(const char *charset)
{
    return strcasecmp(charset, "utf-8") == 0 ||
           strcasecmp(charset, "utf8") == 0;
}

static bool is_unmarked(const char *charset)
{
    return charset == NULL || *charset == '\0' ||
           strcasecmp(charset, "us-ascii") == 0;
}

/* Converts IN to at most a little above MAX bytes of UTF-8. */
static void convert(iconv_t cd, struct slice in, size_t max, struct buf *out)
{
    char *from = (char *)(uintptr_t)in.data;
    size_t left = in.len;
    while (left > 0 && out->len <= max) {
        uint8_t *to = buf_reserve(out, 8192);
        char *at = (char *)to;
        size_t room = 8192;
        size_t r = iconv(cd, &from, &left, &at, &room);
        out->len += 8192 - room;
        if (r != (size_t)-1 || errno == E2BIG)
            continue;
        buf_put_text(out, "\xef\xbf\xbd");
        from++; /* EILSEQ or EINVAL: one bad byte */
        left--;
    }
}

bool charset_to_utf8(struct slice in, const char *charset, size_t max,
                     struct buf *out)
{
    if ((is_unmarked(charset) && text_utf8_valid(in)) ||
        (charset != NULL && is_utf8_name(charset)))
        return text_body(in, max, out);
    const char *name = is_unmarked(charset) ? FALLBACK : iconv_name(charset);
    iconv_t cd = iconv_open("UTF-8", name);
    if (cd == (iconv_t)-1)
        return text_body(in, max, out); /* its module is not installed */
    struct buf utf8 = {0};
    convert(cd, in, max, &utf8);
    iconv_close(cd);
    bool whole = text_body(buf_slice(&utf8), max, out);
    buf_free(&utf8);
    return whole;
}
