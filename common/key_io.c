/*
 * The cluster key's file: read whole through one descriptor, whose mode is
 * checked rather than the name's, so that nobody can swap it in between.
 */
#include "common/key.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static enum status failed(const char *what, const char *path, struct err *err)
{
    int e = errno;
    return err_set(err, status_from_errno(e), "%s cluster key %s: %s", what,
                   path, strerror(e));
}

/* Reads up to LEN bytes; -1 with errno on failure. */
static ssize_t read_all(int fd, char *to, size_t len)
{
    size_t got = 0;
    while (got < len) {
        ssize_t n = read(fd, to + got, len - got);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return -1;
        }
        if (n == 0) {
            break;
        }
        got += (size_t)n;
    }
    return (ssize_t)got;
}

static enum status check_mode(int fd, const char *path, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return failed("cannot look at", path, err);
    }
    if (!S_ISREG(st.st_mode)) {
        return err_set(err, ST_CONFIG, "cluster key %s is no regular file",
                       path);
    }
    if ((st.st_mode & 077) != 0) {
        return err_set(err, ST_DENIED,
                       "cluster key %s can be read by others (mode %04o): "
                       "chmod 600 it, or make a new one if it has leaked",
                       path, (unsigned)(st.st_mode & 07777));
    }
    return ST_OK;
}

enum status key_load(const char *path, struct cluster_key *out, struct err *err)
{
    char text[KEY_TEXT + 1]; /* one more than a key, to see what is longer */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return failed("cannot open", path, err);
    }
    enum status s = check_mode(fd, path, err);
    if (s == ST_OK) {
        ssize_t n = read_all(fd, text, sizeof(text));
        if (n < 0) {
            s = failed("cannot read", path, err);
        } else if (!key_parse(slice_make(text, (size_t)n), out)) {
            s = err_set(err, ST_CONFIG,
                        "cluster key %s is not 64 hex digits and a newline "
                        "(pennctl keygen makes one)",
                        path);
        }
    }
    sodium_memzero(text, sizeof(text));
    (void)close(fd);
    return s;
}

static enum status write_key(int fd, const char *path, struct err *err)
{
    struct cluster_key key;
    char text[KEY_TEXT + 1];
    randombytes_buf(key.b, sizeof(key.b));
    key_format(&key, text);
    key_wipe(&key);
    size_t done = 0;
    enum status s = ST_OK;
    while (done < KEY_TEXT && s == ST_OK) {
        ssize_t n = write(fd, text + done, KEY_TEXT - done);
        if (n >= 0) {
            done += (size_t)n;
        } else if (errno != EINTR) {
            s = failed("cannot write", path, err);
        }
    }
    sodium_memzero(text, sizeof(text));
    if (s == ST_OK && fsync(fd) != 0) {
        s = failed("cannot sync", path, err);
    }
    return s;
}

enum status key_create(const char *path, struct err *err)
{
    if (sodium_init() < 0) {
        return err_set(err, ST_UNSUPPORTED, "libsodium does not start");
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return failed("cannot make", path, err);
    }
    enum status s = write_key(fd, path, err);
    if (close(fd) != 0 && s == ST_OK) {
        s = failed("cannot close", path, err);
    }
    if (s != ST_OK) {
        (void)unlink(path);
    }
    return s;
}
