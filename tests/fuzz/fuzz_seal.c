/*
 * The sealed transport with the fuzzer on the wire: the input is a script of
 * what both sides send and of what happens to their bytes on the way. Whatever
 * it is, each side has read a beginning of what the other has sent, and no
 * side that was fed foreign bytes before the end of its handshake is open.
 */
#include <stdlib.h>
#include <string.h>

#include "common/seal.h"
#include "tests/fuzz/fuzz.h"

struct end {
    struct seal *seal;
    struct buf wire;  /* on its way to this end */
    struct buf sent;  /* by this end, in plain */
    struct buf heard; /* by this end */
    bool dead;
};

static struct seal *make(enum seal_side side, uint8_t seed, uint8_t ciphers,
                         struct buf *out)
{
    struct seal_options o = {.side = side, .ciphers = ciphers};
    memset(o.key.b, 0x11, sizeof(o.key.b));
    memset(o.seed, seed, sizeof(o.seed));
    return seal_new(&o, out);
}

/* Brings N bytes of what is on the wire to E. */
static void bring(struct end *e, struct end *from, size_t n)
{
    n = n < e->wire.len ? n : e->wire.len;
    uint8_t *piece = malloc(n == 0 ? 1 : n);
    if (n > 0) {
        memcpy(piece, e->wire.data, n);
    }
    if (seal_receive(e->seal, slice_make(piece, n), &e->heard, &from->wire) !=
        ST_OK) {
        e->dead = true;
    }
    free(piece);
    buf_consume(&e->wire, n);
    if (e->heard.len > from->sent.len ||
        (e->heard.len > 0 &&
         memcmp(e->heard.data, from->sent.data, e->heard.len) != 0)) {
        abort();
    }
}

static void say(struct end *e, struct end *to, size_t n)
{
    uint8_t data[256];
    if (!seal_ready(e->seal)) {
        return;
    }
    memset(data, (int)(e->sent.len & 255), sizeof(data));
    struct slice s = slice_make(data, n < sizeof(data) ? n : sizeof(data));
    buf_put_slice(&e->sent, s);
    seal_send(e->seal, s, &to->wire);
}

/* One step: what, to whom, how much. */
static void step(struct end ends[2], const uint8_t s[3])
{
    struct end *e = &ends[s[0] & 1], *other = &ends[~s[0] & 1];
    size_t at = e->wire.len == 0 ? 0 : s[1] % e->wire.len;
    switch (s[0] >> 1 & 7) {
    case 0:
    case 1:
        bring(e, other, SIZE_MAX);
        break;
    case 2:
        bring(e, other, s[1]);
        break;
    case 3:
        say(e, other, s[1]);
        break;
    case 4: /* flip */
        if (e->wire.len > 0) {
            e->wire.data[at] ^= s[2];
        }
        break;
    case 5: /* drop */
        buf_consume(&e->wire, at);
        break;
    case 6: /* repeat, or turn round to the other side */
        if (e->wire.len < 4096 && e->wire.len > 0) {
            struct buf copy = {0};
            buf_put_slice(&copy, buf_slice(&e->wire));
            buf_put_slice(s[2] & 1 ? &e->wire : &other->wire, buf_slice(&copy));
            buf_free(&copy);
        }
        break;
    case 7: /* foreign bytes */
        buf_put(&e->wire, s, 3);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t ciphers[] = {0, SEAL_CHACHA20};
    struct end ends[2] = {{0}};
    if (size < 1 || size > 3000) {
        return 0;
    }
    uint8_t mode = data[0];
    ends[0].seal = make(SEAL_CONNECTS, 1, ciphers[mode & 1], &ends[1].wire);
    ends[1].seal = make(SEAL_ACCEPTS, 2, ciphers[mode >> 1 & 1], &ends[0].wire);
    if ((mode & 4) != 0) { /* begin behind a good handshake */
        bring(&ends[1], &ends[0], SIZE_MAX);
        bring(&ends[0], &ends[1], SIZE_MAX);
        bring(&ends[1], &ends[0], SIZE_MAX);
        if (!seal_ready(ends[0].seal) || !seal_ready(ends[1].seal)) {
            abort();
        }
    }
    for (size_t i = 1; i + 3 <= size; i += 3) {
        step(ends, data + i);
    }
    for (int i = 0; i < 2; i++) {
        if (ends[i].dead && seal_ready(ends[i].seal)) {
            abort();
        }
        seal_free(ends[i].seal);
        buf_free(&ends[i].wire);
        buf_free(&ends[i].sent);
        buf_free(&ends[i].heard);
    }
    return 0;
}
