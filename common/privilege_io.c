/*
 * Giving up privileges. The order matters: groups before the user, because
 * only root may set groups; capabilities after it, because setuid clears the
 * effective ones; PR_SET_DUMPABLE last, because setuid resets it.
 *
 * Keys and passwords pass through memory, so there are no core dumps and no
 * debugger without root. Sanitizers' leak checks are debuggers of a kind;
 * their builds stay dumpable.
 */
#include <config.h> /* _GNU_SOURCE */

#include "common/privilege_io.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static enum status keep_low_ports(struct err *err)
{
    uint32_t bit = 1u << CAP_NET_BIND_SERVICE;
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct data[2] = {{bit, bit, 0}, {0, 0, 0}};
    if (syscall(SYS_capset, &head, data) != 0) {
        return err_set(err, ST_DENIED, "capset: %s", strerror(errno));
    }
    return ST_OK;
}

static enum status become(const struct privileges *p, struct err *err)
{
    char text[KIB(16)];
    struct passwd entry, *user = NULL;
    if (getpwnam_r(p->user, &entry, text, sizeof(text), &user) != 0 ||
        user == NULL) {
        return err_set(err, ST_CONFIG, "cluster.user: no user \"%s\"", p->user);
    }
    if (p->low_ports && prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) != 0) {
        return err_set(err, ST_DENIED, "PR_SET_KEEPCAPS: %s", strerror(errno));
    }
    if (initgroups(user->pw_name, user->pw_gid) != 0 ||
        setresgid(user->pw_gid, user->pw_gid, user->pw_gid) != 0 ||
        setresuid(user->pw_uid, user->pw_uid, user->pw_uid) != 0) {
        return err_set(err, ST_DENIED, "cannot become \"%s\": %s", p->user,
                       strerror(errno));
    }
    return p->low_ports && user->pw_uid != 0 ? keep_low_ports(err) : ST_OK;
}

static void forbid_cores(void)
{
    struct rlimit none = {0, 0};
    (void)setrlimit(RLIMIT_CORE, &none);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
#endif
}

static void raise_descriptors(const struct log *log)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return;
    }
    /* Root may also raise the hard limit; elsewhere that fails, and the
     * supervisor's limit stands. */
    struct rlimit more = {LIMIT_DESCRIPTORS, LIMIT_DESCRIPTORS};
    if (limit.rlim_max < LIMIT_DESCRIPTORS &&
        setrlimit(RLIMIT_NOFILE, &more) == 0) {
        return;
    }
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) {
        log_warn(log, "daemon", "descriptors-not-raised", "error=%s",
                 log_quote(slice_of(strerror(errno))));
    }
}

enum status privileges_drop(const struct privileges *p, const struct log *log,
                            struct err *err)
{
    (void)umask(077);
    raise_descriptors(log);
    if (geteuid() == 0 && p->user[0] != '\0') {
        enum status s = become(p, err);
        if (s != ST_OK) {
            return s;
        }
    } else if (geteuid() == 0) {
        log_warn(log, "daemon", "running-as-root", "hint=%s",
                 "\"set cluster.user\"");
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return err_set(err, ST_DENIED, "PR_SET_NO_NEW_PRIVS: %s",
                       strerror(errno));
    }
    forbid_cores();
    return ST_OK;
}
