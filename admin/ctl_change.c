/*
 * pennctl's changes of the cluster: asked of the coordinator, whose answer is
 * told as it is.
 */
#include "admin/ctl.h"

/* Asks the coordinator for a change; tells what it says. */
static int change(struct ctl *c, struct buf *request_take, const char *what)
{
    struct arena a = {0};
    struct wire_msg m;
    enum status s = ctl_ask(c, 0, request_take, MSG_ACK, &a, &m);
    if (s != ST_OK) {
        arena_free(&a);
        return ctl_fail(c, s, what);
    }
    enum status said;
    if (!status_from_wire(m.u.ack.status, &said)) {
        said = ST_UNSUPPORTED;
    }
    if (m.u.ack.text.len > 0 && said != ST_OK) {
        struct buf b = {0};
        (void)fprintf(stderr, "pennctl: %s\n", ctl_escape(m.u.ack.text, &b));
        buf_free(&b);
    }
    arena_free(&a);
    if (said != ST_OK) {
        return ctl_fail(c, said, what);
    }
    if (c->json) {
        ctl_print_take(cJSON_CreateObject());
    }
    return CTL_DONE;
}

/* A node's number, or the number of the storage node of that name. */
static bool parse_node(struct ctl *c, const char *text, uint32_t *out)
{
    long long v;
    if (ctl_parse_number(text, 1, UINT32_MAX, &v)) {
        *out = (uint32_t)v;
        return true;
    }
    struct arena a = {0};
    const struct msg_map *m = kv_map(c->kv, &a);
    bool found = false;
    for (uint32_t i = 0; m != NULL && i < m->nodes_count; i++) {
        if (slice_equal(m->nodes[i].name, slice_of(text))) {
            *out = m->nodes[i].node;
            found = true;
        }
    }
    arena_free(&a);
    if (!found) {
        (void)fprintf(stderr, "pennctl: %s: no such node\n", text);
    }
    return found;
}

static int set_node(struct ctl *c, int argc, char **argv, const char *words,
                    enum node_state state)
{
    struct msg_node_set m = {.state = (uint8_t)state};
    if (!ctl_end_options(&argc, argv) || argc != 1) {
        return ctl_misuse(words);
    }
    if (!parse_node(c, argv[0], &m.node)) {
        return CTL_NO;
    }
    struct buf request = {0};
    wire_put_node_set(&request, 0, &m);
    return change(c, &request, words);
}

int ctl_cmd_node_disable(struct ctl *c, int argc, char **argv)
{
    return set_node(c, argc, argv, "node disable", NODE_DISABLED);
}

int ctl_cmd_node_enable(struct ctl *c, int argc, char **argv)
{
    return set_node(c, argc, argv, "node enable", NODE_UP);
}

int ctl_cmd_node_drain(struct ctl *c, int argc, char **argv)
{
    return set_node(c, argc, argv, "node drain", NODE_DRAINING);
}

int ctl_cmd_tablet_move(struct ctl *c, int argc, char **argv)
{
    long long tablet;
    struct msg_tablet_move m = {0};
    if (!ctl_end_options(&argc, argv) || argc != 3 ||
        !ctl_parse_number(argv[0], 0, UINT32_MAX, &tablet)) {
        return ctl_misuse("tablet move");
    }
    if (!parse_node(c, argv[1], &m.from) || !parse_node(c, argv[2], &m.to)) {
        return CTL_NO;
    }
    m.tablet = (uint32_t)tablet;
    struct buf request = {0};
    wire_put_tablet_move(&request, 0, &m);
    return change(c, &request, "tablet move");
}
