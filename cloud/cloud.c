/*
 * The context: options with their defaults, clocks, the libraries' one-time
 * initialisation.
 */
#include "cloud/cloud.h"

#include <ctype.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <sodium.h>

#include "cloud/account.h"
#include "cloud/context.h"
#include "cloud/message.h"
#include "cloud/store.h"

#define DAY_MS (24ll * 3600 * 1000)

/* libsodium and GMime keep state of their own, made once in a process. */
static pthread_once_t libraries = PTHREAD_ONCE_INIT;

static void start_libraries(void)
{
    if (sodium_init() < 0)
        abort();
    message_init();
}

static bool domain_valid(const char *d)
{
    size_t len = strlen(d);
    return len > 0 && len <= 255 &&
           strspn(d, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                     "0123456789.-") == len;
}

static char *lower_copy(const char *text)
{
    char *copy = xstrdup(text);
    for (char *p = copy; *p != '\0'; p++)
        *p = (char)tolower((unsigned char)*p);
    return copy;
}

static enum status check_options(const struct cloud_options *o, struct err *err)
{
    if (o->domains == NULL || o->domains[0] == NULL)
        return err_set(err, ST_CONFIG, "no mail domain is configured");
    for (size_t i = 0; o->domains[i] != NULL; i++) {
        if (!domain_valid(o->domains[i]))
            return err_set(err, ST_CONFIG, "\"%s\" is not a mail domain",
                           o->domains[i]);
    }
    if (o->postmaster != NULL && !account_name_valid(slice_of(o->postmaster)))
        return err_set(err, ST_CONFIG, "postmaster \"%s\" is not a user name",
                       o->postmaster);
    if (o->quota_bytes < 0 || o->session_idle_ms < 0 || o->session_end_ms < 0)
        return err_set(err, ST_CONFIG, "a limit of accounts is negative");
    return ST_OK;
}

static void fill_defaults(struct cloud_options *o)
{
    if (o->quota_bytes == 0)
        o->quota_bytes = LIMIT_QUOTA_DEFAULT;
    if (o->hash_parallel == 0)
        o->hash_parallel = 2;
    if (o->hash_waiting == 0)
        o->hash_waiting = 64;
    if (o->session_idle_ms == 0)
        o->session_idle_ms = 7 * DAY_MS;
    if (o->session_end_ms == 0)
        o->session_end_ms = 30 * DAY_MS;
    if (o->hash_memory == 0)
        o->hash_memory = PASSWORD_MEMORY;
}

enum status cloud_open(const struct cloud_options *o, struct cloud **out,
                       struct err *err)
{
    enum status st = check_options(o, err);
    if (st != ST_OK)
        return st;
    pthread_once(&libraries, start_libraries);
    struct cloud *c = xcalloc(1, sizeof *c);
    c->o = *o;
    fill_defaults(&c->o);
    size_t n = 0;
    while (o->domains[n] != NULL)
        n++;
    c->domains = xcalloc(n + 1, sizeof *c->domains);
    for (size_t i = 0; i < n; i++)
        c->domains[i] = lower_copy(o->domains[i]);
    c->postmaster = o->postmaster != NULL ? xstrdup(o->postmaster) : NULL;
    password_gate_init(&c->gate, c->o.hash_parallel, c->o.hash_waiting,
                       c->o.hash_memory);
    *out = c;
    return ST_OK;
}

void cloud_close(struct cloud *c)
{
    if (c == NULL)
        return;
    for (char **d = c->domains; *d != NULL; d++)
        free(*d);
    free(c->domains);
    free(c->postmaster);
    password_gate_fini(&c->gate);
    free(c);
}

struct cloud_op cloud_op_make(struct cloud *c, int timeout_ms)
{
    return (struct cloud_op){.cloud = c,
                             .deadline_ms = store_now_ms() + timeout_ms};
}

int cloud_op_left(const struct cloud_op *op)
{
    int64_t deadline_ms = op->deadline_ms;
    int64_t cut_ms = op->cut_ms != NULL ? atomic_load(op->cut_ms) : 0;
    if (cut_ms != 0 && cut_ms < deadline_ms)
        deadline_ms = cut_ms;
    int64_t left = deadline_ms - store_now_ms();
    return left < 0 ? 0 : left > INT32_MAX ? INT32_MAX : (int)left;
}

struct kv *cloud_kv(const struct cloud *c)
{
    return c->o.kv;
}

const struct log *cloud_log(const struct cloud *c)
{
    return c->o.log;
}

int64_t cloud_wall_ms(const struct cloud *c)
{
    if (c->o.wall_ms != NULL)
        return c->o.wall_ms(c->o.wall_ctx);
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

const char *cloud_main_domain(const struct cloud *c)
{
    return c->domains[0];
}

bool cloud_domain_is_local(const struct cloud *c, const char *domain)
{
    for (char **d = c->domains; *d != NULL; d++) {
        if (strcmp(*d, domain) == 0)
            return true;
    }
    return false;
}
