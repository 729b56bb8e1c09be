/*
 * The generation register: a ring of slots in one file, each of which holds a
 * whole value, so that no value is ever built from pieces and nothing is ever
 * compacted.
 *
 * Layout, little endian, block = 4096 bytes:
 *   block 0 and block 1, the same: header
 *     u8[8] "PENNREG\0", u32 format, u32 node, u8[16] cluster id, u64 key,
 *     u64 slot size, u64 zero, u64 checksum of the 56 bytes before
 *   then REGISTER_SLOTS slots of slot size each; in one: record
 *     u32 magic, u32 length, u64 sequence, u64 checksum of the payload,
 *     u64 checksum of the 24 bytes before
 *     payload: u64 promised, u64 accepted, u64 version, state
 * Checksums are XXH3-64. Those of records are seeded with the file's random
 * key and their own place, so that neither another file's record nor one moved
 * to another slot is ever taken for one.
 *
 * Record s goes to slot s mod REGISTER_SLOTS, by one write and one fdatasync,
 * and only after record s - 1 is known to be durable. The whole file is
 * written when it is made, so that a full disk cannot stop a change later, and
 * a sync changes no metadata. When nothing follows for a while the shell
 * writes the same value once more: then a value that somebody was told of
 * stands in two places, and one that is damaged is found and mended.
 *
 * Recovery. Let N be the greatest sequence of a whole record. A slot is SOUND
 * if it is blank and record N is too young to have a predecessor there, or has
 * a good header of sequence <= N: what it held is not newer than N. Every
 * other slot is DOUBTFUL: it may have held N + 1, torn by a crash (nobody was
 * told of it), or be damaged. N + 2 was never begun before N + 1 was durable,
 * so one doubtful slot cannot hide a value that anybody was told of, unless it
 * was damaged before its second copy was written. Two can.
 *
 *   file   header   whole record   doubtful slots   outcome
 *   none   -        -              -                ST_NOT_FOUND: make one
 *   there  both bad -              -                refuse: ST_CORRUPT
 *   there  format   -              -                refuse: ST_VERSION
 *   there  other id -              -                refuse: ST_WRONG_...
 *   there  good     none           -                refuse: ST_CORRUPT
 *   there  good     N              0                take N
 *   there  good     N              1                take N, say so
 *   there  good     N              2 or more        refuse: ST_CORRUPT
 *
 * A damaged header block is written again from the other; a damaged slot is
 * written over as the ring goes round.
 */
#include "coordinator/register.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#define HEADER_BYTES 64u
#define RECORD_HEADER 32u
#define PAYLOAD_HEAD 24u
#define RECORD_MAGIC 0x52474552u
#define SLOTS_START (2u * REGISTER_BLOCK)

static const char header_magic[8] = "PENNREG";

struct generation_register {
    struct env *env;
    struct env_file *file;
    uint32_t node;
    struct id128 cluster;
    uint64_t key, slot_size;
    uint64_t sequence; /* of the newest durable record */
    struct generation value;
    struct buf state; /* memory of value.state */
    struct err complaint;
    /* The write under way. */
    struct env_io io;
    bool writing;
    struct buf record;
    void (*done)(void *ctx, enum status status);
    void *ctx;
};

/* What recovery sees in one slot. */
struct slot {
    bool blank;       /* all zeros where the record's header stands */
    bool header_good; /* SEQUENCE and LENGTH are valid */
    bool whole;
    uint64_t sequence;
    uint32_t length;
};

/* ---- encoding ---- */

static void encode_header(const struct generation_register *r, struct buf *out)
{
    size_t start = out->len;
    buf_put(out, header_magic, sizeof(header_magic));
    buf_put_u32(out, REGISTER_FORMAT);
    buf_put_u32(out, r->node);
    buf_put(out, r->cluster.b, sizeof(r->cluster.b));
    buf_put_u64(out, r->key);
    buf_put_u64(out, r->slot_size);
    buf_put_u64(out, 0);
    buf_put_u64(out, XXH3_64bits(out->data + start, out->len - start));
    assert(out->len - start == HEADER_BYTES);
}

static uint64_t slot_offset(const struct generation_register *r,
                            uint64_t sequence)
{
    return SLOTS_START + sequence % REGISTER_SLOTS * r->slot_size;
}

static uint64_t record_seed(const struct generation_register *r,
                            uint64_t offset)
{
    uint64_t in[2] = {r->key, offset};
    return XXH3_64bits(in, sizeof(in));
}

static void encode_record(const struct generation_register *r,
                          uint64_t sequence, const struct generation *v,
                          struct buf *out)
{
    struct buf payload = {0};
    buf_put_u64(&payload, v->promised);
    buf_put_u64(&payload, v->accepted);
    buf_put_u64(&payload, v->version);
    buf_put_slice(&payload, v->state);
    uint64_t seed = record_seed(r, slot_offset(r, sequence));
    assert(RECORD_HEADER + payload.len <= r->slot_size);

    buf_clear(out);
    buf_put_u32(out, RECORD_MAGIC);
    buf_put_u32(out, (uint32_t)payload.len);
    buf_put_u64(out, sequence);
    buf_put_u64(out, XXH3_64bits_withSeed(payload.data, payload.len, seed));
    buf_put_u64(out, XXH3_64bits_withSeed(out->data, out->len, seed));
    buf_put_slice(out, buf_slice(&payload));
    buf_free(&payload);
}

/* Room for the largest value with this many tablets. */
static uint64_t slot_size_for(uint32_t tablets)
{
    const uint64_t node =
        128 + LIMIT_NAME + LIMIT_SERVICES * (8ull + LIMIT_NAME + LIMIT_ADDRESS);
    const uint64_t tablet = 96 + 3ull * LIMIT_REPLICAS * 20;
    uint64_t size =
        256 + LIMIT_NODES * node + LIMIT_STORES * 36ull + tablets * tablet;
    size = (size + REGISTER_BLOCK - 1) / REGISTER_BLOCK * REGISTER_BLOCK;
    assert(size <= LIMIT_REGISTER);
    return size;
}

/* ---- reading ---- */

enum header_state { HEADER_BAD, HEADER_OTHER_FORMAT, HEADER_GOOD };

/* The checksum stands at the same place in every format. */
static enum header_state
read_header(struct slice block, struct generation_register *r, uint32_t *format)
{
    struct cursor c = cursor_of(block);
    struct slice magic = cursor_bytes(&c, sizeof(header_magic));
    *format = cursor_u32(&c);
    uint32_t node = cursor_u32(&c);
    struct slice cluster = cursor_bytes(&c, sizeof(r->cluster.b));
    uint64_t key = cursor_u64(&c);
    uint64_t slot_size = cursor_u64(&c);
    (void)cursor_u64(&c);
    uint64_t sum = cursor_u64(&c);
    if (c.bad || memcmp(magic.data, header_magic, magic.len) != 0 ||
        XXH3_64bits(block.data, HEADER_BYTES - 8) != sum) {
        return HEADER_BAD;
    }
    if (*format != REGISTER_FORMAT) {
        return HEADER_OTHER_FORMAT;
    }
    if (slot_size == 0 || slot_size % REGISTER_BLOCK != 0 ||
        slot_size > LIMIT_REGISTER) {
        return HEADER_BAD;
    }
    r->node = node;
    memcpy(r->cluster.b, cluster.data, sizeof(r->cluster.b));
    r->key = key;
    r->slot_size = slot_size;
    return HEADER_GOOD;
}

static bool all_zero(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] != 0) {
            return false;
        }
    }
    return true;
}

static struct slot read_slot(const struct generation_register *r,
                             uint64_t index, struct slice bytes)
{
    struct slot slot = {0};
    if (bytes.len < RECORD_HEADER) {
        return slot;
    }
    struct slice head = slice_make(bytes.data, RECORD_HEADER);
    slot.blank = all_zero(head);
    struct cursor c = cursor_of(bytes);
    uint32_t magic = cursor_u32(&c);
    slot.length = cursor_u32(&c);
    slot.sequence = cursor_u64(&c);
    uint64_t payload_sum = cursor_u64(&c);
    uint64_t sum = cursor_u64(&c);
    uint64_t seed = record_seed(r, SLOTS_START + index * r->slot_size);
    slot.header_good =
        magic == RECORD_MAGIC && slot.sequence % REGISTER_SLOTS == index &&
        XXH3_64bits_withSeed(head.data, RECORD_HEADER - 8, seed) == sum;
    if (!slot.header_good) {
        return slot;
    }
    struct slice payload = cursor_bytes(&c, slot.length);
    slot.whole =
        !c.bad && payload.len >= PAYLOAD_HEAD &&
        XXH3_64bits_withSeed(payload.data, payload.len, seed) == payload_sum;
    return slot;
}

/* See the table at the top. */
static bool slot_sound(const struct slot *slot, uint64_t index, uint64_t newest)
{
    /* Sequence that this slot holds if all is well; 0: none yet. */
    uint64_t back = (newest - index) % REGISTER_SLOTS;
    uint64_t expected = newest > back ? newest - back : 0;
    if (slot->blank) {
        return expected == 0;
    }
    return slot->header_good && slot->sequence <= newest;
}

static void keep_value(struct generation_register *r,
                       const struct generation *v)
{
    if (v->state.data != r->state.data) {
        buf_clear(&r->state);
        buf_put_slice(&r->state, v->state);
    }
    r->value = *v;
    r->value.state = buf_slice(&r->state);
}

static void take_record(struct generation_register *r, struct slice slot_bytes,
                        uint32_t length)
{
    struct cursor c =
        cursor_of(slice_make(slot_bytes.data + RECORD_HEADER, length));
    struct generation v = {.promised = cursor_u64(&c),
                           .accepted = cursor_u64(&c),
                           .version = cursor_u64(&c)};
    v.state = slice_make(c.at, cursor_left(&c));
    assert(!c.bad);
    keep_value(r, &v);
}

static struct slice slot_bytes(const struct generation_register *r,
                               struct slice file, uint64_t index)
{
    uint64_t start = SLOTS_START + index * r->slot_size;
    if (start >= file.len) {
        return slice_make(NULL, 0);
    }
    uint64_t left = file.len - start;
    return slice_make(file.data + start,
                      left < r->slot_size ? left : r->slot_size);
}

static enum status choose_record(struct generation_register *r,
                                 struct slice file, struct err *err)
{
    struct slot slots[REGISTER_SLOTS];
    const struct slot *newest = NULL;
    for (uint64_t i = 0; i < REGISTER_SLOTS; i++) {
        slots[i] = read_slot(r, i, slot_bytes(r, file, i));
        if (slots[i].whole &&
            (newest == NULL || slots[i].sequence > newest->sequence)) {
            newest = &slots[i];
        }
    }
    if (newest == NULL) {
        return err_set(err, ST_CORRUPT,
                       "%s: no readable record: restore it from a backup",
                       REGISTER_FILE);
    }
    unsigned doubtful = 0, damaged = 0;
    for (uint64_t i = 0; i < REGISTER_SLOTS; i++) {
        doubtful += !slot_sound(&slots[i], i, newest->sequence);
        damaged += slots[i].header_good && !slots[i].whole;
    }
    if (doubtful >= 2) {
        return err_set(err, ST_CORRUPT,
                       "%s: %u records are damaged and may be newer than the "
                       "newest readable one: restore it from a backup",
                       REGISTER_FILE, doubtful);
    }
    if (doubtful + damaged > 0) {
        (void)err_set(&r->complaint, ST_OK,
                      "one record torn or damaged, older than the one in use "
                      "or never announced");
    }
    r->sequence = newest->sequence;
    uint64_t index = newest->sequence % REGISTER_SLOTS;
    take_record(r, slot_bytes(r, file, index), newest->length);
    return ST_OK;
}

static enum status mend_header(struct generation_register *r, unsigned block,
                               struct err *err)
{
    struct buf b = {0};
    encode_header(r, &b);
    enum status s = r->env->ops->file_write_now(
        r->file, (uint64_t)block * REGISTER_BLOCK, buf_slice(&b));
    buf_free(&b);
    (void)err_set(&r->complaint, ST_OK, "header block %u damaged, rewritten",
                  block);
    return s == ST_OK ? s
                      : err_set(err, s, "%s: cannot mend its header: %s",
                                REGISTER_FILE, status_text(s));
}

static enum status choose_header(struct generation_register *r,
                                 struct slice file, struct err *err)
{
    enum header_state states[2] = {HEADER_BAD, HEADER_BAD};
    uint32_t format = 0;
    for (unsigned i = 0; i < 2; i++) {
        if (file.len >= i * REGISTER_BLOCK + HEADER_BYTES) {
            states[i] = read_header(
                slice_make(file.data + i * REGISTER_BLOCK, HEADER_BYTES), r,
                &format);
        }
        if (states[i] == HEADER_OTHER_FORMAT) {
            return err_set(err, ST_VERSION,
                           "%s: has format %u, this program knows %u",
                           REGISTER_FILE, format, REGISTER_FORMAT);
        }
    }
    if (states[0] == HEADER_BAD && states[1] == HEADER_BAD) {
        return err_set(err, ST_CORRUPT,
                       "%s: both copies of its header are damaged: restore it "
                       "from a backup",
                       REGISTER_FILE);
    }
    for (unsigned i = 0; i < 2; i++) {
        if (states[i] == HEADER_BAD) {
            return mend_header(r, i, err);
        }
    }
    return ST_OK;
}

static enum status check_identity(const struct generation_register *r,
                                  uint32_t node, struct id128 cluster,
                                  struct err *err)
{
    if (r->node != node) {
        return err_set(err, ST_WRONG_NODE,
                       "%s: belongs to coordinator node %u, this is node %u",
                       REGISTER_FILE, r->node, node);
    }
    if (!id128_is_zero(cluster) && !id128_equal(cluster, r->cluster)) {
        char has[33], wanted[33];
        id128_format(r->cluster, has);
        id128_format(cluster, wanted);
        return err_set(err, ST_WRONG_CLUSTER,
                       "%s: belongs to cluster %s, this is cluster %s",
                       REGISTER_FILE, has, wanted);
    }
    return ST_OK;
}

static enum status open_file(struct generation_register *r, unsigned flags,
                             struct err *err)
{
    enum status s =
        r->env->ops->file_open(r->env, REGISTER_FILE, flags, &r->file);
    return s == ST_OK ? s
                      : err_set(err, s, "%s: cannot be opened: %s",
                                REGISTER_FILE, status_text(s));
}

/* From the medium: the page cache may hold what a failed sync lost (R16). */
static enum status read_whole(struct generation_register *r, struct buf *out,
                              struct err *err)
{
    uint64_t size = 0;
    size_t got = 0;
    enum status s = open_file(r, ENV_READONLY | ENV_MEDIUM, err);
    if (s != ST_OK) {
        return s;
    }
    s = r->env->ops->file_size(r->file, &size);
    if (s == ST_OK && size > SLOTS_START + REGISTER_SLOTS * LIMIT_REGISTER) {
        return err_set(err, ST_CORRUPT, "%s: is too large", REGISTER_FILE);
    }
    if (s == ST_OK && size > 0) {
        uint8_t *to = buf_reserve(out, size);
        s = r->env->ops->file_read(r->file, 0, to, size, &got);
        out->len += got;
    }
    r->env->ops->file_close(r->file);
    r->file = NULL;
    return s == ST_OK ? s
                      : err_set(err, s, "%s: cannot be read: %s", REGISTER_FILE,
                                status_text(s));
}

static struct generation_register *register_new(struct env *env)
{
    struct generation_register *r = xcalloc(1, sizeof(*r));
    r->env = env;
    return r;
}

enum status register_open(struct env *env, uint32_t node, struct id128 cluster,
                          struct generation_register **out, struct err *err)
{
    struct generation_register *r = register_new(env);
    struct buf file = {0};
    enum status s = read_whole(r, &file, err);
    if (s == ST_OK) {
        s = open_file(r, 0, err);
    }
    if (s == ST_OK) {
        s = choose_header(r, buf_slice(&file), err);
    }
    if (s == ST_OK) {
        s = check_identity(r, node, cluster, err);
    }
    if (s == ST_OK) {
        s = choose_record(r, buf_slice(&file), err);
    }
    buf_free(&file);
    if (s != ST_OK) {
        register_close(r);
        return s;
    }
    *out = r;
    return ST_OK;
}

/* ---- making and writing ---- */

static void encode_file(struct generation_register *r,
                        const struct generation *first, struct buf *out)
{
    size_t size = SLOTS_START + REGISTER_SLOTS * r->slot_size;
    uint8_t *bytes = buf_reserve(out, size);
    memset(bytes, 0, size);
    out->len = size;
    struct buf part = {0};
    encode_header(r, &part);
    memcpy(bytes, part.data, part.len);
    memcpy(bytes + REGISTER_BLOCK, part.data, part.len);
    encode_record(r, r->sequence, first, &part);
    memcpy(bytes + slot_offset(r, r->sequence), part.data, part.len);
    buf_free(&part);
}

enum status register_create(struct env *env, const struct register_identity *id,
                            const struct generation *first,
                            struct generation_register **out, struct err *err)
{
    struct generation_register *r = register_new(env);
    r->node = id->node;
    r->cluster = id->cluster;
    r->slot_size = slot_size_for(id->tablets);
    r->sequence = 1;
    env_random(env, &r->key, sizeof(r->key));
    struct buf file = {0};
    encode_file(r, first, &file);
    enum status s = env->ops->file_put(env, REGISTER_FILE, buf_slice(&file));
    buf_free(&file);
    if (s == ST_OK) {
        s = env->ops->file_open(env, REGISTER_FILE, 0, &r->file);
    }
    if (s != ST_OK) {
        register_close(r);
        return err_set(err, s, "%s: cannot be made: %s", REGISTER_FILE,
                       status_text(s));
    }
    keep_value(r, first);
    *out = r;
    return ST_OK;
}

void register_forget(struct generation_register *r)
{
    if (r != NULL) {
        buf_free(&r->state);
        buf_free(&r->record);
        free(r);
    }
}

void register_close(struct generation_register *r)
{
    if (r != NULL) {
        assert(!r->writing);
        if (r->file != NULL) {
            r->env->ops->file_close(r->file);
        }
        register_forget(r);
    }
}

const struct generation *register_value(const struct generation_register *r)
{
    return &r->value;
}

struct id128 register_cluster(const struct generation_register *r)
{
    return r->cluster;
}

const char *register_complaint(const struct generation_register *r)
{
    return r->complaint.text;
}

/* The value is at the end of the record that was written. */
static void written(struct generation_register *r)
{
    r->sequence++;
    take_record(r, buf_slice(&r->record),
                (uint32_t)(r->record.len - RECORD_HEADER));
}

enum status register_write_now(struct generation_register *r,
                               const struct generation *v, struct err *err)
{
    assert(!r->writing);
    uint64_t sequence = r->sequence + 1;
    encode_record(r, sequence, v, &r->record);
    enum status s = r->env->ops->file_write_now(
        r->file, slot_offset(r, sequence), buf_slice(&r->record));
    if (s != ST_OK) {
        return err_set(err, s, "%s: cannot be written: %s", REGISTER_FILE,
                       status_text(s));
    }
    written(r);
    return ST_OK;
}

static void on_written(struct env_io *io, enum status status)
{
    struct generation_register *r = io->data;
    r->writing = false;
    if (status == ST_OK) {
        written(r);
    }
    r->done(r->ctx, status);
}

void register_write(struct generation_register *r, const struct generation *v,
                    void (*done)(void *ctx, enum status status), void *ctx)
{
    assert(!r->writing);
    uint64_t sequence = r->sequence + 1;
    encode_record(r, sequence, v, &r->record);
    r->writing = true;
    r->done = done;
    r->ctx = ctx;
    r->io.done = on_written;
    r->io.data = r;
    r->env->ops->file_write(r->file, slot_offset(r, sequence),
                            buf_slice(&r->record), true, &r->io);
}
