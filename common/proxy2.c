/*
 * PROXY protocol, version 2: 12 bytes of signature, version and command,
 * family and transport, length of what follows (big endian), addresses, then
 * type-length-value extensions, which are skipped.
 */
#include "common/proxy2.h"

#include <netinet/in.h>
#include <string.h>

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define SIGNATURE_SIZE 12
#define HEADER_SIZE 16
#define COMMAND_LOCAL 0x20
#define COMMAND_PROXY 0x21
#define FAMILY_NONE 0x00
#define FAMILY_TCP4 0x11
#define FAMILY_TCP6 0x21
#define SIZE_TCP4 12
#define SIZE_TCP6 36

static void put_head(struct buf *out, uint8_t command, uint8_t family,
                     uint8_t size)
{
    buf_put(out, SIGNATURE, SIGNATURE_SIZE);
    buf_put_u8(out, command);
    buf_put_u8(out, family);
    buf_put_u8(out, 0);
    buf_put_u8(out, size);
}

/* Address A as IPv6, mapped if it is IPv4 (RFC 4291 2.5.5.2). */
static void as_ipv6(const struct sockaddr *a, uint8_t address[16],
                    uint16_t *port)
{
    if (a->sa_family == AF_INET6) {
        struct sockaddr_in6 six;
        memcpy(&six, a, sizeof(six));
        memcpy(address, &six.sin6_addr, 16);
        *port = six.sin6_port;
        return;
    }
    struct sockaddr_in four;
    memcpy(&four, a, sizeof(four));
    memset(address, 0, 10);
    memset(address + 10, 0xff, 2);
    memcpy(address + 12, &four.sin_addr, 4);
    *port = four.sin_port;
}

static bool is_mapped(const uint8_t address[16])
{
    static const uint8_t prefix[12] = {[10] = 0xff, [11] = 0xff};
    return memcmp(address, prefix, sizeof(prefix)) == 0;
}

static bool is_ip(const struct sockaddr *a)
{
    return a->sa_family == AF_INET || a->sa_family == AF_INET6;
}

void proxy2_encode(struct buf *out, const struct sockaddr *from,
                   const struct sockaddr *to)
{
    uint8_t a[16], b[16];
    uint16_t a_port, b_port;
    if (!is_ip(from) || !is_ip(to)) {
        put_head(out, COMMAND_LOCAL, FAMILY_NONE, 0);
        return;
    }
    as_ipv6(from, a, &a_port);
    as_ipv6(to, b, &b_port);
    if (is_mapped(a) && is_mapped(b)) {
        put_head(out, COMMAND_PROXY, FAMILY_TCP4, SIZE_TCP4);
        buf_put(out, a + 12, 4);
        buf_put(out, b + 12, 4);
    } else {
        put_head(out, COMMAND_PROXY, FAMILY_TCP6, SIZE_TCP6);
        buf_put(out, a, 16);
        buf_put(out, b, 16);
    }
    buf_put(out, &a_port, 2); /* both are in network order */
    buf_put(out, &b_port, 2);
}

static void read_ipv4(const uint8_t *address, const uint8_t *port,
                      struct sockaddr_storage *out)
{
    struct sockaddr_in four = {.sin_family = AF_INET};
    memcpy(&four.sin_addr, address, 4);
    memcpy(&four.sin_port, port, 2);
    memset(out, 0, sizeof(*out));
    memcpy(out, &four, sizeof(four));
}

static void read_ipv6(const uint8_t *address, const uint8_t *port,
                      struct sockaddr_storage *out)
{
    struct sockaddr_in6 six = {.sin6_family = AF_INET6};
    if (is_mapped(address)) {
        read_ipv4(address + 12, port, out);
        return;
    }
    memcpy(&six.sin6_addr, address, 16);
    memcpy(&six.sin6_port, port, 2);
    memset(out, 0, sizeof(*out));
    memcpy(out, &six, sizeof(six));
}

/* Reads the SIZE bytes at P behind the fixed part. */
static enum status read_addresses(const uint8_t *p, size_t size, uint8_t family,
                                  struct proxy2 *out)
{
    switch (family) {
    case FAMILY_TCP4:
        if (size < SIZE_TCP4) {
            return ST_INVALID;
        }
        read_ipv4(p, p + 8, &out->from);
        read_ipv4(p + 4, p + 10, &out->to);
        return ST_OK;
    case FAMILY_TCP6:
        if (size < SIZE_TCP6) {
            return ST_INVALID;
        }
        read_ipv6(p, p + 32, &out->from);
        read_ipv6(p + 16, p + 34, &out->to);
        return ST_OK;
    case FAMILY_NONE:
        out->local = true;
        return ST_OK;
    default:
        return ST_INVALID;
    }
}

enum status proxy2_decode(struct slice bytes, struct proxy2 *out)
{
    struct proxy2 p = {0};
    size_t known = bytes.len < SIGNATURE_SIZE ? bytes.len : SIGNATURE_SIZE;
    if (known > 0 && memcmp(bytes.data, SIGNATURE, known) != 0) {
        return ST_INVALID;
    }
    if (bytes.len < HEADER_SIZE) {
        return ST_MORE;
    }
    const uint8_t *h = bytes.data;
    size_t size = (size_t)h[14] << 8 | h[15];
    if ((h[12] != COMMAND_LOCAL && h[12] != COMMAND_PROXY) ||
        HEADER_SIZE + size > LIMIT_PROXY2_READ) {
        return ST_INVALID;
    }
    if (bytes.len < HEADER_SIZE + size) {
        return ST_MORE;
    }
    p.length = HEADER_SIZE + size;
    p.local = h[12] == COMMAND_LOCAL;
    if (!p.local) {
        enum status s = read_addresses(h + HEADER_SIZE, size, h[13], &p);
        if (s != ST_OK) {
            return s;
        }
    }
    *out = p;
    return ST_OK;
}
