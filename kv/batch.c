/*
 * Building requests. A batch: one partition's conditions and mutations, copied
 * into an arena of the batch. More than LIMIT_BATCH_MUTATIONS are counted, so
 * that running it is refused as too large, and not kept.
 */
#include "kv/batch.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "kv/core.h"

struct kv_batch {
    struct arena arena;
    struct command command;
    uint32_t conditions_size, mutations_size; /* allocated */
};

struct kv_batch *kv_batch_new(struct slice partition)
{
    struct kv_batch *b = xcalloc(1, sizeof(*b));
    b->command.kind = COMMAND_BATCH;
    b->command.partition = slice_make(
        arena_copy(&b->arena, partition.data, partition.len), partition.len);
    return b;
}

void kv_batch_free(struct kv_batch *b)
{
    if (b == NULL) {
        return;
    }
    arena_free(&b->arena);
    free(b->command.conditions);
    free(b->command.mutations);
    free(b);
}

const struct command *kv_batch_command(const struct kv_batch *b)
{
    return &b->command;
}

static struct slice copy(struct kv_batch *b, struct slice s)
{
    return slice_make(arena_copy(&b->arena, s.data, s.len), s.len);
}

static struct slice copy_text(struct kv_batch *b, const char *text)
{
    return copy(b, slice_of(text));
}

static uint32_t grown(uint32_t size)
{
    return size == 0 ? 4 : size * 2;
}

/* ---- conditions ---- */

static void require(struct kv_batch *b, enum condition_kind kind,
                    const char *row, const char *column, struct slice value)
{
    struct command *c = &b->command;
    if (c->conditions_count >= LIMIT_BATCH_MUTATIONS) {
        c->conditions_count = LIMIT_BATCH_MUTATIONS + 1;
        return;
    }
    if (c->conditions_count == b->conditions_size) {
        b->conditions_size = grown(b->conditions_size);
        c->conditions = xrealloc(c->conditions,
                                 b->conditions_size * sizeof(*c->conditions));
    }
    c->conditions[c->conditions_count++] = (struct condition){
        .kind = (uint8_t)kind,
        .row = copy_text(b, row),
        .column = copy_text(b, column),
        .value = copy(b, value),
    };
}

void kv_batch_require_absent(struct kv_batch *b, const char *row,
                             const char *column)
{
    require(b, CONDITION_ABSENT, row, column, slice_make(NULL, 0));
}

void kv_batch_require_exists(struct kv_batch *b, const char *row,
                             const char *column)
{
    require(b, CONDITION_EXISTS, row, column, slice_make(NULL, 0));
}

void kv_batch_require_equal(struct kv_batch *b, const char *row,
                            const char *column, struct slice value)
{
    require(b, CONDITION_EQUALS, row, column, value);
}

void kv_batch_require_none_below(struct kv_batch *b, const char *row,
                                 const char *prefix)
{
    require(b, CONDITION_NONE_BELOW, row, prefix, slice_make(NULL, 0));
}

/* ---- mutations ---- */

/* Appends M, whose row, column, counter and value are borrowed. */
static int mutate(struct kv_batch *b, const struct mutation *m)
{
    struct command *c = &b->command;
    if (c->mutations_count >= LIMIT_BATCH_MUTATIONS) {
        c->mutations_count = LIMIT_BATCH_MUTATIONS + 1;
        return LIMIT_BATCH_MUTATIONS;
    }
    if (c->mutations_count == b->mutations_size) {
        b->mutations_size = grown(b->mutations_size);
        c->mutations =
            xrealloc(c->mutations, b->mutations_size * sizeof(*c->mutations));
    }
    struct mutation *to = &c->mutations[c->mutations_count];
    *to = *m;
    to->row = copy(b, m->row);
    to->column = copy(b, m->column);
    to->counter = copy(b, m->counter);
    to->value = copy(b, m->value);
    return (int)c->mutations_count++;
}

int kv_batch_put(struct kv_batch *b, const char *row, const char *column,
                 struct slice value)
{
    struct mutation m = {
        .kind = MUTATION_PUT,
        .row = slice_of(row),
        .column = slice_of(column),
        .value = value,
    };
    return mutate(b, &m);
}

int kv_batch_put_suffixed(struct kv_batch *b, const char *row,
                          const char *column, struct slice value, int suffix_of)
{
    assert(suffix_of >= 0 && suffix_of <= LIMIT_BATCH_MUTATIONS);
    struct mutation m = {
        .kind = MUTATION_PUT,
        .flags = MUTATION_SUFFIX,
        .row = slice_of(row),
        .column = slice_of(column),
        .value = value,
        .suffix_of = (uint16_t)suffix_of,
    };
    return mutate(b, &m);
}

static int mutate_key(struct kv_batch *b, enum mutation_kind kind,
                      const char *row, const char *column)
{
    struct mutation m = {
        .kind = (uint8_t)kind,
        .row = slice_of(row),
        .column = slice_of(column),
    };
    return mutate(b, &m);
}

int kv_batch_delete(struct kv_batch *b, const char *row, const char *column)
{
    return mutate_key(b, MUTATION_DELETE, row, column);
}

int kv_batch_delete_prefix(struct kv_batch *b, const char *row,
                           const char *column_prefix)
{
    return mutate_key(b, MUTATION_DELETE_PREFIX, row, column_prefix);
}

int kv_batch_delete_rows(struct kv_batch *b, const char *row_prefix)
{
    return mutate_key(b, MUTATION_DELETE_ROWS, row_prefix, "");
}

int kv_batch_increment(struct kv_batch *b, const char *row, const char *column,
                       int64_t delta)
{
    struct mutation m = {
        .kind = MUTATION_INCREMENT,
        .row = slice_of(row),
        .column = slice_of(column),
        .delta = delta,
    };
    return mutate(b, &m);
}

int kv_batch_increment_bounded(struct kv_batch *b, const char *row,
                               const char *column, int64_t delta, int64_t bound)
{
    struct mutation m = {
        .kind = MUTATION_INCREMENT,
        .flags = MUTATION_BOUND,
        .row = slice_of(row),
        .column = slice_of(column),
        .delta = delta,
        .bound = bound,
    };
    return mutate(b, &m);
}

int kv_batch_add(struct kv_batch *b, const char *row, const char *prefix,
                 const char *counter, struct slice value)
{
    struct mutation m = {
        .kind = MUTATION_ADD,
        .row = slice_of(row),
        .column = slice_of(prefix),
        .counter = slice_of(counter),
        .value = value,
    };
    return mutate(b, &m);
}

/* ---- results and keys ---- */

bool kv_result_value(const struct kv_result *r, int index, int64_t *out)
{
    for (uint32_t i = 0; i < r->count; i++) {
        if (r->values[i].mutation == index) {
            *out = r->values[i].value;
            return true;
        }
    }
    return false;
}

struct kv_key kv_key_of(const char *partition, const char *row,
                        const char *column)
{
    return (struct kv_key){
        .partition = slice_of(partition),
        .row = slice_of(row),
        .column = slice_of(column),
    };
}

void kv_scan_to_message(const struct kv_scan *scan, struct msg_scan *out)
{
    *out = (struct msg_scan){
        .partition = scan->partition,
        .row_prefix = scan->row,
        .row_exact = scan->row_exact,
        .column_prefix = scan->column_prefix,
        .reverse = scan->reverse,
        .has_after = scan->has_after,
        .after_row = scan->after_row,
        .after_column = scan->after_column,
        .limit = scan->limit,
    };
}
