#include "tests/crash/disk.h"

#include <assert.h>
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FDS 65536
#define NAME_LEN 256

/* A write, or a size, that is not known to be durable. */
struct change {
    struct change *next;
    uint64_t order; /* among all that is pending */
    bool size;      /* no write */
    uint32_t id;    /* the write's, while its process lives; else 0 */
    uint32_t sync;  /* covered by this one */
    bool done;
    uint64_t offset, len;
    const uint8_t *bytes; /* NULL: zeros */
};

struct file {
    struct file *next;
    struct inode *durable;
    struct change *first, *last;
};

struct entry {
    char name[NAME_LEN]; /* from the data directory on */
    struct file *file;   /* NULL: a folder */
};

struct names {
    struct entry *at;
    size_t count, cap;
};

enum name_kind { NAME_LINK, NAME_UNLINK, NAME_RENAME, NAME_FOLDER };

struct naming {
    struct naming *next;
    enum name_kind kind;
    uint64_t order;
    uint32_t sync;
    char name[NAME_LEN], to[NAME_LEN];
    struct file *file;
};

struct descriptor {
    struct file *file; /* NULL: a folder, or none */
    bool folder;
    char name[NAME_LEN];
};

struct crash_disk {
    struct file *files;
    struct names now, durable;
    struct naming *first, *last;
    struct descriptor *fds;
    uint64_t order;
};

/* ---- names ---- */

static size_t find(const struct names *n, const char *name)
{
    size_t i = 0;
    while (i < n->count && strcmp(n->at[i].name, name) != 0) {
        i++;
    }
    return i;
}

static void names_put(struct names *n, const char *name, struct file *f)
{
    size_t i = find(n, name);
    if (i == n->cap) {
        n->cap = n->cap == 0 ? 64 : 2 * n->cap;
        n->at = xrealloc(n->at, n->cap * sizeof(*n->at));
    }
    if (i == n->count) {
        n->count++;
        (void)snprintf(n->at[i].name, NAME_LEN, "%s", name);
    }
    n->at[i].file = f;
}

static void names_drop(struct names *n, const char *name)
{
    size_t i = find(n, name);
    if (i < n->count) {
        n->at[i] = n->at[--n->count];
    }
}

static void names_change(struct names *n, const struct naming *c)
{
    switch (c->kind) {
    case NAME_LINK:
    case NAME_FOLDER:
        names_put(n, c->name, c->file);
        return;
    case NAME_UNLINK:
        names_drop(n, c->name);
        return;
    case NAME_RENAME:
        names_drop(n, c->name);
        names_put(n, c->to, c->file);
        return;
    }
}

/* Is NAME directly in FOLDER ("": the data directory)? */
static bool is_in(const char *name, const char *folder)
{
    const char *slash = strrchr(name, '/');
    size_t len = slash == NULL ? 0 : (size_t)(slash - name);
    return len == strlen(folder) && strncmp(name, folder, len) == 0;
}

static void full_name(const struct crash_disk *d, int32_t of, struct slice name,
                      char out[NAME_LEN])
{
    const char *folder = of == TRACE_ROOT ? "" : d->fds[of].name;
    bool same = name.len == 1 && name.data[0] == '.';
    int n = snprintf(out, NAME_LEN, "%s%s%.*s", folder,
                     folder[0] == '\0' || same ? "" : "/",
                     same ? 0 : (int)name.len, (const char *)name.data);
    assert(n >= 0 && n < NAME_LEN);
}

static void change_name(struct crash_disk *d, enum name_kind kind,
                        const char *name, const char *to, struct file *f)
{
    struct naming *c = xcalloc(1, sizeof(*c));
    c->kind = kind;
    c->order = ++d->order;
    c->file = f;
    (void)snprintf(c->name, NAME_LEN, "%s", name);
    (void)snprintf(c->to, NAME_LEN, "%s", to);
    names_change(&d->now, c);
    if (d->first == NULL) {
        d->first = c;
    } else {
        d->last->next = c;
    }
    d->last = c;
}

/* ---- contents ---- */

static void change_file(struct crash_disk *d, struct file *f,
                        const struct trace_record *r, bool size)
{
    struct change *c = xcalloc(1, sizeof(*c));
    c->order = ++d->order;
    c->size = size;
    c->id = size ? 0 : r->h.id;
    c->done = size;
    c->offset = r->h.offset;
    c->len = r->h.size;
    c->bytes = r->payload.len > 0 ? r->payload.data : NULL;
    assert(size || r->payload.len == 0 || r->payload.len == r->h.size);
    if (f->first == NULL) {
        f->first = c;
    } else {
        f->last->next = c;
    }
    f->last = c;
}

/* The first LEN bytes of C. */
static void apply_part(struct inode *i, const struct change *c, uint64_t from,
                       uint64_t len)
{
    if (c->bytes == NULL) {
        inode_zero_medium(i, c->offset + from, len);
    } else {
        inode_to_medium(i, c->offset + from, c->bytes + from, (size_t)len);
    }
}

static void apply(struct inode *i, const struct change *c)
{
    if (c->size) {
        inode_resize_medium(i, c->len);
    } else {
        apply_part(i, c, 0, c->len);
    }
}

static void on_written(struct crash_disk *d, const struct trace_record *r)
{
    for (struct file *f = d->files; f != NULL; f = f->next) {
        for (struct change *c = f->first; c != NULL; c = c->next) {
            if (c->id == r->h.id) {
                c->done = true;
                c->len = r->h.size;
                return;
            }
        }
    }
    assert(false);
}

static void cover(struct crash_disk *d, const struct trace_record *r)
{
    const struct descriptor *fd = &d->fds[r->h.fd];
    for (struct naming *c = d->first; c != NULL && fd->folder; c = c->next) {
        if (c->sync == 0 && is_in(c->name, fd->name)) {
            c->sync = r->h.id;
        }
    }
    struct change *c = fd->folder || fd->file == NULL ? NULL : fd->file->first;
    for (; c != NULL; c = c->next) {
        c->sync = c->done && c->sync == 0 ? r->h.id : c->sync;
    }
}

static void settle_names(struct crash_disk *d, uint32_t id, bool good)
{
    struct naming **at = &d->first;
    d->last = NULL;
    while (*at != NULL) {
        struct naming *c = *at;
        if (c->sync == id && good) {
            names_change(&d->durable, c);
            *at = c->next;
            free(c);
            continue;
        }
        c->sync = c->sync == id ? 0 : c->sync;
        d->last = c;
        at = &c->next;
    }
}

static void settle_file(struct file *f, uint32_t id, bool good)
{
    struct change **at = &f->first;
    f->last = NULL;
    while (*at != NULL) {
        struct change *c = *at;
        if (c->sync == id && good) {
            apply(f->durable, c);
            *at = c->next;
            free(c);
            continue;
        }
        c->sync = c->sync == id ? 0 : c->sync;
        f->last = c;
        at = &c->next;
    }
}

static void on_synced(struct crash_disk *d, const struct trace_record *r)
{
    settle_names(d, r->h.id, r->h.size != 0);
    for (struct file *f = d->files; f != NULL; f = f->next) {
        settle_file(f, r->h.id, r->h.size != 0);
    }
}

/* ---- steps ---- */

static bool on_open(struct crash_disk *d, const struct trace_record *r)
{
    char name[NAME_LEN];
    full_name(d, r->h.of, r->payload, name);
    struct descriptor *fd = &d->fds[r->h.fd];
    *fd = (struct descriptor){.folder = (r->h.flags & TRACE_FOLDER) != 0};
    (void)snprintf(fd->name, NAME_LEN, "%s", name);
    if (fd->folder) {
        return false;
    }
    if ((r->h.flags & TRACE_CREATED) != 0) {
        struct file *f = xcalloc(1, sizeof(*f));
        f->durable = inode_new();
        f->next = d->files;
        d->files = f;
        change_name(d, NAME_LINK, name, "", f);
    }
    size_t i = find(&d->now, name);
    assert(i < d->now.count); /* it is in no trace how it came there */
    fd->file = d->now.at[i].file;
    if ((r->h.flags & TRACE_EMPTIED) != 0) {
        struct trace_record zero = {.h = {.size = 0}};
        change_file(d, fd->file, &zero, true);
    }
    return (r->h.flags & (TRACE_CREATED | TRACE_EMPTIED)) != 0;
}

static void on_rename(struct crash_disk *d, const struct trace_record *r)
{
    char from[NAME_LEN], to[NAME_LEN];
    const uint8_t *zero = memchr(r->payload.data, 0, r->payload.len);
    assert(zero != NULL);
    size_t len = (size_t)(zero - r->payload.data);
    full_name(d, r->h.of, slice_make(r->payload.data, len), from);
    full_name(d, r->h.of, slice_make(zero + 1, r->payload.len - len - 1), to);
    size_t i = find(&d->now, from);
    assert(i < d->now.count);
    change_name(d, NAME_RENAME, from, to, d->now.at[i].file);
}

static bool on_name(struct crash_disk *d, const struct trace_record *r)
{
    char name[NAME_LEN];
    if (r->h.kind == TRACE_RENAME) {
        on_rename(d, r);
        return true;
    }
    full_name(d, r->h.of, r->payload, name);
    change_name(d, r->h.kind == TRACE_MKDIR ? NAME_FOLDER : NAME_UNLINK, name,
                "", NULL);
    return true;
}

/* Another process: it has no descriptors, and its ids begin anew. What the
 * one before was not told the end of is done, for it ended outside of calls. */
static void on_start(struct crash_disk *d)
{
    memset(d->fds, 0, FDS * sizeof(*d->fds));
    for (struct naming *c = d->first; c != NULL; c = c->next) {
        c->sync = 0;
    }
    for (struct file *f = d->files; f != NULL; f = f->next) {
        for (struct change *c = f->first; c != NULL; c = c->next) {
            c->id = c->sync = 0;
            c->done = true;
        }
    }
}

bool crash_disk_step(struct crash_disk *d, const struct trace_record *r)
{
    switch ((enum trace_kind)r->h.kind) {
    case TRACE_START:
        on_start(d);
        return false;
    case TRACE_OPEN:
        return on_open(d, r);
    case TRACE_WRITE:
    case TRACE_RESIZE:
        change_file(d, d->fds[r->h.fd].file, r, r->h.kind == TRACE_RESIZE);
        return true;
    case TRACE_WRITTEN:
        on_written(d, r);
        return false;
    case TRACE_SYNC:
        cover(d, r);
        return false;
    case TRACE_SYNCED:
        on_synced(d, r);
        return true;
    case TRACE_RENAME:
    case TRACE_UNLINK:
    case TRACE_MKDIR:
        return on_name(d, r);
    case TRACE_IDENTITY:
    case TRACE_APPEND:
    case TRACE_STATE:
    case TRACE_PROMISE:
    case TRACE_VALUE:
    case TRACE_TOLD:
        return false;
    }
    assert(false);
    return false;
}

struct crash_disk *crash_disk_new(void)
{
    struct crash_disk *d = xcalloc(1, sizeof(*d));
    d->fds = xcalloc(FDS, sizeof(*d->fds));
    return d;
}

void crash_disk_free(struct crash_disk *d)
{
    while (d->first != NULL) {
        struct naming *next = d->first->next;
        free(d->first);
        d->first = next;
    }
    while (d->files != NULL) {
        struct file *f = d->files;
        d->files = f->next;
        while (f->first != NULL) {
            struct change *next = f->first->next;
            free(f->first);
            f->first = next;
        }
        inode_unref(f->durable);
        free(f);
    }
    free(d->now.at);
    free(d->durable.at);
    free(d->fds);
    free(d);
}

size_t crash_disk_pending(const struct crash_disk *d)
{
    size_t count = 0;
    for (const struct naming *c = d->first; c != NULL; c = c->next) {
        count++;
    }
    for (const struct file *f = d->files; f != NULL; f = f->next) {
        for (const struct change *c = f->first; c != NULL; c = c->next) {
            count++;
        }
    }
    return count;
}

/* ---- a crash ---- */

struct draw {
    struct sim_rng rng;
    enum choice_kind kind;
    uint64_t cut;  /* PREFIX: the order of what is torn */
    uint32_t ppm;  /* SECTORS, WRITES */
    bool in_order; /* names survive in order */
    bool names_end;
};

static void draw_init(struct draw *w, const struct crash_disk *d,
                      const struct choice *c)
{
    static const uint32_t chances[] = {100000, 500000, 900000};
    sim_rng_init(&w->rng, c->seed);
    w->kind = c->kind;
    w->ppm = chances[sim_rng_below(&w->rng, 3)];
    w->in_order = sim_rng_chance(&w->rng, 500000);
    w->names_end = false;
    /* One of the newest, most often: those before it are likely to be there. */
    uint64_t count = crash_disk_pending(d);
    uint64_t back = sim_rng_below(&w->rng, count + 1);
    if (sim_rng_chance(&w->rng, 500000) && back > 3) {
        back = sim_rng_below(&w->rng, 4);
    }
    w->cut = d->order - (back < d->order ? back : d->order);
}

/* Does a change of names, or of a size, survive? */
static bool survives(struct draw *w, uint64_t order, bool name)
{
    switch (w->kind) {
    case CHOICE_NONE:
        return false;
    case CHOICE_ALL:
        return true;
    case CHOICE_PREFIX:
        return order < w->cut;
    case CHOICE_SECTORS:
    case CHOICE_WRITES:
    case CHOICE_KINDS:
        break;
    }
    bool good = sim_rng_chance(&w->rng, w->ppm);
    if (name && w->in_order) {
        w->names_end = w->names_end || !good;
        return !w->names_end;
    }
    return good;
}

static void keep_sectors(struct draw *w, struct inode *i,
                         const struct change *c)
{
    if (c->bytes == NULL) { /* they show nothing but the file's size */
        apply_part(i, c, 0, sim_rng_below(&w->rng, c->len + 1));
        return;
    }
    for (uint64_t at = 0; at < c->len;) {
        uint64_t n = SIM_SECTOR - (c->offset + at) % SIM_SECTOR;
        n = n < c->len - at ? n : c->len - at;
        if (sim_rng_chance(&w->rng, w->ppm)) {
            apply_part(i, c, at, n);
        }
        at += n;
    }
}

/* Its first bytes: whole sectors, or not even that. */
static void tear(struct draw *w, struct inode *i, const struct change *c)
{
    uint64_t len = sim_rng_below(&w->rng, c->len + 1);
    if (len < c->len && sim_rng_chance(&w->rng, 600000)) {
        uint64_t in = (c->offset + len) % SIM_SECTOR;
        len -= in < len ? in : len;
    }
    if (len > 0) {
        apply_part(i, c, 0, len);
    }
}

static void show_change(struct draw *w, struct inode *i, const struct change *c)
{
    bool write = !c->size;
    if (write && w->kind == CHOICE_SECTORS) {
        keep_sectors(w, i, c);
    } else if (write && w->kind == CHOICE_PREFIX && c->order == w->cut) {
        tear(w, i, c);
    } else if (survives(w, c->order, false)) {
        apply(i, c);
    }
}

static struct inode *show_file(struct draw *w, const struct file *f)
{
    struct inode *i = inode_share(f->durable);
    for (const struct change *c = f->first; c != NULL; c = c->next) {
        show_change(w, i, c);
    }
    i->size = i->medium_size;
    return i;
}

static void show_names(const struct names *n, struct draw *w,
                       struct sim_host *h)
{
    for (size_t i = 0; i < n->count; i++) {
        const struct entry *e = &n->at[i];
        if (e->file == NULL) {
            assert(h->disk->folder_count < SIM_FOLDERS);
            h->disk->folders[h->disk->folder_count++] = xstrdup(e->name);
        }
    }
    for (size_t i = 0; i < n->count; i++) {
        const struct entry *e = &n->at[i];
        const char *slash = strchr(e->name, '/');
        bool there = slash == NULL;
        for (size_t k = 0; k < h->disk->folder_count; k++) {
            there = there || in_folder(e->name, h->disk->folders[k]);
        }
        /* Hidden files and the lock are not the engine's to see. */
        const char *leaf = slash == NULL ? e->name : slash + 1;
        if (e->file != NULL && there && leaf[0] != '.' &&
            strcmp(leaf, "lock") != 0) {
            disk_place_take(h->disk, e->name, show_file(w, e->file));
        }
    }
}

void crash_disk_show(const struct crash_disk *d, const struct choice *c,
                     struct sim_host *h)
{
    struct draw w;
    struct names n = {0};
    draw_init(&w, d, c);
    for (size_t i = 0; i < d->durable.count; i++) {
        names_put(&n, d->durable.at[i].name, d->durable.at[i].file);
    }
    for (const struct naming *x = d->first; x != NULL; x = x->next) {
        if (survives(&w, x->order, true)) {
            names_change(&n, x);
        }
    }
    show_names(&n, &w, h);
    free(n.at);
}

/* ---- the trace against the truth ---- */

static bool same_bytes(const struct file *f, int fd, const char *name)
{
    struct stat st;
    uint8_t ours[SIM_PAGE], theirs[SIM_PAGE];
    struct inode *i = inode_share(f->durable);
    for (const struct change *c = f->first; c != NULL; c = c->next) {
        apply(i, c);
    }
    i->size = i->medium_size;
    bool good = fstat(fd, &st) == 0 && (uint64_t)st.st_size == i->size;
    for (uint64_t at = 0; good && at < i->size; at += SIM_PAGE) {
        size_t n = inode_read(i, at, ours, SIM_PAGE, true);
        good = pread(fd, theirs, n, (off_t)at) == (ssize_t)n &&
               memcmp(ours, theirs, n) == 0;
        if (!good) {
            fprintf(stderr, "%s: differs near %llu\n", name,
                    (unsigned long long)at);
        }
    }
    if (!good) {
        fprintf(stderr, "%s: is not as traced\n", name);
    }
    inode_unref(i);
    return good;
}

bool crash_disk_equals(const struct crash_disk *d, const char *path)
{
    bool good = true;
    for (size_t i = 0; i < d->now.count; i++) {
        const struct entry *e = &d->now.at[i];
        char name[4096];
        (void)snprintf(name, sizeof(name), "%s/%s", path, e->name);
        int fd = open(name, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            fprintf(stderr, "%s: traced, and not there\n", name);
            good = false;
        } else if (e->file != NULL && strcmp(e->name, "lock") != 0) {
            good = same_bytes(e->file, fd, name) && good;
        }
        if (fd >= 0) {
            (void)close(fd);
        }
    }
    return good;
}
