/*
 * The demo accounts of a one-machine cluster: a random password, kept in a
 * file, and the two accounts that have it.
 */
#include "admin/local.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <sodium.h>

#include "cloud/account.h"

#define PASSWORD_CHARS 16
#define WAIT_MS 30000

/* Reads the password, or draws one; *FRESH tells which. */
static enum status demo_password(const struct local *l, char *out, bool *fresh,
                                 struct err *err)
{
    static const char letters[] = "abcdefghijkmnpqrstuvwxyz23456789";
    char path[LOCAL_PATH_MAX + 32];
    (void)snprintf(path, sizeof(path), "%s/demo-password", l->dir);
    *fresh = false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        ssize_t n = read(fd, out, PASSWORD_CHARS);
        (void)close(fd);
        if (n == PASSWORD_CHARS) {
            out[n] = '\0';
            return ST_OK;
        }
    }
    for (int i = 0; i < PASSWORD_CHARS; i++) {
        out[i] = letters[randombytes_uniform(sizeof(letters) - 1)];
    }
    out[PASSWORD_CHARS] = '\n';
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ssize_t n = fd < 0 ? -1 : write(fd, out, PASSWORD_CHARS + 1);
    out[PASSWORD_CHARS] = '\0';
    if (n != PASSWORD_CHARS + 1 || fsync(fd) != 0) {
        err_set(err, ST_IO, "%s: %s", path, strerror(errno));
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    *fresh = true;
    return n == PASSWORD_CHARS + 1 ? ST_OK : ST_IO;
}

static enum status make_one(struct cloud *c, const char *name,
                            const char *display, const char *password,
                            bool fresh)
{
    struct cloud_op op = cloud_op_make(c, WAIT_MS);
    struct account have;
    enum status s = account_get(&op, name, &have);
    if (s == ST_OK && fresh) {
        return account_set_password(&op, name, slice_of(password));
    }
    if (s == ST_NOT_FOUND) {
        s = account_create(&op, name, slice_of(password), display);
    }
    return s == ST_EXISTS ? ST_OK : s;
}

static enum status make_both(const struct local *l, struct kv *kv,
                             struct log *log, struct err *err)
{
    static const char *const domains[] = {"penncloud.test", NULL};
    char password[PASSWORD_CHARS + 2];
    struct cloud_options o = {.kv = kv, .log = log, .domains = domains};
    struct cloud *c = NULL;
    bool fresh;
    enum status s = cloud_open(&o, &c, err);
    if (s != ST_OK) {
        return s;
    }
    s = demo_password(l, password, &fresh, err);
    if (s == ST_OK) {
        s = make_one(c, "demo", "Demo", password, fresh);
        if (s == ST_OK) {
            s = make_one(c, "alice", "Alice", password, fresh);
        }
        if (s != ST_OK) {
            err_set(err, s, "demo accounts: %s", status_text(s));
        }
    }
    sodium_memzero(password, sizeof(password));
    cloud_close(c);
    return s;
}

enum status local_make_accounts(const struct local *l, struct err *err)
{
    char key[LOCAL_PATH_MAX + 32], address[32];
    struct log log = {.daemon = "pennctl",
                      .node = "pennctl",
                      .level = LOG_LEVEL_ERROR,
                      .fd = 2};
    const char *coordinators[] = {address, NULL};
    (void)snprintf(key, sizeof(key), "%s/cluster.key", l->dir);
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u",
                   l->shape.port_base + 210);
    struct kv_options o = {.coordinators = coordinators,
                           .key_file = key,
                           .role = ROLE_CLIENT,
                           .name = "pennctl",
                           .log = &log};
    struct kv *kv = NULL;
    enum status s = kv_open(&o, &kv, err);
    if (s != ST_OK) {
        return s;
    }
    s = kv_wait_ready(kv, WAIT_MS);
    if (s != ST_OK) {
        err_set(err, s, "the store: %s", status_text(s));
    } else {
        s = make_both(l, kv, &log, err);
    }
    kv_close(kv);
    return s;
}
