/*
 * Reading a data directory without opening it.
 *
 * Nothing is decoded here: the store's files, the log and the checkpoints are
 * read by the functions that read them at a start, over an env that writes
 * nothing. Three passes: the log with a witness, which hears of every segment
 * and record; each checkpoint by itself; and then all that a start does, to
 * see what would become of each tablet, and what would be logged.
 *
 * A directory in use is read as well: segments are written in place and never
 * grow, records have checksums, and checkpoints appear whole. What may be seen
 * is a tail that moves, a torn group, or a file that is gone meanwhile; the
 * output says so, and what looks damaged then is no finding.
 */
#include <config.h>

#include "storage/inspect_io.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sysexits.h>
#include <unistd.h>

#include "common/daemon.h"
#include "storage/inspect.h"
#include "storage/readonly_env_io.h"
#include "storage/shard.h"

#define FLUSH_AT KIB(64)

struct inspection {
    struct inspect p;
    struct env *env;
    struct log silent, log;
    bool verbose;
    FILE *to;
    struct buf out;
    struct buf values; /* lines of damaged ones; those beyond are counted */
    uint64_t segment_size;
};

static void flush_out(struct inspection *x)
{
    if (x->out.len > 0) {
        (void)fwrite(x->out.data, 1, x->out.len, x->to);
    }
    buf_clear(&x->out);
}

/* ---- the files ---- */

struct sizes {
    struct inspection *x;
    uint64_t size[64];
    uint32_t times[64];
    size_t count;
};

static uint64_t size_of(struct inspection *x, const char *name)
{
    char path[160];
    struct env_file *f;
    uint64_t size = 0;
    (void)snprintf(path, sizeof(path), "%s/%s", x->p.folder, name);
    if (x->env->ops->file_open(x->env, path, ENV_READONLY, &f) == ST_OK) {
        if (x->env->ops->file_size(f, &size) != ST_OK) {
            size = 0;
        }
        x->env->ops->file_close(f);
    }
    return size;
}

static bool has_form(const char *name, const char *prefix, const char *suffix)
{
    size_t len = strlen(name), tail = strlen(suffix);
    return strncmp(name, prefix, strlen(prefix)) == 0 && len > tail &&
           strcmp(name + len - tail, suffix) == 0;
}

static void on_file(void *ctx, const char *name)
{
    struct sizes *s = ctx;
    uint64_t size = size_of(s->x, name);
    if (!has_form(name, "wal-", ".log")) {
        if (!has_form(name, "t", ".ckpt") && strcmp(name, "wal-begin") != 0 &&
            !has_form(name, "blobs-", ".log")) {
            buf_printf(&s->x->out, "file name=%s bytes=%" PRIu64 " read=no\n",
                       log_quote(slice_of(name)), size);
        }
        return;
    }
    size_t i = 0;
    while (i < s->count && s->size[i] != size) {
        i++;
    }
    if (i < sizeof(s->size) / sizeof(s->size[0])) {
        s->count = i == s->count ? i + 1 : s->count;
        s->size[i] = size;
        s->times[i]++;
    }
}

/* The configuration that says it may not be at hand: most segments have it,
 * and damage makes none longer. */
static void guess_segment_size(struct inspection *x)
{
    struct sizes s = {.x = x};
    uint32_t times = 0;
    x->p.no_folder =
        x->env->ops->dir_list(x->env, x->p.folder, on_file, &s) == ST_NOT_FOUND;
    for (size_t i = 0; i < s.count; i++) {
        uint64_t size = s.size[i];
        bool fits =
            size >= KIB(16) && size % KIB(4) == 0 && size <= WAL_SEGMENT_MAX;
        bool better = s.times[i] > times ||
                      (s.times[i] == times && size > x->segment_size);
        if (fits && better) {
            times = s.times[i];
            x->segment_size = size;
        }
    }
}

/* ---- the log ---- */

static void on_note(void *ctx, bool noted, uint64_t begin, uint64_t known)
{
    struct inspection *x = ctx;
    x->p.noted = noted;
    x->p.note_begin = begin;
    x->p.note_known = known;
}

static void on_segment(void *ctx, const struct wal_found *f)
{
    struct inspection *x = ctx;
    inspect_add_segment(&x->p, f);
}

static void on_record(void *ctx, const struct wal_record *r, uint64_t counter,
                      uint64_t mark)
{
    struct inspection *x = ctx;
    inspect_add_record(&x->p, r);
    if (x->verbose) {
        inspect_print_record(&x->p, r, counter, mark, &x->out);
        if (x->out.len >= FLUSH_AT) {
            flush_out(x);
        }
    }
}

static void on_damage(void *ctx, uint64_t from, uint64_t to)
{
    struct inspection *x = ctx;
    inspect_add_damage(&x->p, from, to);
}

static void read_log(struct inspection *x)
{
    const struct store *s = &x->p.store;
    const struct wal_witness witness = {on_note, on_segment, on_record,
                                        on_damage, x};
    struct wal_options o = {
        .cluster = s->cluster,
        .node = s->node,
        .store = s->id,
        .key = {s->record_key[0], s->record_key[1]},
        .start_counter = s->incarnation.counter + 1,
        .segment_size = x->segment_size,
        .folder = x->p.folder,
        .witness = &witness,
    };
    struct wal *w = NULL;
    x->p.log_status = wal_open(x->env, &o, NULL, &x->p.log, &w, &x->p.log_err);
    wal_close(w);
}

/* ---- checkpoints ---- */

static void note_whole(struct inspect *p, const struct inspect_checkpoint *c)
{
    struct inspect_tablet *t = &p->tablets[c->tablet];
    if (!t->has_checkpoint) {
        t->has_checkpoint = true;
        t->checkpoint = c->info.applied;
    }
}

static uint64_t epoch_of(struct slice config)
{
    struct arena a = {0};
    struct cursor c = cursor_of(config);
    struct tablet_config decoded;
    wire_decode_tablet_config(&c, &a, &decoded);
    uint64_t epoch = c.bad ? 0 : decoded.epoch;
    arena_free(&a);
    return epoch;
}

/* False: there is no N-th one. */
static bool read_checkpoint(struct inspection *x, uint32_t tablet, size_t n)
{
    struct inspect *p = &x->p;
    struct checkpoint_ids ids = {p->store.cluster, p->store.id, p->store.node,
                                 tablet};
    struct checkpoint_file f;
    struct inspect_checkpoint c = {.tablet = tablet};
    c.status = checkpoint_load_nth(x->env, p->folder, &ids, n, &f);
    c.info = f.info;
    c.err = f.err;
    bool found = c.info.file[0] != '\0';
    if (found) {
        c.bytes = size_of(x, c.info.file);
        c.config_epoch = epoch_of(buf_slice(&f.config));
        if (c.status == ST_OK && tablet < LIMIT_TABLETS) {
            note_whole(p, &c);
        }
        p->checkpoints = xrealloc(p->checkpoints, (p->checkpoint_count + 1) *
                                                      sizeof(*p->checkpoints));
        p->checkpoints[p->checkpoint_count++] = c;
        inspect_print_checkpoint(&c, &x->out);
        flush_out(x);
    }
    buf_free(&f.config);
    state_free(f.state);
    return found;
}

static void read_checkpoints(struct inspection *x)
{
    uint32_t *ids = xcalloc(LIMIT_TABLETS, sizeof(*ids));
    size_t count = 0;
    enum status s =
        checkpoint_list(x->env, x->p.folder, ids, LIMIT_TABLETS, &count);
    if (s != ST_OK) {
        buf_printf(&x->out, "checkpoints-unreadable status=%s\n",
                   status_name(s));
    }
    for (size_t i = 0; i < count; i++) {
        for (size_t n = 0; read_checkpoint(x, ids[i], n); n++) {
        }
    }
    free(ids);
}

/* ---- what a start would do ---- */

static void take_kept(struct inspection *x, struct shard *s)
{
    struct wal_kept k;
    for (size_t i = 0; shard_kept(s, i, &k); i++) {
        inspect_add_kept(&x->p, &k);
    }
}

static void take_blobs(struct inspection *x, struct shard *s)
{
    struct blobs_file f;
    for (size_t i = 0; shard_blob_file(s, i, &f); i++) {
        inspect_add_blobs(&x->p, &f);
    }
}

/* Those that are whole are told at once, for there may be many. */
static void on_value(void *ctx, const struct verified_value *v)
{
    struct inspection *x = ctx;
    struct buf line = {0};
    if (v->why != ST_OK) {
        inspect_print_value(&x->p, v, &x->values);
    } else if (x->verbose) {
        inspect_print_value(&x->p, v, &line);
        (void)fwrite(line.data, 1, line.len, x->to);
        buf_free(&line);
    }
}

static void take_values(struct inspection *x, struct shard *s, uint32_t tablet)
{
    struct inspect_tablet *t = &x->p.tablets[tablet];
    struct shard_values_found found;
    shard_verify_values(s, tablet, on_value, x, &found);
    t->values = found.count;
    t->value_bytes = found.bytes;
    t->damaged_values = found.damaged;
}

static void take_reports(struct inspection *x, struct shard *s)
{
    struct tablet_report *r = xcalloc(LIMIT_TABLETS, sizeof(*r));
    struct tablet_figures *f = xcalloc(LIMIT_TABLETS, sizeof(*f));
    uint32_t count = shard_reports(s, r, LIMIT_TABLETS);
    (void)shard_tablet_figures(s, f, LIMIT_TABLETS);
    for (uint32_t i = 0; i < count; i++) {
        if (r[i].tablet < LIMIT_TABLETS) {
            struct inspect_tablet *t = &x->p.tablets[r[i].tablet];
            t->recovered = true;
            t->report = r[i];
            t->log_from = f[i].log_from;
            take_values(x, s, r[i].tablet);
        }
    }
    free(r);
    free(f);
}

/* What it would log. */
static void take_lines(struct inspection *x, int fd)
{
    struct buf text = {0};
    ssize_t n;
    buf_init(&text, MIB(1));
    for (off_t at = 0; !text.full; at += n) {
        uint8_t piece[4096];
        n = pread(fd, piece, sizeof(piece), at);
        if (n <= 0) {
            break;
        }
        buf_put(&text, piece, (size_t)n);
    }
    for (size_t from = 0, i = 0; i < text.len; i++) {
        if (text.data[i] == '\n') {
            inspect_print_line(slice_make(text.data + from, i - from), &x->out);
            from = i + 1;
        }
    }
    buf_free(&text);
}

static void recover(struct inspection *x)
{
    struct inspect *p = &x->p;
    struct storage_node_options o = {.env = x->env,
                                     .node = p->store.node,
                                     .name = "inspect",
                                     .segment_size = x->segment_size};
    struct store store = p->store;
    struct shard *s = NULL;
    struct beacon_table *beacons = beacon_table_new(0, 0);
    int fd = memfd_create("log", MFD_CLOEXEC);
    store.incarnation.counter++;
    x->env->log = &x->log;
    x->log.fd = fd;
    p->recovery_status = shard_open(&o, &store, beacons, &s, &p->recovery_err);
    if (p->recovery_status == ST_OK) {
        shard_release(s);
        take_kept(x, s);
        take_blobs(x, s);
        take_reports(x, s);
    }
    x->env->log = &x->silent;
    readonly_env_end(x->env); /* nothing is under way any more */
    shard_free(s);
    beacon_table_free(beacons);
    if (fd >= 0) {
        take_lines(x, fd);
        (void)close(fd);
    }
}

/* ---- all of it ---- */

static void read_store(struct inspection *x)
{
    struct inspect *p = &x->p;
    struct store one;
    struct err err;
    for (unsigned i = 0; i < 2; i++) {
        p->copy_status[i] = store_read_copy(x->env, i, &one, &err);
    }
    p->store_status = store_read(x->env, &p->store, &p->store_err);
    if (p->store_status == ST_NOT_FOUND) {
        err_set(&p->store_err, ST_NOT_FOUND,
                "neither store nor store.copy is there: is it a data "
                "directory?");
    }
}

static int look(struct inspection *x)
{
    struct inspect *p = &x->p;
    p->in_use = readonly_env_in_use(x->env, &p->pid);
    p->tablets = xcalloc(LIMIT_TABLETS, sizeof(*p->tablets));
    store_shard_folder(0, p->folder);
    read_store(x);
    inspect_print_store(p, &x->out);
    flush_out(x);
    if (p->store_status == ST_OK) {
        guess_segment_size(x);
    }
    if (p->store_status == ST_OK && !p->no_folder) {
        read_log(x);
        read_checkpoints(x);
        struct buf lines = x->out;
        x->out = (struct buf){0};
        recover(x);
        struct buf logged = x->out;
        x->out = lines;
        inspect_print_log(p, &x->out);
        inspect_print_blobs(p, &x->out);
        inspect_print_tablets(p, &x->out);
        buf_put_slice(&x->out, buf_slice(&x->values));
        buf_put_slice(&x->out, buf_slice(&logged));
        buf_free(&logged);
    }
    bool whole = inspect_print_verdict(p, &x->out);
    flush_out(x);
    return whole ? EX_OK : p->in_use ? EX_TEMPFAIL : EX_DATAERR;
}

int inspect_directory(const char *dir, bool verbose, FILE *out)
{
    struct inspection x = {.verbose = verbose, .to = out};
    struct err err;
    x.silent =
        (struct log){.daemon = "penn-storaged", .node = "inspect", .fd = -1};
    x.log = x.silent;
    x.log.level = LOG_LEVEL_WARN;
    buf_init(&x.values, MIB(1));
    x.p.dir = dir;
    enum status s = readonly_env_open(dir, &x.silent, &x.env, &err);
    if (s != ST_OK) {
        (void)fprintf(stderr, "penn-storaged: %s\n", err.text);
        return daemon_exit_code(s);
    }
    int code = look(&x);
    readonly_env_close(x.env);
    inspect_free(&x.p);
    buf_free(&x.out);
    buf_free(&x.values);
    return fflush(out) == 0 ? code : EX_IOERR;
}

bool inspect_asked(int argc, char **argv)
{
    return argc > 1 && strcmp(argv[1], "--inspect") == 0;
}

int inspect_main(int argc, char **argv)
{
    bool verbose = argc == 4 && strcmp(argv[3], "-v") == 0;
    if (argc < 3 || (argc > 3 && !verbose)) {
        (void)fprintf(stderr,
                      "usage: penn-storaged --inspect directory [-v]\n");
        return EX_USAGE;
    }
    return inspect_directory(argv[2], verbose, stdout);
}
