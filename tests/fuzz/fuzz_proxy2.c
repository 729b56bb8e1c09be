/*
 * PROXY headers from anybody: whatever proxy2_decode() takes, it takes at
 * every division into pieces, and what it read encodes to a header that reads
 * the same.
 */
#include <stdlib.h>
#include <string.h>

#include "common/proxy2.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct proxy2 p, again, unused;
    enum status s = proxy2_decode(slice_make(data, size), &p);
    for (size_t i = 0; i < size && s == ST_OK && i < p.length; i++) {
        if (proxy2_decode(slice_make(data, i), &unused) != ST_MORE) {
            abort();
        }
    }
    if (s == ST_MORE && size >= LIMIT_PROXY2_READ) {
        abort();
    }
    if (s != ST_OK) {
        return 0;
    }
    if (p.length > size || p.length > LIMIT_PROXY2_READ) {
        abort();
    }
    if (!p.local) {
        struct buf b = {.max = LIMIT_PROXY2};
        proxy2_encode(&b, (const struct sockaddr *)&p.from,
                      (const struct sockaddr *)&p.to);
        if (b.full || proxy2_decode(buf_slice(&b), &again) != ST_OK ||
            memcmp(&p.from, &again.from, sizeof(p.from)) != 0 ||
            memcmp(&p.to, &again.to, sizeof(p.to)) != 0) {
            abort();
        }
        buf_free(&b);
    }
    return 0;
}
