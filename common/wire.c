#include "common/wire.h"

#include <assert.h>
#include <string.h>
#include <xxhash.h>

/* ---- encoders ---- */

static void put_bytes(struct buf *b, struct slice s)
{
    assert(s.len <= UINT32_MAX);
    buf_put_u32(b, (uint32_t)s.len);
    buf_put_slice(b, s);
}

#define REC(rec)                                                               \
    void wire_encode_##rec(struct buf *out, const struct rec *m)               \
    {
#define MSG(NAME, id, msg)                                                     \
    static void encode_msg_##msg(struct buf *out, const struct msg_##msg *m)   \
    {
#define END(name) }
#define F_U8(n) buf_put_u8(out, m->n);
#define F_U16(n) buf_put_u16(out, m->n);
#define F_U32(n) buf_put_u32(out, m->n);
#define F_U64(n) buf_put_u64(out, m->n);
#define F_I64(n) buf_put_u64(out, (uint64_t)m->n);
#define F_ID(n) buf_put(out, m->n.b, sizeof(m->n.b));
#define F_BYTES(n, most)                                                       \
    assert(m->n.len <= (most));                                                \
    put_bytes(out, m->n);
#define F_REC(rec, n) wire_encode_##rec(out, &m->n);
#define F_LIST(rec, n, most)                                                   \
    assert(m->n##_count <= (most));                                            \
    buf_put_u32(out, m->n##_count);                                            \
    for (uint32_t i_ = 0; i_ < m->n##_count; i_++) {                           \
        wire_encode_##rec(out, &m->n[i_]);                                     \
    }
#include "common/messages.def"

/* ---- decoders ---- */

static struct slice get_bytes(struct cursor *c, size_t most)
{
    uint32_t len = cursor_u32(c);
    if (len > most) {
        c->bad = true;
        len = 0;
    }
    return cursor_bytes(c, len);
}

/* Every item of a list takes at least a byte, so a count beyond what is left
 * is bad before any memory is taken for it. */
static uint32_t get_count(struct cursor *c, size_t most)
{
    uint32_t count = cursor_u32(c);
    if (count > most || count > cursor_left(c)) {
        c->bad = true;
        return 0;
    }
    return count;
}

#define REC(rec)                                                               \
    void wire_decode_##rec(struct cursor *c, struct arena *a, struct rec *m)   \
    {                                                                          \
        (void)a;
#define MSG(NAME, id, msg)                                                     \
    static void decode_msg_##msg(struct cursor *c, struct arena *a,            \
                                 struct msg_##msg *m)                          \
    {                                                                          \
        (void)a;
#define END(name) }
#define F_U8(n) m->n = cursor_u8(c);
#define F_U16(n) m->n = cursor_u16(c);
#define F_U32(n) m->n = cursor_u32(c);
#define F_U64(n) m->n = cursor_u64(c);
#define F_I64(n) m->n = (int64_t)cursor_u64(c);
#define F_ID(n) m->n = cursor_id128(c);
#define F_BYTES(n, most) m->n = get_bytes(c, (most));
#define F_REC(rec, n) wire_decode_##rec(c, a, &m->n);
#define F_LIST(rec, n, most)                                                   \
    m->n##_count = get_count(c, (most));                                       \
    m->n = m->n##_count == 0 ? NULL                                            \
                             : arena_alloc(a, m->n##_count * sizeof(*m->n));   \
    for (uint32_t i_ = 0; i_ < m->n##_count && !c->bad; i_++) {                \
        wire_decode_##rec(c, a, &m->n[i_]);                                    \
    }
#include "common/messages.def"

/* ---- frames ---- */

static void store_le(uint8_t *to, uint64_t v, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        to[i] = (uint8_t)(v >> (8 * i));
    }
}

/* The first 16 bytes are hashed with the payload: a seed made of the one
 * checks both without joining them in memory. */
static uint64_t frame_checksum(const uint8_t *header, struct slice payload)
{
    uint64_t seed = XXH3_64bits(header, 16);
    return XXH3_64bits_withSeed(payload.data, payload.len, seed);
}

static void finish_frame(struct buf *out, size_t start, uint16_t type,
                         uint64_t request)
{
    if (out->full) {
        return;
    }
    size_t length = out->len - start - WIRE_HEADER;
    assert(length <= LIMIT_FRAME);
    uint8_t *h = out->data + start;
    store_le(h, length, 4);
    store_le(h + 4, type, 2);
    store_le(h + 6, 0, 2);
    store_le(h + 8, request, 8);
    struct slice payload = slice_make(h + WIRE_HEADER, length);
    store_le(h + 16, frame_checksum(h, payload), 8);
}

#define MSG(NAME, id, msg)                                                     \
    void wire_put_##msg(struct buf *out, uint64_t request,                     \
                        const struct msg_##msg *m)                             \
    {                                                                          \
        static const uint8_t blank[WIRE_HEADER];                               \
        size_t start = out->len;                                               \
        buf_put(out, blank, sizeof(blank));                                    \
        encode_msg_##msg(out, m);                                              \
        finish_frame(out, start, (uint16_t)(id), request);                     \
    }
#include "common/messages.def"

/* The checksum of a frame whose payload ends elsewhere. */
static uint64_t split_checksum(const uint8_t *header, struct slice payload,
                               struct slice rest)
{
    XXH3_state_t *hash = XXH3_createState();
    assert(hash != NULL);
    (void)XXH3_64bits_reset_withSeed(hash, XXH3_64bits(header, 16));
    (void)XXH3_64bits_update(hash, payload.data, payload.len);
    (void)XXH3_64bits_update(hash, rest.data, rest.len);
    uint64_t sum = XXH3_64bits_digest(hash);
    (void)XXH3_freeState(hash);
    return sum;
}

void wire_put_piece_start(struct buf *out, const struct msg_blob_piece *m)
{
    struct msg_blob_piece bare = *m;
    size_t start = out->len;
    assert(m->bytes.len <= LIMIT_BLOB_PIECE);
    bare.bytes = slice_make(NULL, 0);
    wire_put_blob_piece(out, 0, &bare);
    if (out->full) {
        return;
    }
    uint8_t *h = out->data + start;
    size_t length = out->len - start - WIRE_HEADER;
    store_le(out->data + out->len - 4, m->bytes.len, 4);
    store_le(h, length + m->bytes.len, 4);
    store_le(h + 16,
             split_checksum(h, slice_make(h + WIRE_HEADER, length), m->bytes),
             8);
}

void wire_put(struct buf *out, const struct wire_msg *m)
{
    switch (m->type) {
#define MSG(NAME, id, msg)                                                     \
    case id:                                                                   \
        wire_put_##msg(out, m->request, &m->u.msg);                            \
        return;
#include "common/messages.def"
    }
}

enum status wire_read_header(const uint8_t *bytes, struct wire_header *out)
{
    struct cursor c = cursor_of(slice_make(bytes, WIRE_HEADER));
    struct wire_header h;
    h.length = cursor_u32(&c);
    h.type = cursor_u16(&c);
    uint16_t reserved = cursor_u16(&c);
    h.request = cursor_u64(&c);
    h.checksum = cursor_u64(&c);
    if (h.length > LIMIT_FRAME || reserved != 0) {
        return ST_INVALID;
    }
    *out = h;
    return ST_OK;
}

enum status wire_decode_payload(uint16_t type, struct slice payload,
                                struct arena *a, struct wire_msg *out)
{
    struct cursor c = cursor_of(payload);
    out->type = (enum msg_type)type;
    switch (type) {
#define MSG(NAME, id, msg)                                                     \
    case id:                                                                   \
        decode_msg_##msg(&c, a, &out->u.msg);                                  \
        break;
#include "common/messages.def"
    default:
        return ST_UNSUPPORTED;
    }
    return c.bad || cursor_left(&c) != 0 ? ST_INVALID : ST_OK;
}

enum status wire_decode(struct slice frame, struct arena *a,
                        struct wire_msg *out)
{
    struct wire_header h;
    if (frame.len < WIRE_HEADER) {
        return ST_INVALID;
    }
    enum status s = wire_read_header(frame.data, &h);
    if (s != ST_OK) {
        return s;
    }
    struct slice payload =
        slice_make(frame.data + WIRE_HEADER, frame.len - WIRE_HEADER);
    if (payload.len != h.length ||
        frame_checksum(frame.data, payload) != h.checksum) {
        return ST_INVALID;
    }
    out->request = h.request;
    return wire_decode_payload(h.type, payload, a, out);
}

void wire_readdress(struct buf *out, uint64_t request, struct slice frame)
{
    struct wire_header h;
    size_t start = out->len;
    assert(frame.len >= WIRE_HEADER);
    enum status s = wire_read_header(frame.data, &h);
    assert(s == ST_OK && h.length == frame.len - WIRE_HEADER);
    buf_put_slice(out, frame);
    finish_frame(out, start, h.type, request);
}

const char *wire_type_name(uint16_t type)
{
    switch (type) {
#define MSG(NAME, id, msg)                                                     \
    case id:                                                                   \
        return #NAME;
#include "common/messages.def"
    default:
        return "?";
    }
}

/* ---- copies ---- */

static struct slice copy_slice(struct arena *a, struct slice s)
{
    return slice_make(arena_copy(a, s.data, s.len), s.len);
}

#define COPY_LIST(a, from, field)                                              \
    arena_copy(a, (from)->field, (from)->field##_count * sizeof(*(from)->field))

struct tablet_config wire_copy_tablet_config(struct arena *a,
                                             const struct tablet_config *t)
{
    struct tablet_config c = *t;
    c.in_sync = COPY_LIST(a, t, in_sync);
    c.eligible = COPY_LIST(a, t, eligible);
    c.learners = COPY_LIST(a, t, learners);
    return c;
}

struct node_info wire_copy_node_info(struct arena *a, const struct node_info *n)
{
    struct node_info c = *n;
    c.name = copy_slice(a, n->name);
    c.services = COPY_LIST(a, n, services);
    for (uint32_t i = 0; i < c.services_count; i++) {
        c.services[i].name = copy_slice(a, n->services[i].name);
        c.services[i].address = copy_slice(a, n->services[i].address);
    }
    return c;
}

struct msg_map *wire_copy_map(struct arena *a, const struct msg_map *m)
{
    struct msg_map *c = arena_copy(a, m, sizeof(*m));
    c->nodes = COPY_LIST(a, m, nodes);
    for (uint32_t i = 0; i < c->nodes_count; i++) {
        c->nodes[i] = wire_copy_node_info(a, &m->nodes[i]);
    }
    c->tablets = COPY_LIST(a, m, tablets);
    for (uint32_t i = 0; i < c->tablets_count; i++) {
        c->tablets[i] = wire_copy_tablet_config(a, &m->tablets[i]);
    }
    return c;
}

/* ---- small things ---- */

int name_compare(struct name a, struct name b)
{
    if (a.epoch != b.epoch) {
        return a.epoch < b.epoch ? -1 : 1;
    }
    return a.seq < b.seq ? -1 : a.seq > b.seq;
}

bool name_equal(struct name a, struct name b)
{
    return a.epoch == b.epoch && a.seq == b.seq;
}

bool replica_equal(struct replica a, struct replica b)
{
    return a.node == b.node && id128_equal(a.store, b.store);
}

bool incarnation_equal(struct incarnation a, struct incarnation b)
{
    return a.counter == b.counter && a.random == b.random;
}

static const char *pick(const char *const *names, size_t count, uint8_t i)
{
    return i < count && names[i] != NULL ? names[i] : "unknown";
}

#define PICK(names, i) pick(names, sizeof(names) / sizeof((names)[0]), i)

const char *role_name(uint8_t role)
{
    static const char *const names[] = {"none",    "coordinator", "storage",
                                        "gateway", "balancer",    "admin",
                                        "client"};
    return PICK(names, role);
}

const char *node_state_name(uint8_t state)
{
    static const char *const names[] = {"unknown",  "up",       "down",
                                        "disabled", "draining", "starting"};
    return PICK(names, state);
}

const char *replica_role_name(uint8_t role)
{
    static const char *const names[] = {"none", "learner", "secondary",
                                        "primary"};
    return PICK(names, role);
}

uint64_t partition_hash(struct slice partition)
{
    return XXH3_64bits(partition.data, partition.len);
}
