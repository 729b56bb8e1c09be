/*
 * Reading mail of any bytes: all that comes out is within its bounds and
 * clean, every part decodes to the size that it says, and no part is read
 * outside the message.
 */
#include <stdlib.h>
#include <string.h>

#include "cloud/json.h"
#include "cloud/message.h"
#include "cloud/text.h"
#include "tests/fuzz/fuzz.h"

static void check(bool good)
{
    if (!good)
        abort();
}

static void check_parts(const struct message *m)
{
    struct buf part = {0};
    check(message_part_count(m) <= LIMIT_MIME_PARTS);
    for (size_t i = 0; i < message_part_count(m); i++) {
        const struct message_part *p = message_part_at(m, i);
        buf_clear(&part);
        check(message_part_decode(m, p->number, &part) == ST_OK);
        check(part.len == p->size);
        check(strchr(p->type, '/') != NULL);
        check(!text_is_unsafe(slice_of(p->type)));
        check(p->name == NULL || !text_is_unsafe(slice_of(p->name)));
        check(p->name == NULL || strchr(p->name, '/') == NULL);
    }
    buf_free(&part);
}

static void check_texts(const struct message *m)
{
    const struct message_summary *s = message_summary(m);
    check(!text_is_unsafe(slice_of(s->from)));
    check(!text_is_unsafe(slice_of(s->to)));
    check(!text_is_unsafe(slice_of(s->subject)));
    check(!text_is_unsafe(slice_of(s->snippet)));
    struct message_body b;
    message_body(m, &b);
    check(text_utf8_valid(buf_slice(&b.text)));
    check(text_utf8_valid(buf_slice(&b.html)));
    check(memchr(buf_cstr(&b.text), 0, b.text.len) == NULL);
    message_body_free(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static bool ready;
    if (!ready)
        message_init();
    ready = true;
    /* A copy of exactly its size, so that reading beyond is seen. */
    uint8_t *copy = malloc(size == 0 ? 1 : size);
    if (size > 0)
        memcpy(copy, data, size);
    struct buf json = {0};
    struct message *m = message_parse(slice_make(copy, size));
    message_header_json(m, size, &json);
    cJSON *o = json_parse_object(buf_slice(&json));
    check(o != NULL && text_utf8_valid(buf_slice(&json)));
    cJSON_Delete(o);
    check_parts(m);
    check_texts(m);
    message_free(m);
    buf_free(&json);
    free(copy);
    return 0;
}
