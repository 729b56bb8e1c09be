/*
 * A client that never stops writing while tests break the cluster beneath it.
 *
 *   cluster_writer KEYFILE COORDINATOR [THREADS [VALUE_SIZE [TIMEOUT_MS]]]
 *
 * Threads (writer.h) write until standard input ends. Lines on it, each
 * answered by a line of JSON:
 *   stats   what happened so far
 *   mark    the same, and begins a new measurement of the longest gap
 *   hold    waits until all threads rest; go ends that
 *   read    while they rest: reads all that was ever written
 *   stop    (or its end) stops, reads all that was ever written, answers a
 *           last line and ends with 0 if every value is what it must be
 * "least" is the number of acknowledged writes of the thread that has fewest:
 * when it grows, every thread gets on. "longest_ms" is the longest time a
 * thread was without an acknowledged write. Once a second the same goes to
 * standard error.
 */
#include "tests/cluster/writer.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define THREADS_MAX 64
#define READY_MS 60000

struct program {
    struct kv *kv;
    struct log log;
    struct writer *writers;
    unsigned count;
    int64_t began_us;
};

static void add_stats(struct writer_stats *to, const struct writer_stats *s)
{
    to->acknowledged += s->acknowledged;
    to->unknown += s->unknown;
    to->settled += s->settled;
    to->voided += s->voided;
    to->lost += s->lost;
    to->refused += s->refused;
    to->reads += s->reads;
    to->violations += s->violations;
    to->longest_us =
        s->longest_us > to->longest_us ? s->longest_us : to->longest_us;
}

/* Returns the violations so far. */
static uint64_t report(struct program *p, FILE *to)
{
    struct writer_stats all = {0};
    uint64_t least = UINT64_MAX;
    for (unsigned i = 0; i < p->count; i++) {
        struct writer_stats s;
        writer_get_stats(&p->writers[i], &s);
        least = s.acknowledged < least ? s.acknowledged : least;
        add_stats(&all, &s);
    }
    fprintf(to,
            "{\"seconds\": %.1f, \"acknowledged\": %llu, \"least\": %llu, "
            "\"unknown\": %llu, \"settled\": %llu, \"voided\": %llu, "
            "\"lost\": %llu, \"refused\": %llu, \"reads\": %llu, "
            "\"violations\": %llu, \"longest_ms\": %.1f}\n",
            (double)(writer_now_us() - p->began_us) / 1e6,
            (unsigned long long)all.acknowledged, (unsigned long long)least,
            (unsigned long long)all.unknown, (unsigned long long)all.settled,
            (unsigned long long)all.voided, (unsigned long long)all.lost,
            (unsigned long long)all.refused, (unsigned long long)all.reads,
            (unsigned long long)all.violations, (double)all.longest_us / 1e3);
    (void)fflush(to);
    return all.violations;
}

static bool open_kv(struct program *p, char **argv)
{
    const char *coordinators[] = {argv[2], NULL};
    struct kv_options o = {.coordinators = coordinators,
                           .key_file = argv[1],
                           .role = ROLE_CLIENT,
                           .name = "writer",
                           .log = &p->log};
    struct err err = {""};
    log_init_stderr(&p->log, "cluster_writer", "writer");
    log_set_level(&p->log, LOG_LEVEL_WARN);
    if (kv_open(&o, &p->kv, &err) != ST_OK) {
        fprintf(stderr, "writer: %s\n", err.text);
        return false;
    }
    enum status s = kv_wait_ready(p->kv, READY_MS);
    if (s != ST_OK) {
        fprintf(stderr, "writer: the store: %s\n", status_text(s));
    }
    return s == ST_OK;
}

static void start(struct program *p, size_t value_size, int timeout_ms)
{
    uint64_t run;
    FILE *f = fopen("/dev/urandom", "re");
    if (f == NULL || fread(&run, sizeof(run), 1, f) != 1) {
        abort();
    }
    (void)fclose(f);
    p->writers = xcalloc(p->count, sizeof(*p->writers));
    for (unsigned i = 0; i < p->count; i++) {
        struct writer *w = &p->writers[i];
        w->kv = p->kv;
        w->id = i;
        w->run = run >> 32;
        w->seed = run ^ (0x9e3779b97f4a7c15u * (i + 1));
        w->value_size = value_size;
        w->timeout_ms = timeout_ms;
        w->stats.last_us = writer_now_us();
        (void)pthread_mutex_init(&w->lock, NULL);
        (void)pthread_cond_init(&w->changed, NULL);
        if (pthread_create(&w->thread, NULL, writer_run, w) != 0) {
            abort();
        }
    }
}

static const struct {
    const char *word;
    void (*act)(struct writer *w);
} commands[] = {{"mark", writer_mark},
                {"hold", writer_hold},
                {"go", writer_go},
                {"read", writer_verify}};

static void command(struct program *p, const char *word)
{
    bool mark = strcmp(word, "mark") == 0;
    if (mark) {
        (void)report(p, stdout);
    }
    for (size_t c = 0; c < sizeof(commands) / sizeof(commands[0]); c++) {
        for (unsigned i = 0; i < p->count; i++) {
            if (strcmp(word, commands[c].word) == 0) {
                commands[c].act(&p->writers[i]);
            }
        }
    }
    if (!mark) {
        (void)report(p, stdout);
    }
}

/* Obeys standard input; returns at its end or at "stop". */
static void obey(struct program *p)
{
    char line[64];
    size_t len = 0;
    for (;;) {
        struct pollfd in = {.fd = 0, .events = POLLIN};
        if (poll(&in, 1, 1000) == 0) {
            (void)report(p, stderr);
            continue;
        }
        char c;
        if (read(0, &c, 1) != 1) {
            return;
        }
        if (c != '\n') {
            len += len < sizeof(line) - 1;
            line[len - 1] = c;
            continue;
        }
        line[len] = '\0';
        len = 0;
        if (strcmp(line, "stop") == 0) {
            return;
        }
        command(p, line);
    }
}

static uint64_t finish(struct program *p)
{
    for (unsigned i = 0; i < p->count; i++) {
        atomic_store(&p->writers[i].stop, true);
        writer_go(&p->writers[i]);
    }
    for (unsigned i = 0; i < p->count; i++) {
        (void)pthread_join(p->writers[i].thread, NULL);
    }
    for (unsigned i = 0; i < p->count; i++) {
        writer_verify(&p->writers[i]);
    }
    uint64_t violations = report(p, stdout);
    kv_close(p->kv);
    for (unsigned i = 0; i < p->count; i++) {
        (void)pthread_mutex_destroy(&p->writers[i].lock);
        (void)pthread_cond_destroy(&p->writers[i].changed);
    }
    free(p->writers);
    return violations;
}

static unsigned number(int argc, char **argv, int index, unsigned fallback)
{
    return index < argc ? (unsigned)strtoul(argv[index], NULL, 10) : fallback;
}

int main(int argc, char **argv)
{
    struct program p = {.count = number(argc, argv, 3, 4)};
    unsigned value_size = number(argc, argv, 4, 300);
    unsigned timeout_ms = number(argc, argv, 5, 30000);
    if (argc < 3 || argc > 6 || p.count == 0 || p.count > THREADS_MAX) {
        fprintf(stderr, "usage: cluster_writer KEYFILE COORDINATOR [THREADS "
                        "[VALUE_SIZE [TIMEOUT_MS]]]\n");
        return 2;
    }
    if (!open_kv(&p, argv)) {
        return 3;
    }
    p.began_us = writer_now_us();
    start(&p, value_size, (int)timeout_ms);
    obey(&p);
    return finish(&p) == 0 ? 0 : 1;
}
