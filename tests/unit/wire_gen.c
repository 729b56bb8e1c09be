#include "tests/unit/wire_gen.h"

#include <stdlib.h>
#include <string.h>

uint64_t wire_gen_next(struct wire_gen *g)
{
    /* splitmix64 */
    uint64_t z = g->seed += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static size_t below(struct wire_gen *g, size_t n)
{
    return (size_t)(wire_gen_next(g) % n);
}

static size_t at_most(size_t a, size_t b)
{
    return a < b ? a : b;
}

static struct slice gen_bytes(struct wire_gen *g, size_t most)
{
    size_t len = below(g, at_most(most, 24) + 1);
    uint8_t *b = arena_alloc(&g->arena, len);
    for (size_t i = 0; i < len; i++) {
        b[i] = (uint8_t)wire_gen_next(g);
    }
    return slice_make(b, len);
}

static struct id128 gen_id(struct wire_gen *g)
{
    struct id128 id;
    for (size_t i = 0; i < sizeof(id.b); i++) {
        id.b[i] = (uint8_t)wire_gen_next(g);
    }
    return id;
}

/* Records that no message holds have no caller here. */
#define MAYBE_UNUSED __attribute__((unused))

/* ---- contents ---- */

#define REC(rec)                                                               \
    MAYBE_UNUSED static void gen_##rec(struct wire_gen *g, struct rec *m)      \
    {
#define MSG(NAME, id, msg)                                                     \
    static void gen_msg_##msg(struct wire_gen *g, struct msg_##msg *m)         \
    {
#define END(name) }
#define F_U8(n) m->n = (uint8_t)wire_gen_next(g);
#define F_U16(n) m->n = (uint16_t)wire_gen_next(g);
#define F_U32(n) m->n = (uint32_t)wire_gen_next(g);
#define F_U64(n) m->n = wire_gen_next(g);
#define F_I64(n) m->n = (int64_t)wire_gen_next(g);
#define F_ID(n) m->n = gen_id(g);
#define F_BYTES(n, most) m->n = gen_bytes(g, (most));
#define F_REC(rec, n) gen_##rec(g, &m->n);
#define F_LIST(rec, n, most)                                                   \
    m->n##_count = (uint32_t)below(g, at_most((most), 3) + 1);                 \
    m->n = arena_alloc(&g->arena, m->n##_count * sizeof(*m->n));               \
    for (uint32_t i_ = 0; i_ < m->n##_count; i_++) {                           \
        gen_##rec(g, &m->n[i_]);                                               \
    }
#include "common/messages.def"

/* ---- equality ---- */

#define REC(rec)                                                               \
    MAYBE_UNUSED static bool same_##rec(const struct rec *a,                   \
                                        const struct rec *b)                   \
    {                                                                          \
        bool same = true;
#define MSG(NAME, id, msg)                                                     \
    static bool same_msg_##msg(const struct msg_##msg *a,                      \
                               const struct msg_##msg *b)                      \
    {                                                                          \
        bool same = true;
#define END(name)                                                              \
    return same;                                                               \
    }
#define F_U8(n) same = same && a->n == b->n;
#define F_U16(n) same = same && a->n == b->n;
#define F_U32(n) same = same && a->n == b->n;
#define F_U64(n) same = same && a->n == b->n;
#define F_I64(n) same = same && a->n == b->n;
#define F_ID(n) same = same && id128_equal(a->n, b->n);
#define F_BYTES(n, most) same = same && slice_equal(a->n, b->n);
#define F_REC(rec, n) same = same && same_##rec(&a->n, &b->n);
#define F_LIST(rec, n, most)                                                   \
    same = same && a->n##_count == b->n##_count;                               \
    for (uint32_t i_ = 0; same && i_ < a->n##_count; i_++) {                   \
        same = same_##rec(&a->n[i_], &b->n[i_]);                               \
    }
#include "common/messages.def"

/* ---- by type ---- */

const uint16_t wire_gen_types[] = {
#define MSG(NAME, id, msg) id,
#include "common/messages.def"
};
const size_t wire_gen_type_count =
    sizeof(wire_gen_types) / sizeof(wire_gen_types[0]);

void wire_gen_message(struct wire_gen *g, uint16_t type, struct wire_msg *m)
{
    memset(m, 0, sizeof(*m));
    m->type = (enum msg_type)type;
    m->request = wire_gen_next(g);
    switch (type) {
#define MSG(NAME, id, msg)                                                     \
    case id:                                                                   \
        gen_msg_##msg(g, &m->u.msg);                                           \
        break;
#include "common/messages.def"
    default:
        abort();
    }
}

void wire_gen_put(struct buf *out, const struct wire_msg *m)
{
    switch ((unsigned)m->type) {
#define MSG(NAME, id, msg)                                                     \
    case id:                                                                   \
        wire_put_##msg(out, m->request, &m->u.msg);                            \
        break;
#include "common/messages.def"
    default:
        abort();
    }
}

bool wire_gen_same(const struct wire_msg *a, const struct wire_msg *b)
{
    if (a->type != b->type || a->request != b->request) {
        return false;
    }
    switch ((unsigned)a->type) {
#define MSG(NAME, id, msg)                                                     \
    case id:                                                                   \
        return same_msg_##msg(&a->u.msg, &b->u.msg);
#include "common/messages.def"
    default:
        abort();
    }
}
