/*
 * The end-of-data machine: see the header.
 *
 *   state     the bytes before this one      CR       LF        "."      other
 *   START     CR LF, or nothing              CR       bare      DOT      TEXT
 *   TEXT      anything else                  CR       bare      TEXT     TEXT
 *   CR        CR                             bare,CR  START     bare     bare
 *   DOT       line start and "."             DOT_CR   bare      TEXT     TEXT
 *   DOT_CR    line start, "." and CR         bare,CR  END       bare     bare
 *
 * "bare" notes the fault and goes on in TEXT: a bare CR or LF begins no line.
 */
#include "gateway/smtp/data.h"

#include <string.h>

enum state { START, TEXT, CR, DOT, DOT_CR };

void smtp_data_init(struct smtp_data *d, size_t size_max)
{
    *d = (struct smtp_data){.size_max = size_max, .state = START};
}

void smtp_data_fini(struct smtp_data *d)
{
    buf_free(&d->message);
}

void smtp_data_refuse(struct smtp_data *d, enum smtp_fault fault)
{
    if (d->fault != SMTP_FAULT_NONE)
        return;
    d->fault = fault;
    buf_free(&d->message);
}

static void put(struct smtp_data *d, const uint8_t *bytes, size_t len)
{
    d->line_bytes += len;
    if (d->line_bytes > LIMIT_SMTP_TEXT_LINE)
        smtp_data_refuse(d, SMTP_FAULT_LINE);
    if (d->fault != SMTP_FAULT_NONE)
        return;
    if (len > d->size_max - d->message.len)
        smtp_data_refuse(d, SMTP_FAULT_SIZE);
    else
        buf_put(&d->message, bytes, len);
}

static void bare(struct smtp_data *d)
{
    smtp_data_refuse(d, SMTP_FAULT_NEWLINE);
    d->state = TEXT;
}

/* A byte in TEXT or at START. */
static void on_text(struct smtp_data *d, uint8_t c)
{
    if (c == '\r') {
        d->state = CR;
    } else if (c == '\n') {
        bare(d);
    } else if (c == '.' && d->state == START) {
        d->state = DOT;
    } else {
        d->state = TEXT;
        put(d, &c, 1);
    }
}

static void on_cr(struct smtp_data *d, uint8_t c)
{
    if (c == '\n') {
        put(d, (const uint8_t *)"\r\n", 2);
        d->state = START;
        d->line_bytes = 0;
        return;
    }
    bare(d);
    on_text(d, c);
}

/* True at the end. */
static bool on_dot(struct smtp_data *d, uint8_t c)
{
    if (d->state == DOT && c == '\r') {
        d->state = DOT_CR;
        return false;
    }
    if (d->state == DOT_CR && c == '\n')
        return true;
    if (d->state == DOT_CR)
        bare(d);
    /* The dot was one for transparency: what follows stands for itself. */
    d->state = TEXT;
    on_text(d, c);
    return false;
}

/* Bytes at the start of S that are neither CR nor LF. */
static size_t plain_length(struct slice s)
{
    const uint8_t *cr = memchr(s.data, '\r', s.len);
    size_t n = cr != NULL ? (size_t)(cr - s.data) : s.len;
    const uint8_t *lf = memchr(s.data, '\n', n);
    return lf != NULL ? (size_t)(lf - s.data) : n;
}

bool smtp_data_feed(struct smtp_data *d, struct slice in, size_t *used)
{
    bool end = false;
    size_t i = 0;
    while (i < in.len && !end) {
        if (d->state == TEXT) {
            struct slice rest = slice_make(in.data + i, in.len - i);
            if (rest.len > LIMIT_SMTP_TEXT_LINE + 1)
                rest.len = LIMIT_SMTP_TEXT_LINE + 1; /* both scans are short */
            size_t n = plain_length(rest);
            put(d, rest.data, n);
            i += n;
            if (i == in.len || n == rest.len)
                continue;
        }
        uint8_t c = in.data[i++];
        if (d->state == CR)
            on_cr(d, c);
        else if (d->state == DOT || d->state == DOT_CR)
            end = on_dot(d, c);
        else
            on_text(d, c);
    }
    d->bytes += i;
    *used = i;
    return end;
}
