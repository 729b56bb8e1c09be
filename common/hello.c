#include "common/hello.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

void hello_make(const struct hello_self *self, enum lane lane,
                struct msg_hello *out)
{
    *out = (struct msg_hello){
        .magic = WIRE_MAGIC,
        .protocol_low = WIRE_PROTOCOL_LOW,
        .protocol_high = WIRE_PROTOCOL_HIGH,
        .cluster = self->cluster,
        .node = self->node,
        .store = self->store,
        .incarnation = self->incarnation,
        .term = self->term,
        .role = self->role,
        .lane = (uint8_t)lane,
        .name = slice_of(self->name),
    };
    assert(out->name.len <= LIMIT_NAME);
}

/* Names go into logs and pages. */
static bool printable(struct slice s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (s.data[i] <= ' ' || s.data[i] > '~') {
            return false;
        }
    }
    return true;
}

static enum status check_versions(const struct msg_hello *h, struct err *err)
{
    if (h->magic != WIRE_MAGIC || h->protocol_low > h->protocol_high) {
        return err_set(err, ST_INVALID, "not a hello of PennCloud");
    }
    if (h->protocol_low > WIRE_PROTOCOL_HIGH ||
        h->protocol_high < WIRE_PROTOCOL_LOW) {
        return err_set(err, ST_VERSION,
                       "peer speaks protocol %u to %u, this process %u to %u",
                       (unsigned)h->protocol_low, (unsigned)h->protocol_high,
                       (unsigned)WIRE_PROTOCOL_LOW,
                       (unsigned)WIRE_PROTOCOL_HIGH);
    }
    return ST_OK;
}

static enum status check_cluster(const struct hello_self *self,
                                 const struct msg_hello *h, struct err *err)
{
    char mine[33], theirs[33];
    if (id128_is_zero(self->cluster) || id128_is_zero(h->cluster) ||
        id128_equal(self->cluster, h->cluster)) {
        return ST_OK;
    }
    id128_format(self->cluster, mine);
    id128_format(h->cluster, theirs);
    return err_set(err, ST_WRONG_CLUSTER,
                   "peer belongs to cluster %s, this process to %s", theirs,
                   mine);
}

enum status hello_check(const struct hello_self *self,
                        const struct msg_hello *h, uint32_t accept,
                        struct env_peer *peer, struct err *err)
{
    enum status s = check_versions(h, err);
    if (s != ST_OK) {
        return s;
    }
    if (h->role == ROLE_NONE || h->role > ROLE_CLIENT ||
        h->lane > LANE_BEACON || h->name.len > LIMIT_NAME ||
        !printable(h->name)) {
        return err_set(err, ST_INVALID,
                       "hello with bad role %u, lane %u or name",
                       (unsigned)h->role, (unsigned)h->lane);
    }
    s = check_cluster(self, h, err);
    if (s != ST_OK) {
        return s;
    }
    if ((accept & ROLE_BIT(h->role)) == 0) {
        return err_set(err, ST_DENIED, "role %s may not connect here",
                       role_name(h->role));
    }
    *peer = (struct env_peer){
        .node = h->node,
        .role = h->role,
        .lane = h->lane,
        .store = h->store,
        .incarnation = h->incarnation,
        .term = h->term,
    };
    if (h->name.len > 0) {
        memcpy(peer->name, h->name.data, h->name.len);
    }
    return ST_OK;
}

/* One constant a message, by its name: the switch below needs each. */
#define ALLOW(NAME, senders, receivers)                                        \
    static const uint32_t senders_of_##NAME = (senders),                       \
                          receivers_of_##NAME = (receivers);
#include "common/roles.def"

bool hello_may_send(uint8_t from, uint8_t to, uint16_t type)
{
    uint32_t senders = 0, receivers = 0;
    switch (type) {
#define MSG(NAME, id, msg)                                                     \
    case id:                                                                   \
        senders = senders_of_##NAME;                                           \
        receivers = receivers_of_##NAME;                                       \
        break;
#include "common/messages.def"
    default:
        return false;
    }
    return from <= ROLE_CLIENT && to <= ROLE_CLIENT &&
           (senders & ROLE_BIT(from)) != 0 && (receivers & ROLE_BIT(to)) != 0;
}
