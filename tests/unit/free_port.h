/*
 * A port of 127.0.0.1 that nobody has just now, for a test to listen on or for
 * nobody to answer. It is below those that the kernel gives to connections,
 * and above those of whole clusters in tests (penn.py), so that neither takes
 * it meanwhile; another program of ours begins to look elsewhere. Who listens
 * should all the same try another on ST_IN_USE.
 */
#ifndef PENN_TESTS_UNIT_FREE_PORT_H
#define PENN_TESTS_UNIT_FREE_PORT_H

#include <arpa/inet.h>
#include <check.h>
#include <stdint.h>
#include <sys/socket.h>
#include <unistd.h>

#define FREE_PORT_FIRST 31100u
#define FREE_PORT_COUNT 1600u

static inline uint16_t free_port(void)
{
    static unsigned asked;
    struct sockaddr_in in = {.sin_family = AF_INET,
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int bound = -1;
    for (unsigned i = 0; bound != 0 && i < FREE_PORT_COUNT; i++) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        ck_assert_int_ge(fd, 0);
        in.sin_port = htons(
            (uint16_t)(FREE_PORT_FIRST +
                       ((unsigned)getpid() * 7 + asked++) % FREE_PORT_COUNT));
        bound = bind(fd, (struct sockaddr *)&in, sizeof(in));
        close(fd);
    }
    ck_assert_int_eq(bound, 0);
    return ntohs(in.sin_port);
}

#endif
