/*
 * ULIDs: see the header. 128 bits are written five at a time, the highest
 * first; the first digit holds only three bits.
 */
#include "cloud/ulid.h"

#include <assert.h>

#include <sodium.h>

static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

void ulid_encode(int64_t wall_ms, const uint8_t random[10], char out[ULID_SIZE])
{
    assert(wall_ms >= 0 && wall_ms < (1ll << 48));
    unsigned __int128 bits = (unsigned __int128)wall_ms;
    for (int i = 0; i < 10; i++)
        bits = bits << 8 | random[i];
    for (int i = ULID_TEXT - 1; i >= 0; i--) {
        out[i] = digits[(unsigned)(bits & 31)];
        bits >>= 5;
    }
    out[ULID_TEXT] = '\0';
}

void ulid_make(int64_t wall_ms, char out[ULID_SIZE])
{
    uint8_t random[10];
    randombytes_buf(random, sizeof random);
    ulid_encode(wall_ms, random, out);
}

/* Value of digit C, or -1. */
static int digit_value(uint8_t c)
{
    for (int i = 0; i < 32; i++) {
        if (digits[i] == (char)c)
            return i;
    }
    return -1;
}

bool ulid_valid(struct slice text)
{
    if (text.len != ULID_TEXT || digit_value(text.data[0]) > 7)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (digit_value(text.data[i]) < 0)
            return false;
    }
    return true;
}

int64_t ulid_time_ms(struct slice text)
{
    if (!ulid_valid(text))
        return -1;
    int64_t ms = 0;
    for (size_t i = 0; i < 10; i++)
        ms = ms << 5 | digit_value(text.data[i]);
    return ms;
}
