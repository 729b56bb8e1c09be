/*
 * The cells of a checkpoint that is loaded, block by block. Making a part of a
 * state from a block needs nothing but the block, so while the file is read on,
 * a few blocks are made into parts beside each other (env.h, work()). They come
 * into the state in the file's order: so what is told of a damaged file is what
 * is wrong first, however many threads there are.
 */
#include "storage/checkpoint_private.h"

#include "storage/tree.h"

#include <assert.h>

#define EXPECT_MOST MIB(4)

struct buf *checkpoint_parts_room(struct checkpoint_parts *p)
{
    assert(p->count < CHECKPOINT_PARTS);
    return &p->jobs[(p->first + p->count) % CHECKPOINT_PARTS].bytes;
}

static enum status add_cell(const struct part_job *j, struct cursor *c,
                            struct arena *a)
{
    struct cell cell;
    uint8_t tag = VALUE_INLINE;
    if (j->format > 2) {
        tag = cursor_u8(c);
    }
    wire_decode_cell(c, a, &cell);
    return c->bad ? ST_CORRUPT : state_part_add(j->part, &cell, tag);
}

static enum status add_cells(struct part_job *j)
{
    struct arena a = {0};
    struct cursor c = cursor_of(buf_slice(&j->bytes));
    enum status s = ST_OK;
    j->cells = cursor_u32(&c);
    for (uint32_t i = 0; i < j->cells && s == ST_OK; i++) {
        s = add_cell(j, &c, &a);
    }
    arena_free(&a);
    return s == ST_OK && cursor_left(&c) != 0 ? ST_CORRUPT : s;
}

/* On any thread. */
static void make_part(struct env_work *w)
{
    struct part_job *j = w->data;
    j->wrong = NULL;
    if (j->sum != checkpoint_sum(CHECKPOINT_CELLS, buf_slice(&j->bytes), j->at,
                                 j->seed)) {
        j->wrong = "bad block";
        return;
    }
    j->part = state_part_new();
    if (add_cells(j) != ST_OK) {
        j->wrong = "bad cells";
        return;
    }
    state_part_end(j->part);
}

/* Cells take in memory about what they take in the file. */
static void expect(struct checkpoint_parts *p, size_t bytes)
{
    if (p->expected < bytes) {
        p->expected = p->left < EXPECT_MOST ? p->left : EXPECT_MOST;
        tree_expect(p->expected);
    }
    p->expected -= bytes < p->expected ? bytes : p->expected;
    p->left -= bytes < p->left ? bytes : p->left;
}

void checkpoint_parts_begin(struct checkpoint_parts *p, uint64_t at,
                            uint64_t sum)
{
    struct part_job *j = &p->jobs[(p->first + p->count) % CHECKPOINT_PARTS];
    j->at = at;
    j->sum = sum;
    j->seed = p->seed;
    j->format = p->format;
    j->work.fn = make_part;
    j->work.data = j;
    p->count++;
    expect(p, j->bytes.len);
    p->env->ops->work(p->env, &j->work);
}

bool checkpoint_parts_take(struct checkpoint_parts *p, uint64_t *at,
                           const char **wrong)
{
    struct part_job *j = &p->jobs[p->first];
    assert(p->count > 0);
    p->first = (p->first + 1) % CHECKPOINT_PARTS;
    p->count--;
    p->env->ops->work_wait(p->env, &j->work);
    if (j->wrong == NULL && state_load_part(p->state, j->part) != ST_OK) {
        j->wrong = "bad cells";
    }
    state_part_free(j->part);
    j->part = NULL;
    p->cells += j->cells;
    *at = j->at;
    *wrong = j->wrong;
    return j->wrong == NULL;
}

void checkpoint_parts_fini(struct checkpoint_parts *p)
{
    uint64_t at;
    const char *wrong;
    while (p->count > 0) {
        (void)checkpoint_parts_take(p, &at, &wrong);
    }
    for (size_t i = 0; i < CHECKPOINT_PARTS; i++) {
        buf_free(&p->jobs[i].bytes);
    }
}
