#include "tests/unit/value_rig.h"

#include <check.h>
#include <stdio.h>
#include <string.h>

#define PATIENCE (5 * SIM_S)

struct slice value_bytes(uint32_t which, size_t len)
{
    static uint8_t room[KIB(200)];
    ck_assert_uint_le(len, sizeof(room));
    for (size_t i = 0; i < len; i++) {
        room[i] = (uint8_t)(which * 37 + i * 7 + (i >> 8));
    }
    return slice_make(room, len);
}

const char *value_column(uint32_t which)
{
    static char text[16];
    (void)snprintf(text, sizeof(text), "c%05u", which);
    return text;
}

static void command(struct value_rig *v, struct command *c)
{
    struct party *client = &v->node.client;
    struct wire_msg m = {.type = MSG_COMMAND, .request = 1000 + v->number};
    uint32_t before = client->heard[MSG_RESULT];
    c->client = (struct id128){{5}};
    m.u.command.tablet = 1;
    m.u.command.command = *c;
    party_send(client, NULL, &m);
    ck_assert(party_await(&v->node, client, MSG_RESULT, before + 1, PATIENCE));
    ck_assert_uint_eq(party_last(client, MSG_RESULT)->u.result.result.status,
                      ST_OK);
}

void value_rig_introduce(struct value_rig *v)
{
    struct command introduce = {.kind = COMMAND_INTRODUCE};
    party_call(&v->node, &v->node.client);
    v->number = 0;
    command(v, &introduce);
    v->session =
        party_last(&v->node.client, MSG_RESULT)->u.result.result.session;
}

static bool not_open(void *ctx)
{
    return (node_rig_report(ctx).flags & REPORT_OPEN) == 0;
}

void value_rig_open(struct value_rig *v, const struct tablet_config *t)
{
    node_rig_publish(&v->node, t, 1);
    ck_assert(world_run_while(v->node.w, not_open, &v->node, PATIENCE));
}

void value_put(struct value_rig *v, uint32_t which, struct slice value)
{
    struct mutation m = {.kind = MUTATION_PUT,
                         .row = slice_of("r"),
                         .column = slice_of(value_column(which)),
                         .value = value};
    v->number++;
    struct command c = {.kind = COMMAND_BATCH,
                        .session = v->session,
                        .number = v->number,
                        .oldest_open = v->number,
                        .partition = slice_of("p"),
                        .mutations = &m,
                        .mutations_count = 1};
    command(v, &c);
}

void value_ask(struct value_rig *v, uint64_t request, uint32_t which)
{
    struct wire_msg m = {.type = MSG_GET, .request = request};
    m.u.get = (struct msg_get){.tablet = 1,
                               .partition = slice_of("p"),
                               .row = slice_of("r"),
                               .column = slice_of(value_column(which))};
    party_send(&v->node.client, NULL, &m);
}

struct search {
    struct sim_host *host;
    struct slice bytes;
    unsigned flips;
};

static void flip_in(void *ctx, const char *name, uint64_t size)
{
    struct search *x = ctx;
    struct buf file = {0};
    (void)size;
    if (sim_disk_read(x->host, name, &file)) {
        const uint8_t *at =
            memmem(file.data, file.len, x->bytes.data, x->bytes.len);
        if (at != NULL) {
            uint64_t offset = (uint64_t)(at - file.data) + x->bytes.len / 2;
            ck_assert(sim_disk_flip_bit(x->host, name, offset, 3));
            x->flips++;
        }
    }
    buf_free(&file);
}

unsigned value_damage(struct value_rig *v, struct slice bytes)
{
    struct search x = {v->node.host, bytes, 0};
    sim_disk_each(v->node.host, flip_in, &x);
    return x.flips;
}

struct storage_figures value_figures(const struct value_rig *v)
{
    struct storage_figures f;
    storage_node_figures(v->node.node, &f);
    return f;
}
