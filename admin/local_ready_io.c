/*
 * Before a one-machine cluster is started: are its ports free? What listens
 * there else, another such cluster perhaps, would answer in its place.
 * Afterwards: waiting until it is ready. Each daemon's status port is
 * asked by libcurl until it says so. A process cannot be waited for from here
 * in any other way: it belongs to nobody's session once `up` is over.
 */
#include "admin/local.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <curl/curl.h>

#define ASK_TIMEOUT_MS 1000L

#define LOOPBACK "127.0.0.1:"

enum status local_check_port(unsigned port, struct err *err)
{
    static const int yes = 1;
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)port),
                             .sin_addr = {htonl(INADDR_LOOPBACK)}};
    bool taken = false;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0) {
        (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
        taken = bind(fd, (const struct sockaddr *)&at, sizeof(at)) != 0 &&
                errno == EADDRINUSE;
        (void)close(fd);
    }
    return taken ? err_set(err, ST_IN_USE,
                           LOOPBACK "%u is in use by another program; a new "
                                    "cluster takes others with --port-base",
                           port)
                 : ST_OK;
}

enum status local_check_ports(const char *config, struct err *err)
{
    enum status s = ST_OK;
    const char *at = config;
    while (s == ST_OK && (at = strstr(at, LOOPBACK)) != NULL) {
        at += strlen(LOOPBACK);
        s = local_check_port((unsigned)strtoul(at, NULL, 10), err);
    }
    return s;
}

static size_t ignore(char *data, size_t size, size_t count, void *ctx)
{
    (void)data;
    (void)ctx;
    return size * count;
}

int local_readiness(const struct local_daemon *d)
{
    char url[64];
    long code = 0;
    CURL *curl = curl_easy_init();
    if (curl == NULL) {
        return 0;
    }
    (void)snprintf(url, sizeof(url), "http://127.0.0.1:%u/readyz",
                   d->status_port);
    (void)curl_easy_setopt(curl, CURLOPT_URL, url);
    (void)curl_easy_setopt(curl, CURLOPT_PROXY, "");
    (void)curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, ASK_TIMEOUT_MS);
    (void)curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    (void)curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, ignore);
    if (curl_easy_perform(curl) == CURLE_OK) {
        (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &code);
    }
    curl_easy_cleanup(curl);
    return (int)code;
}

static long long now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static enum status wait_one(const struct local *l, const struct local_daemon *d,
                            long long deadline, struct err *err)
{
    static const struct timespec pause = {0, 20 * 1000 * 1000};
    char last[400];
    while (local_readiness(d) != 200) {
        while (waitpid(-1, NULL, WNOHANG) > 0) {
        }
        if (local_pid(l, d) == 0) {
            local_last_log(l, d, last, sizeof(last));
            return err_set(err, ST_UNREACHABLE, "%s has ended: %s", d->name,
                           last);
        }
        if (now_ms() > deadline) {
            local_last_log(l, d, last, sizeof(last));
            return err_set(err, ST_TIMEOUT, "%s is not ready: %s", d->name,
                           last);
        }
        (void)nanosleep(&pause, NULL);
    }
    return ST_OK;
}

enum status local_wait_ready(const struct local *l, int timeout_ms,
                             struct err *err)
{
    long long deadline = now_ms() + timeout_ms;
    for (unsigned i = 0; i < l->count; i++) {
        enum status s = wait_one(l, &l->daemons[i], deadline, err);
        if (s != ST_OK) {
            return s;
        }
    }
    return ST_OK;
}
