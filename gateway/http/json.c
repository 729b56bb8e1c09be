/*
 * A body is looked through before it is parsed: cJSON keeps texts as C
 * strings, so an escaped NUL would cut one short behind our back, and it
 * takes any bytes for UTF-8.
 */
#include "gateway/http/json.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include <sodium.h>

#include "cloud/text.h"

/* True if TEXT has a NUL, as it is or as an escape. */
static bool holds_nul(struct slice text)
{
    if (text.len > 0 && memchr(text.data, 0, text.len) != NULL)
        return true;
    for (size_t i = 0; i + 1 < text.len; i++) {
        if (text.data[i] != '\\')
            continue;
        if (i + 6 <= text.len && memcmp(text.data + i + 1, "u0000", 5) == 0)
            return true;
        i++;
    }
    return false;
}

cJSON *http_json_body(struct http_call *c)
{
    struct slice text = buf_slice(&c->req->body);
    cJSON *o = NULL;
    if (text_utf8_valid(text) && !holds_nul(text))
        o = cJSON_ParseWithLengthOpts(buf_cstr(&c->req->body), text.len + 1,
                                      NULL, true);
    if (o != NULL && cJSON_IsObject(o))
        return o;
    cJSON_Delete(o);
    http_call_refuse(c, HTTP_ERROR_BAD_JSON, NULL);
    return NULL;
}

void http_json_refuse(struct http_call *c, const char *name, const char *why)
{
    char text[160];
    snprintf(text, sizeof(text), "\"%s\" %s.", name, why);
    http_call_refuse(c, HTTP_ERROR_BAD_FIELD, text);
}

bool http_text_is_line(const char *text)
{
    for (; *text != '\0'; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            return false;
    }
    return true;
}

const char *http_json_text(struct http_call *c, const cJSON *o,
                           const char *name, size_t max, const char *fallback)
{
    const cJSON *member = cJSON_GetObjectItemCaseSensitive(o, name);
    if (member == NULL && fallback != NULL)
        return fallback;
    const char *text = cJSON_GetStringValue(member);
    if (text == NULL)
        http_json_refuse(c, name, "must be a text");
    else if (strlen(text) > max)
        http_json_refuse(c, name, "is too long");
    else if (!http_text_is_line(text))
        http_json_refuse(c, name, "must be one line of plain text");
    else
        return text;
    return NULL;
}

void http_json_reply(struct http_call *c, int status, cJSON *v)
{
    char *text = cJSON_PrintUnformatted(v);
    cJSON_Delete(v);
    if (text == NULL) {
        http_call_refuse(c, HTTP_ERROR_INTERNAL, NULL);
        return;
    }
    c->res->status = status;
    buf_put_text(&c->res->body, text);
    cJSON_free(text);
}

void http_json_add_time(cJSON *o, const char *name, int64_t ms)
{
    time_t seconds = (time_t)(ms / 1000);
    struct tm t;
    char text[48];
    if (ms <= 0 || gmtime_r(&seconds, &t) == NULL || t.tm_year > 8099) {
        cJSON_AddNullToObject(o, name);
        return;
    }
    size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &t);
    snprintf(text + n, sizeof(text) - n, ".%03dZ", (int)(ms % 1000));
    cJSON_AddStringToObject(o, name, text);
}

void http_base64_encode(struct slice bytes, struct buf *out)
{
    size_t size =
        sodium_base64_ENCODED_LEN(bytes.len, sodium_base64_VARIANT_ORIGINAL);
    uint8_t *room = buf_reserve(out, size);
    if (room == NULL)
        return;
    sodium_bin2base64((char *)room, size, bytes.data, bytes.len,
                      sodium_base64_VARIANT_ORIGINAL);
    out->len += size - 1;
}

bool http_base64_decode(const char *text, struct buf *out)
{
    size_t len = strlen(text), got;
    uint8_t *room = buf_reserve(out, len / 4 * 3 + 3);
    if (room == NULL ||
        sodium_base642bin(room, len / 4 * 3 + 3, text, len, "\r\n", &got, NULL,
                          sodium_base64_VARIANT_ORIGINAL) != 0)
        return false;
    out->len += got;
    return true;
}
