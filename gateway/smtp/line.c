/*
 * Collecting a command line: see the header. What is too long is counted, not
 * kept, up to its true end.
 */
#include "gateway/smtp/line.h"

void smtp_line_clear(struct smtp_line *l)
{
    l->len = 0;
    l->cr = l->too_long = l->bad = false;
    l->text[0] = '\0';
}

static void put(struct smtp_line *l, uint8_t c)
{
    /* Tabs are white space to some; other control characters to nobody. */
    if ((c < 0x20 && c != '\t') || c > 0x7e)
        l->bad = true;
    if (l->len + 2 == LIMIT_SMTP_COMMAND) {
        l->too_long = true;
        return;
    }
    l->text[l->len++] = (char)c;
    l->text[l->len] = '\0';
}

bool smtp_line_feed(struct smtp_line *l, struct slice in, size_t *used)
{
    for (size_t i = 0; i < in.len; i++) {
        uint8_t c = in.data[i];
        if (l->cr && c == '\n') {
            *used = i + 1;
            return true;
        }
        if (l->cr)
            put(l, '\r');
        l->cr = c == '\r';
        if (!l->cr)
            put(l, c);
    }
    *used = in.len;
    return false;
}
