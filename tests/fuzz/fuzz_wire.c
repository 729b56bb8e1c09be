/*
 * Decoders of all messages. The first two bytes are the type, the rest the
 * payload (a whole frame would hardly ever have a right checksum). What
 * decodes must encode to the same bytes: nothing is skipped or made up.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"
#include "tests/unit/wire_gen.h"

static void check_same(const struct wire_msg *m, struct slice payload)
{
    struct buf again = {0};
    wire_gen_put(&again, m);
    if (again.len - WIRE_HEADER != payload.len ||
        (payload.len > 0 &&
         memcmp(again.data + WIRE_HEADER, payload.data, payload.len) != 0)) {
        abort();
    }
    struct wire_msg back;
    struct arena a = {0};
    if (wire_decode(buf_slice(&again), &a, &back) != ST_OK ||
        !wire_gen_same(m, &back)) {
        abort();
    }
    arena_free(&a);
    buf_free(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct wire_msg m = {.request = 0};
    struct arena a = {0};
    if (wire_decode(slice_make(data, size), &a, &m) == ST_OK) {
        check_same(&m, slice_make(data + WIRE_HEADER, size - WIRE_HEADER));
    }
    if (size >= 2) {
        uint16_t type = (uint16_t)(data[0] | data[1] << 8);
        struct slice payload = slice_make(data + 2, size - 2);
        m.request = 0;
        if (wire_decode_payload(type, payload, &a, &m) == ST_OK) {
            check_same(&m, payload);
        }
    }
    arena_free(&a);
    return 0;
}
