/*
 * Trace fields: see the header. All texts were checked when they came: none
 * has a control character.
 */
#include "gateway/smtp/trace.h"

#include <string.h>
#include <time.h>

static void write_date(int64_t wall_ms, struct buf *out)
{
    static const char days[7][4] = {"Sun", "Mon", "Tue", "Wed",
                                    "Thu", "Fri", "Sat"};
    static const char months[12][4] = {"Jan", "Feb", "Mar", "Apr",
                                       "May", "Jun", "Jul", "Aug",
                                       "Sep", "Oct", "Nov", "Dec"};
    time_t s = (time_t)(wall_ms / 1000);
    struct tm tm;
    gmtime_r(&s, &tm);
    /* Not strftime(): the locale must not matter. */
    buf_printf(out, "%s, %d %s %d %02d:%02d:%02d +0000", days[tm.tm_wday],
               tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour,
               tm.tm_min, tm.tm_sec);
}

void smtp_trace_write(const struct smtp_trace *t, struct buf *out)
{
    bool v6 = strchr(t->client, ':') != NULL;
    buf_printf(out, "Return-Path: <%s>\r\n", t->sender);
    buf_printf(out, "Received: from %s ([%s%s])\r\n", t->helo,
               v6 ? "IPv6:" : "", t->client);
    buf_printf(out, "\tby %s with %s id %s\r\n", t->hostname, t->protocol,
               t->id);
    buf_printf(out, "\tfor <%s>;\r\n\t", t->recipient);
    write_date(t->wall_ms, out);
    buf_put_text(out, "\r\n");
}
