/*
 * A name is drawn for each try: a command that is sent again after its first
 * try was lost gets other blobs, and those of the first one are nobody's.
 */
#include "storage/blob_command.h"

#include "storage/key.h"
#include "storage/state.h"

#include <assert.h>

static bool goes(const struct mutation *m)
{
    return m->kind == MUTATION_PUT && (m->flags & MUTATION_SUFFIX) == 0 &&
           m->value.len > LIMIT_VALUE_LOGGED;
}

uint32_t blob_command_count(const struct command *c)
{
    uint32_t count = 0;
    if (c->kind != COMMAND_BATCH) {
        return 0;
    }
    for (uint32_t i = 0; i < c->mutations_count; i++) {
        count += goes(&c->mutations[i]);
    }
    assert(count <= LIMIT_BLOB_REFS);
    return count;
}

static struct blob_ref make_ref(const struct command *c,
                                const struct mutation *m, struct env *e)
{
    struct key k;
    struct blob_ref r = {.len = (uint32_t)m->value.len};
    key_encode(&k, c->partition, m->row, m->column);
    env_random(e, r.id.b, sizeof(r.id.b));
    r.seed = place_seed(key_slice(&k));
    r.digest = blob_digest(r.seed, m->value);
    return r;
}

static struct slice encode_ref(const struct blob_ref *r, struct arena *a)
{
    uint8_t *room = arena_alloc(a, PLACE_MAX);
    struct place p = {
        .tag = VALUE_BLOB, .blob = r->id, .len = r->len, .digest = r->digest};
    return place_encode(&p, room);
}

void blob_command_split(const struct command *c, struct env *e, struct arena *a,
                        struct command *out, struct blob_part **parts)
{
    uint32_t count = 0;
    struct blob_part *list =
        arena_alloc(a, blob_command_count(c) * sizeof(*list));
    *out = *c;
    out->kind = COMMAND_BLOBS;
    out->mutations =
        arena_copy(a, c->mutations, c->mutations_count * sizeof(*c->mutations));
    for (uint32_t i = 0; i < c->mutations_count; i++) {
        struct mutation *m = &out->mutations[i];
        if (goes(m)) {
            list[count].ref = make_ref(c, m, e);
            list[count].value = m->value;
            m->flags |= MUTATION_BLOB;
            m->value = encode_ref(&list[count].ref, a);
            count++;
        }
    }
    *parts = list;
}

/* ---- entries ---- */

bool blob_command_refers(struct slice payload)
{
    return payload.len > 0 && payload.data[0] == COMMAND_BLOBS;
}

struct blob_ref blob_of_place(const struct place *p)
{
    return (struct blob_ref){.id = p->blob, .len = p->len, .digest = p->digest};
}

static struct blob_ref ref_in(const struct command *c, const struct mutation *m)
{
    struct key k;
    struct place p;
    enum status s = place_decode(VALUE_BLOB, m->value, &p);
    assert(s == ST_OK); /* state_check_entry() */
    struct blob_ref r = blob_of_place(&p);
    key_encode(&k, c->partition, m->row, m->column);
    r.seed = place_seed(key_slice(&k));
    return r;
}

uint32_t blob_command_refs(struct slice payload, struct arena *a,
                           struct blob_ref **out)
{
    struct command c;
    uint32_t count = 0;
    if (!blob_command_refers(payload)) {
        return 0;
    }
    struct cursor at = cursor_of(payload);
    wire_decode_command(&at, a, &c);
    if (at.bad || cursor_left(&at) != 0 || state_check_entry(&c) != ST_OK) {
        return 0;
    }
    for (uint32_t i = 0; i < c.mutations_count; i++) {
        count += (c.mutations[i].flags & MUTATION_BLOB) != 0;
    }
    struct blob_ref *refs = arena_alloc(a, count * sizeof(*refs) + 1);
    count = 0;
    for (uint32_t i = 0; i < c.mutations_count; i++) {
        if (c.mutations[i].flags & MUTATION_BLOB) {
            refs[count++] = ref_in(&c, &c.mutations[i]);
        }
    }
    *out = refs;
    return count;
}
