/*
 * The simulated disk: names, contents, and what a crash leaves of both.
 *
 * A file's contents are what the medium has (4 KiB pages, absent ones are
 * zeros) and a list of writes since, in order, which only the page cache has.
 * Reading lays the writes over the medium. A sync moves them to the medium; a
 * sync that fails marks them lost: the cache still shows them, the medium will
 * never have them. When the power goes, each file draws how its writes
 * survive: all, none, a prefix with its last write torn, or any set of
 * sectors.
 *
 * Names are kept twice: as the running system sees them, and as the medium
 * has them. Changes wait in a list and reach the medium, in order, when their
 * directory is synced; a power loss keeps a prefix of them.
 */
#include "tests/sim/sim_files.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* ---- contents ---- */

struct inode *inode_new(void)
{
    struct inode *i = xcalloc(1, sizeof(*i));
    i->refs = 1;
    return i;
}

static void drop_writes(struct inode *i)
{
    while (i->writes != NULL) {
        struct dirty *d = i->writes;
        i->writes = d->next;
        free(d);
    }
    i->writes_tail = NULL;
}

static void page_unref(struct page *p)
{
    if (p != NULL && --p->refs == 0) {
        free(p);
    }
}

void inode_unref(struct inode *i)
{
    if (i == NULL || --i->refs > 0) {
        return;
    }
    drop_writes(i);
    for (size_t p = 0; p < i->page_count; p++) {
        page_unref(i->pages[p]);
    }
    free(i->pages);
    free(i);
}

struct inode *inode_share(const struct inode *from)
{
    struct inode *i = inode_new();
    i->size = i->medium_size = from->medium_size;
    i->page_count = from->page_count;
    i->pages = xcalloc(i->page_count + 1, sizeof(*i->pages));
    for (size_t p = 0; p < i->page_count; p++) {
        i->pages[p] = from->pages[p];
        if (i->pages[p] != NULL) {
            i->pages[p]->refs++;
        }
    }
    return i;
}

/* To be changed: nobody else's. */
static uint8_t *page_at(struct inode *i, size_t page)
{
    if (page >= i->page_count) {
        size_t count = page + 1 + page / 2;
        i->pages = xrealloc(i->pages, count * sizeof(*i->pages));
        memset(i->pages + i->page_count, 0,
               (count - i->page_count) * sizeof(*i->pages));
        i->page_count = count;
    }
    struct page *had = i->pages[page];
    if (had == NULL || had->refs > 1) {
        struct page *own = xcalloc(1, sizeof(*own));
        own->refs = 1;
        if (had != NULL) {
            memcpy(own->data, had->data, SIM_PAGE);
            page_unref(had);
        }
        i->pages[page] = own;
    }
    return i->pages[page]->data;
}

void inode_to_medium(struct inode *i, uint64_t offset, const uint8_t *data,
                     size_t len)
{
    if (offset + len > i->medium_size) {
        i->medium_size = offset + len;
    }
    while (len > 0) {
        size_t in = offset % SIM_PAGE;
        size_t n = SIM_PAGE - in < len ? SIM_PAGE - in : len;
        memcpy(page_at(i, offset / SIM_PAGE) + in, data, n);
        offset += n;
        data += n;
        len -= n;
    }
}

void inode_zero_medium(struct inode *i, uint64_t offset, uint64_t len)
{
    if (offset + len > i->medium_size) {
        i->medium_size = offset + len;
    }
    while (len > 0) {
        size_t in = offset % SIM_PAGE, page = (size_t)(offset / SIM_PAGE);
        size_t n = SIM_PAGE - in < len ? SIM_PAGE - in : (size_t)len;
        if (page < i->page_count && i->pages[page] != NULL) {
            memset(page_at(i, page) + in, 0, n);
        }
        offset += n;
        len -= n;
    }
}

void inode_resize_medium(struct inode *i, uint64_t size)
{
    uint64_t had = i->medium_size;
    if (size < had) {
        inode_zero_medium(i, size, had - size);
    }
    i->medium_size = size;
}

static void from_medium(const struct inode *i, uint64_t offset, uint8_t *out,
                        size_t len)
{
    while (len > 0) {
        size_t in = offset % SIM_PAGE;
        size_t n = SIM_PAGE - in < len ? SIM_PAGE - in : len;
        size_t page = offset / SIM_PAGE;
        if (page < i->page_count && i->pages[page] != NULL) {
            memcpy(out, i->pages[page]->data + in, n);
        } else {
            memset(out, 0, n);
        }
        offset += n;
        out += n;
        len -= n;
    }
}

size_t inode_read(const struct inode *i, uint64_t offset, uint8_t *out,
                  size_t len, bool medium)
{
    if (offset >= i->size) {
        return 0;
    }
    if (len > i->size - offset) {
        len = (size_t)(i->size - offset);
    }
    from_medium(i, offset, out, len);
    for (const struct dirty *d = i->writes; d != NULL; d = d->next) {
        if ((medium && d->lost) || d->offset >= offset + len ||
            d->offset + d->len <= offset) {
            continue;
        }
        uint64_t first = d->offset > offset ? d->offset : offset;
        uint64_t end = d->offset + d->len < offset + len ? d->offset + d->len
                                                         : offset + len;
        memcpy(out + (first - offset), d->data + (first - d->offset),
               (size_t)(end - first));
    }
    return len;
}

void inode_write(struct inode *i, uint64_t offset, const uint8_t *data,
                 size_t len)
{
    if (len == 0) {
        return;
    }
    struct dirty *d = xmalloc(sizeof(*d) + len);
    d->next = NULL;
    d->offset = offset;
    d->len = len;
    d->lost = false;
    memcpy(d->data, data, len);
    if (i->writes_tail != NULL) {
        i->writes_tail->next = d;
    } else {
        i->writes = d;
    }
    i->writes_tail = d;
    if (offset + len > i->size) {
        i->size = offset + len;
    }
}

void inode_synced(struct inode *i)
{
    for (const struct dirty *d = i->writes; d != NULL; d = d->next) {
        if (!d->lost) {
            inode_to_medium(i, d->offset, d->data, d->len);
        }
    }
    i->medium_size = i->size;
    drop_writes(i);
}

void inode_sync_failed(struct inode *i)
{
    for (struct dirty *d = i->writes; d != NULL; d = d->next) {
        d->lost = true;
    }
}

/* Lays those sectors of D over the medium that CHANCE_PPM lets through. */
static void keep_sectors(struct inode *i, const struct dirty *d,
                         struct sim_rng *r, uint32_t chance_ppm)
{
    size_t at = 0;
    while (at < d->len) {
        size_t n = SIM_SECTOR - (size_t)((d->offset + at) % SIM_SECTOR);
        n = n < d->len - at ? n : d->len - at;
        if (sim_rng_chance(r, chance_ppm)) {
            inode_to_medium(i, d->offset + at, d->data + at, n);
        }
        at += n;
    }
}

static void keep_prefix(struct inode *i, struct sim_rng *r)
{
    size_t count = 0;
    for (const struct dirty *d = i->writes; d != NULL; d = d->next) {
        count++;
    }
    size_t whole = sim_rng_below(r, count);
    for (struct dirty *d = i->writes; d != NULL; d = d->next) {
        if (whole-- > 0) {
            keep_sectors(i, d, r, 1000000);
            continue;
        }
        /* The torn one: its first sectors. */
        size_t keep = sim_rng_below(r, d->len + 1);
        uint64_t end = d->offset + keep;
        end -= keep == d->len ? 0 : end % SIM_SECTOR;
        if (end > d->offset) {
            inode_to_medium(i, d->offset, d->data, (size_t)(end - d->offset));
        }
        return;
    }
}

void inode_power_lost(struct inode *i, struct sim_rng *r)
{
    if (i->writes != NULL) {
        switch (sim_rng_below(r, 4)) {
        case 0:
            break;
        case 1:
            for (const struct dirty *d = i->writes; d != NULL; d = d->next) {
                if (!d->lost) {
                    keep_sectors(i, d, r, 1000000);
                }
            }
            break;
        case 2:
            for (const struct dirty *d = i->writes; d != NULL; d = d->next) {
                if (!d->lost) {
                    keep_sectors(i, d, r, 500000);
                }
            }
            break;
        default:
            if (!i->writes->lost) {
                keep_prefix(i, r);
            }
            break;
        }
        drop_writes(i);
    }
    i->size = i->medium_size;
}

/* The cache forgets, some day, what the medium never got. */
void inode_cache_dropped(struct inode *i)
{
    struct dirty **at = &i->writes;
    i->writes_tail = NULL;
    while (*at != NULL) {
        struct dirty *d = *at;
        if (d->lost) {
            *at = d->next;
            free(d);
        } else {
            i->writes_tail = d;
            at = &d->next;
        }
    }
}

/* ---- names ---- */

struct dent *dents_find(struct dents *d, const char *name)
{
    for (size_t i = 0; i < d->count; i++) {
        if (strcmp(d->at[i].name, name) == 0) {
            return &d->at[i];
        }
    }
    return NULL;
}

static void dents_put(struct dents *d, const char *name, struct inode *ino)
{
    struct dent *e = dents_find(d, name);
    ino->refs++;
    if (e != NULL) {
        inode_unref(e->ino);
        e->ino = ino;
        return;
    }
    if (d->count == d->cap) {
        d->cap = d->cap == 0 ? 16 : 2 * d->cap;
        d->at = xrealloc(d->at, d->cap * sizeof(*d->at));
    }
    d->at[d->count].name = xstrdup(name);
    d->at[d->count++].ino = ino;
}

static void dents_remove(struct dents *d, const char *name)
{
    struct dent *e = dents_find(d, name);
    if (e != NULL) {
        free(e->name);
        inode_unref(e->ino);
        size_t i = (size_t)(e - d->at);
        memmove(e, e + 1, (d->count - i - 1) * sizeof(*e));
        d->count--;
    }
}

static void dents_clear(struct dents *d)
{
    for (size_t i = 0; i < d->count; i++) {
        free(d->at[i].name);
        inode_unref(d->at[i].ino);
    }
    free(d->at);
    *d = (struct dents){0};
}

/* Length of the folder's part of NAME. */
static size_t folder_len(const char *name)
{
    const char *slash = strchr(name, '/');
    return slash == NULL ? 0 : (size_t)(slash - name);
}

bool in_folder(const char *name, const char *folder)
{
    size_t n = folder_len(name);
    return n == strlen(folder) && strncmp(name, folder, n) == 0;
}

static void change_add(struct sim_disk *d, const char *name, struct inode *ino,
                       const char *gone)
{
    struct name_change *c = xcalloc(1, sizeof(*c));
    c->name = xstrdup(name);
    c->gone = gone != NULL ? xstrdup(gone) : NULL;
    c->ino = ino;
    if (ino != NULL) {
        ino->refs++;
    }
    struct name_change **at = &d->changes;
    while (*at != NULL) {
        at = &(*at)->next;
    }
    *at = c;
}

static void change_take(struct sim_disk *d, struct name_change **at,
                        bool durable)
{
    struct name_change *c = *at;
    if (durable) {
        if (c->ino != NULL) {
            dents_put(&d->medium, c->name, c->ino);
        } else {
            dents_remove(&d->medium, c->name);
        }
        if (c->gone != NULL) {
            dents_remove(&d->medium, c->gone);
        }
    }
    *at = c->next;
    inode_unref(c->ino);
    free(c->name);
    free(c->gone);
    free(c);
}

struct inode *disk_create(struct sim_disk *d, const char *name)
{
    struct inode *ino = inode_new();
    dents_put(&d->names, name, ino);
    inode_unref(ino); /* the name holds it */
    change_add(d, name, ino, NULL);
    return ino;
}

void disk_place_take(struct sim_disk *d, const char *name, struct inode *ino)
{
    dents_put(&d->names, name, ino);
    dents_put(&d->medium, name, ino);
    inode_unref(ino); /* the names hold it */
}

void disk_rename(struct sim_disk *d, const char *from, const char *to)
{
    struct dent *e = dents_find(&d->names, from);
    assert(e != NULL);
    struct inode *ino = e->ino;
    dents_put(&d->names, to, ino);
    change_add(d, to, ino, from);
    dents_remove(&d->names, from);
}

void disk_unlink(struct sim_disk *d, const char *name)
{
    dents_remove(&d->names, name);
    change_add(d, name, NULL, NULL);
}

void disk_sync_folder(struct sim_disk *d, const char *name)
{
    size_t n = folder_len(name);
    struct name_change **at = &d->changes;
    while (*at != NULL) {
        if (folder_len((*at)->name) == n &&
            strncmp((*at)->name, name, n) == 0) {
            change_take(d, at, true);
        } else {
            at = &(*at)->next;
        }
    }
}

/* ---- whole disks ---- */

void disk_new(struct sim_host *h)
{
    h->disk = xcalloc(1, sizeof(*h->disk));
}

static void forget_changes(struct sim_disk *d, size_t keep)
{
    while (d->changes != NULL) {
        change_take(d, &d->changes, keep > 0);
        keep -= keep > 0;
    }
}

void disk_free_all(struct sim_host *h)
{
    sim_disk_wipe(h);
    free(h->disk);
}

void disk_power_lost(struct sim_host *h)
{
    struct sim_disk *d = h->disk;
    size_t count = 0;
    for (struct name_change *c = d->changes; c != NULL; c = c->next) {
        count++;
    }
    forget_changes(d, sim_rng_below(&h->w->rng, count + 1));
    dents_clear(&d->names);
    for (size_t i = 0; i < d->medium.count; i++) {
        struct dent *e = &d->medium.at[i];
        inode_power_lost(e->ino, &h->w->rng);
        dents_put(&d->names, e->name, e->ino);
    }
}

void sim_disk_wipe(struct sim_host *h)
{
    assert(h->process == NULL);
    struct sim_disk *d = h->disk;
    forget_changes(d, 0);
    dents_clear(&d->names);
    dents_clear(&d->medium);
    for (size_t i = 0; i < d->folder_count; i++) {
        free(d->folders[i]);
    }
    d->folder_count = 0;
}

void sim_disk_wipe_but(struct sim_host *h, const char *prefix)
{
    assert(h->process == NULL);
    struct sim_disk *d = h->disk;
    forget_changes(d, SIZE_MAX);
    for (size_t i = 0; i < d->names.count;) {
        char *name = xstrdup(d->names.at[i].name);
        if (strncmp(name, prefix, strlen(prefix)) == 0) {
            i++;
        } else {
            dents_remove(&d->medium, name);
            dents_remove(&d->names, name);
        }
        free(name);
    }
}

static struct inode *inode_copy(const struct inode *from)
{
    struct inode *i = inode_new();
    uint8_t page[SIM_PAGE];
    for (uint64_t at = 0; at < from->size; at += SIM_PAGE) {
        size_t n = inode_read(from, at, page, SIM_PAGE, true);
        inode_to_medium(i, at, page, n);
    }
    i->size = i->medium_size = from->size;
    return i;
}

struct sim_disk_image {
    struct dents names;
};

static void dents_copy(struct dents *to, const struct dents *from)
{
    for (size_t i = 0; i < from->count; i++) {
        struct inode *ino = inode_copy(from->at[i].ino);
        dents_put(to, from->at[i].name, ino);
        inode_unref(ino);
    }
}

struct sim_disk_image *sim_disk_save(const struct sim_host *h)
{
    struct sim_disk_image *image = xcalloc(1, sizeof(*image));
    dents_copy(&image->names, &h->disk->names);
    return image;
}

void sim_disk_restore(struct sim_host *h, const struct sim_disk_image *image)
{
    assert(h->process == NULL);
    struct sim_disk *d = h->disk;
    forget_changes(d, 0);
    dents_clear(&d->names);
    dents_clear(&d->medium);
    dents_copy(&d->names, &image->names);
    for (size_t i = 0; i < d->names.count; i++) {
        dents_put(&d->medium, d->names.at[i].name, d->names.at[i].ino);
    }
}

void sim_disk_image_free(struct sim_disk_image *image)
{
    if (image != NULL) {
        dents_clear(&image->names);
        free(image);
    }
}

/* ---- damage and inspection ---- */

bool sim_disk_overwrite(struct sim_host *h, const char *name, uint64_t offset,
                        struct slice bytes)
{
    struct dent *e = dents_find(&h->disk->names, name);
    if (e == NULL || offset + bytes.len > e->ino->medium_size) {
        return false;
    }
    inode_to_medium(e->ino, offset, bytes.data, bytes.len);
    h->disk->damaged = true;
    return true;
}

bool sim_disk_flip_bit(struct sim_host *h, const char *name, uint64_t offset,
                       unsigned bit)
{
    struct dent *e = dents_find(&h->disk->names, name);
    if (e == NULL || offset >= e->ino->medium_size) {
        return false;
    }
    uint8_t byte;
    from_medium(e->ino, offset, &byte, 1);
    byte = (uint8_t)(byte ^ (1u << (bit % 8)));
    inode_to_medium(e->ino, offset, &byte, 1);
    h->disk->damaged = true;
    return true;
}

bool sim_disk_truncate(struct sim_host *h, const char *name, uint64_t size)
{
    struct dent *e = dents_find(&h->disk->names, name);
    if (e == NULL || size > e->ino->size) {
        return false;
    }
    drop_writes(e->ino);
    e->ino->size = e->ino->medium_size = size;
    h->disk->damaged = true;
    return true;
}

bool sim_disk_remove(struct sim_host *h, const char *name)
{
    if (dents_find(&h->disk->names, name) == NULL) {
        return false;
    }
    disk_unlink(h->disk, name);
    h->disk->damaged = true;
    return true;
}

bool sim_disk_was_damaged(const struct sim_host *h)
{
    return h->disk->damaged;
}

void sim_disk_each(struct sim_host *h,
                   void (*fn)(void *ctx, const char *name, uint64_t size),
                   void *ctx)
{
    for (size_t i = 0; i < h->disk->names.count; i++) {
        const struct dent *e = &h->disk->names.at[i];
        fn(ctx, e->name, e->ino->size);
    }
}

bool sim_disk_read(struct sim_host *h, const char *name, struct buf *out)
{
    struct dent *e = dents_find(&h->disk->names, name);
    if (e == NULL) {
        return false;
    }
    size_t size = (size_t)e->ino->size;
    uint8_t *at = buf_reserve(out, size);
    if (at == NULL) {
        return false;
    }
    out->len += inode_read(e->ino, 0, at, size, true);
    return true;
}

void sim_disk_write(struct sim_host *h, const char *name, struct slice bytes)
{
    struct sim_disk *d = h->disk;
    struct inode *ino = disk_create(d, name);
    inode_write(ino, 0, bytes.data, bytes.len);
    inode_synced(ino);
    disk_sync_folder(d, name);
}

uint64_t sim_disk_used(const struct sim_host *h)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < h->disk->names.count; i++) {
        sum += h->disk->names.at[i].ino->size;
    }
    return sum;
}

/* ---- faults ---- */

void sim_disk_slow(struct sim_host *h, int64_t extra_us)
{
    h->disk->slow_us = extra_us;
}

void sim_disk_hang(struct sim_host *h, bool hung)
{
    h->disk->hung = hung;
    if (!hung) {
        disk_let_go(h);
    }
}

void sim_disk_fail_sync(struct sim_host *h, uint32_t n)
{
    h->disk->fail_sync_in = n;
}

void sim_disk_slow_fetch(struct sim_host *h, int64_t extra_us)
{
    h->disk->slow_fetch_us = extra_us;
}

void sim_disk_fail_fetch(struct sim_host *h, uint32_t n)
{
    h->disk->fail_fetch_in = n;
}

void sim_disk_fail_write(struct sim_host *h, uint32_t n)
{
    h->disk->fail_write_in = n;
}

void sim_disk_limit(struct sim_host *h, uint64_t bytes)
{
    h->disk->limit = bytes;
}
