/*
 * Reads the configuration file.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "common/config.h"

/* Appends up to LIMIT_CONFIG_FILE + 1 bytes; 0, or errno. */
static int read_all(const char *path, struct buf *out)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno;
    }
    ssize_t n = 1;
    while (n > 0 && out->len <= LIMIT_CONFIG_FILE) {
        uint8_t *to = buf_reserve(out, KIB(16));
        n = read(fd, to, KIB(16));
        if (n < 0 && errno == EINTR) {
            n = 1;
            continue;
        }
        out->len += n > 0 ? (size_t)n : 0;
    }
    int error = n < 0 ? errno : 0;
    (void)close(fd);
    return error;
}

enum status config_load(const struct config_source *source, struct config *out,
                        struct err *err)
{
    struct buf text = {0};
    enum status s;
    int error = read_all(source->path, &text);
    if (error != 0) {
        s = err_set(err, ST_CONFIG, "%s: %s", source->path, strerror(error));
    } else {
        s = config_parse(source, buf_slice(&text), out, err);
    }
    buf_free(&text);
    return s;
}
