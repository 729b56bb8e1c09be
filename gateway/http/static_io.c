/*
 * A short list of names, types, bytes and hashes. The hash is the ETag: a
 * browser asks each time (no-cache) and gets a 304 while the file is the same,
 * so after an upgrade nobody runs old code against a new API.
 */
#include "gateway/http/static_io.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <xxhash.h>

struct file {
    char *path; /* "/app.js" */
    const char *type;
    char etag[36]; /* quoted */
    struct buf data;
};

struct http_static {
    struct file *files;
    size_t count;
};

static const struct {
    const char *suffix, *type;
} types[] = {
    {".html", "text/html; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".svg", "image/svg+xml"},
    {".png", "image/png"},
    {".ico", "image/x-icon"},
    {".txt", "text/plain; charset=utf-8"},
    {".woff2", "font/woff2"},
    {".webmanifest", "application/manifest+json"},
};

static const char *type_of(const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        size_t n = strlen(types[i].suffix);
        if (len > n && strcmp(name + len - n, types[i].suffix) == 0)
            return types[i].type;
    }
    return NULL;
}

static enum status read_all(int fd, struct buf *out)
{
    for (;;) {
        uint8_t *room = buf_reserve(out, KIB(16));
        if (room == NULL)
            return ST_TOO_LARGE;
        ssize_t n = read(fd, room, KIB(16));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return status_from_errno(errno);
        if (n == 0)
            return ST_OK;
        out->len += (size_t)n;
    }
}

static enum status read_file(int folder, const char *name, struct buf *out)
{
    int fd = openat(folder, name, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return status_from_errno(errno);
    out->max = LIMIT_HTTP_FILE;
    enum status s = read_all(fd, out);
    close(fd);
    return s;
}

static enum status add_file(struct http_static *s, int folder, const char *name,
                            const char *type)
{
    struct buf data = {0};
    enum status status = read_file(folder, name, &data);
    if (status != ST_OK) {
        buf_free(&data);
        return status;
    }
    s->files = xrealloc(s->files, (s->count + 1) * sizeof(*s->files));
    struct file *f = &s->files[s->count++];
    memset(f, 0, sizeof(*f));
    size_t size = strlen(name) + 2;
    f->path = xmalloc(size);
    snprintf(f->path, size, "/%s", name);
    f->type = type;
    f->data = data;
    XXH128_hash_t h = XXH3_128bits(data.data, data.len);
    snprintf(f->etag, sizeof(f->etag), "\"%016llx%016llx\"",
             (unsigned long long)h.high64, (unsigned long long)h.low64);
    return ST_OK;
}

static const struct file *find(const struct http_static *s, const char *path)
{
    if (strcmp(path, "/") == 0)
        path = "/index.html";
    for (size_t i = 0; i < s->count; i++) {
        if (strcmp(s->files[i].path, path) == 0)
            return &s->files[i];
    }
    return NULL;
}

static enum status load_all(struct http_static *s, DIR *dir, const char *folder,
                            struct err *err)
{
    // cppcheck-suppress readdirCalled
    for (struct dirent *d; (d = readdir(dir)) != NULL;) {
        const char *type = type_of(d->d_name);
        if (type == NULL || d->d_name[0] == '.')
            continue;
        enum status status = add_file(s, dirfd(dir), d->d_name, type);
        if (status != ST_OK)
            return err_set(err, status, "%s/%s: %s", folder, d->d_name,
                           status_text(status));
    }
    if (find(s, "/") == NULL)
        return err_set(err, ST_CONFIG, "%s: has no index.html", folder);
    return ST_OK;
}

enum status http_static_load(const char *folder, struct http_static **out,
                             struct err *err)
{
    DIR *dir = opendir(folder);
    if (dir == NULL)
        return err_set(err, status_from_errno(errno), "%s: %s", folder,
                       strerror(errno));
    struct http_static *s = xcalloc(1, sizeof(*s));
    enum status status = load_all(s, dir, folder, err);
    closedir(dir);
    if (status == ST_OK)
        *out = s;
    else
        http_static_free(s);
    return status;
}

void http_static_free(struct http_static *s)
{
    if (s == NULL)
        return;
    for (size_t i = 0; i < s->count; i++) {
        free(s->files[i].path);
        buf_free(&s->files[i].data);
    }
    free(s->files);
    free(s);
}

/* A person is to see a page, a program the code. */
static enum http_error show_missing(const struct http_static *s,
                                    const struct http_request *r,
                                    struct http_response *res)
{
    const struct file *f = find(s, "/missing.html");
    bool person = r->accept != NULL && strstr(r->accept, "text/html") != NULL;
    if (f == NULL || !person ||
        (r->method != HTTP_GET && r->method != HTTP_HEAD))
        return HTTP_ERROR_NOT_FOUND;
    http_response_header(res, "Cache-Control", "no-cache");
    res->status = 404;
    res->content_type = f->type;
    res->fixed = buf_slice(&f->data);
    return HTTP_ERROR_NONE;
}

enum http_error http_static_find(const struct http_static *s,
                                 struct http_request *r,
                                 struct http_response *res)
{
    char *path = http_decode(&r->arena, r->path, strlen(r->path), false);
    const struct file *f = path == NULL ? NULL : find(s, path);
    if (f == NULL)
        return show_missing(s, r, res);
    if (r->method != HTTP_GET && r->method != HTTP_HEAD)
        return HTTP_ERROR_METHOD;
    http_response_header(res, "ETag", f->etag);
    http_response_header(res, "Cache-Control", "no-cache");
    if (r->none_match != NULL && strstr(r->none_match, f->etag) != NULL) {
        res->status = 304;
        return HTTP_ERROR_NONE;
    }
    res->status = 200;
    res->content_type = f->type;
    res->fixed = buf_slice(&f->data);
    return HTTP_ERROR_NONE;
}
