/*
 * Whether a command is one at all: kinds, flags, sizes. Asked before it
 * becomes an entry, and again, alike everywhere, when it is applied.
 */
#include "storage/state_private.h"

static size_t suffix_len(const struct mutation *m)
{
    return m->flags & MUTATION_SUFFIX ? SEQUENCE_DIGITS : 0;
}

static unsigned flags_allowed(const struct command *c, uint8_t kind)
{
    switch ((enum mutation_kind)kind) {
    case MUTATION_PUT:
        return c->kind == COMMAND_BLOBS ? MUTATION_SUFFIX | MUTATION_BLOB
                                        : MUTATION_SUFFIX;
    case MUTATION_ADD:
        return MUTATION_SUFFIX;
    case MUTATION_INCREMENT:
        return MUTATION_BOUND;
    case MUTATION_DELETE:
    case MUTATION_DELETE_PREFIX:
    case MUTATION_DELETE_ROWS:
        return 0;
    }
    return 0;
}

/* A reference to a blob, and nothing else. */
static bool blob_valid(const struct mutation *m)
{
    struct place p;
    return (m->flags & MUTATION_BLOB) == 0 ||
           (m->flags == MUTATION_BLOB &&
            place_decode(VALUE_BLOB, m->value, &p) == ST_OK &&
            p.len > LIMIT_VALUE_LOGGED);
}

static enum status check_mutation(const struct command *c, uint32_t i)
{
    const struct mutation *m = &c->mutations[i];
    size_t column = m->column.len;
    if (m->kind < MUTATION_PUT || m->kind > MUTATION_DELETE_ROWS ||
        (m->flags & ~flags_allowed(c, m->kind)) != 0 || !blob_valid(m)) {
        return ST_INVALID;
    }
    if ((m->flags & MUTATION_SUFFIX) &&
        (m->suffix_of >= i ||
         !state_gives_value(&c->mutations[m->suffix_of]))) {
        return ST_INVALID;
    }
    column += m->kind == MUTATION_ADD ? SEQUENCE_DIGITS : 0;
    if (m->row.len > LIMIT_KEY_PART || column > LIMIT_KEY_PART ||
        m->counter.len > LIMIT_KEY_PART ||
        m->value.len + suffix_len(m) > LIMIT_VALUE) {
        return ST_TOO_LARGE;
    }
    return ST_OK;
}

static enum status check_condition(const struct condition *k)
{
    if (k->kind < CONDITION_ABSENT || k->kind > CONDITION_NONE_BELOW) {
        return ST_INVALID;
    }
    bool fits = k->row.len <= LIMIT_KEY_PART &&
                k->column.len <= LIMIT_KEY_PART && k->value.len <= LIMIT_VALUE;
    return fits ? ST_OK : ST_TOO_LARGE;
}

/* What the encoded command takes, give or take its small fixed parts. */
static size_t command_size(const struct command *c)
{
    size_t size = 128 + c->partition.len;
    for (uint32_t i = 0; i < c->conditions_count; i++) {
        const struct condition *k = &c->conditions[i];
        size += 16 + k->row.len + k->column.len + k->value.len;
    }
    for (uint32_t i = 0; i < c->mutations_count; i++) {
        const struct mutation *m = &c->mutations[i];
        size += 40 + m->row.len + m->column.len + m->counter.len + m->value.len;
    }
    return size;
}

static enum status check_batch(const struct command *c)
{
    uint32_t values = 0, blobs = 0;
    if (c->partition.len > LIMIT_KEY_PART ||
        c->conditions_count > LIMIT_BATCH_MUTATIONS ||
        c->mutations_count > LIMIT_BATCH_MUTATIONS) {
        return ST_TOO_LARGE;
    }
    for (uint32_t i = 0; i < c->conditions_count; i++) {
        enum status s = check_condition(&c->conditions[i]);
        if (s != ST_OK) {
            return s;
        }
    }
    for (uint32_t i = 0; i < c->mutations_count; i++) {
        enum status s = check_mutation(c, i);
        if (s != ST_OK) {
            return s;
        }
        values += state_gives_value(&c->mutations[i]);
        blobs += (c->mutations[i].flags & MUTATION_BLOB) != 0;
    }
    if (values > LIMIT_RESULT_VALUES || blobs > LIMIT_BLOB_REFS ||
        command_size(c) > LIMIT_BATCH) {
        return ST_TOO_LARGE;
    }
    return ST_OK;
}

static bool numbers_valid(const struct command *c)
{
    return c->number > 0 && c->number <= STATE_NUMBER_MAX &&
           c->oldest_open > 0 && c->oldest_open <= STATE_NUMBER_MAX;
}

enum status state_check_command(const struct command *c)
{
    return c->kind == COMMAND_BLOBS ? ST_INVALID : state_check_entry(c);
}

enum status state_check_entry(const struct command *c)
{
    if (c->kind < COMMAND_BATCH || c->kind > COMMAND_BLOBS) {
        return ST_INVALID;
    }
    switch ((enum command_kind)c->kind) {
    case COMMAND_BATCH:
    case COMMAND_BLOBS:
        return numbers_valid(c) ? check_batch(c) : ST_INVALID;
    case COMMAND_SETTLE:
        return numbers_valid(c) ? ST_OK : ST_INVALID;
    case COMMAND_INTRODUCE:
        return id128_is_zero(c->client) ? ST_INVALID : ST_OK;
    case COMMAND_NOTHING:
        return ST_OK;
    }
    return ST_INVALID;
}

enum need state_need(const struct command *c)
{
    size_t values = 0;
    bool deletes = false;
    if (c->kind == COMMAND_SETTLE) {
        return NEED_SETTLES;
    }
    for (uint32_t i = 0; i < c->mutations_count; i++) {
        const struct mutation *m = &c->mutations[i];
        deletes = deletes || m->kind == MUTATION_DELETE ||
                  m->kind == MUTATION_DELETE_PREFIX ||
                  m->kind == MUTATION_DELETE_ROWS;
        values += m->value.len;
    }
    bool frees = c->kind == COMMAND_BATCH && deletes &&
                 values <= LIMIT_FREEING_VALUES &&
                 command_size(c) <= LIMIT_FREEING;
    return frees || c->kind == COMMAND_INTRODUCE ? NEED_FREES : NEED_ROOM;
}
