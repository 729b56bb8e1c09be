/*
 * The one-machine cluster: `pennctl local up|down|status|start|stop|kill`.
 * Everything of it lives in one directory:
 *   penncloud.conf     written once, by the first `up`
 *   cluster.key        the cluster's key, 0600
 *   demo-password      of the accounts demo and alice, 0600, random
 *   tls/cert.pem       self-signed, for HTTPS on loopback
 *   tls/key.pem        its key, 0600
 *   data/<name>/       a daemon's data directory
 *   log/<name>.log     what it says
 *   run/<name>.pid     its process
 * A daemon is named kind-number: coordinator-1, storage-3, balancer-1.
 * A pid file counts only if the process it names was started for this
 * directory under that name.
 *
 *   local.c              the commands
 *   local_layout.c       names, ports, the configuration (pure)
 *   local_process_io.c   starting, finding and ending daemons
 *   local_ready_io.c     are ports free; waiting until all are ready
 *   local_accounts.c     the demo accounts
 *   local_tls_io.c       the certificate
 */
#ifndef ADMIN_LOCAL_H
#define ADMIN_LOCAL_H

#include "common/buf.h"
#include "common/status.h"

#define LOCAL_PATH_MAX 900
#define LOCAL_DAEMONS_MAX 40

/* Shape of the cluster; numbers stand in the configuration's first line, so
 * that later calls find them. */
struct local_shape {
    unsigned port_base;    /* 8000 */
    unsigned coordinators; /* 1 */
    unsigned nodes;        /* storage processes, 1..16 */
    unsigned gateways;     /* 1..9 */
};

struct local_daemon {
    char name[24];      /* "storage-2" */
    const char *kind;   /* "storage" */
    const char *binary; /* "penn-storaged" */
    unsigned status_port;
};

struct local {
    char dir[LOCAL_PATH_MAX];    /* absolute */
    char bindir[LOCAL_PATH_MAX]; /* where the daemons' programs are */
    char webdir[LOCAL_PATH_MAX]; /* the web interface's files */
    struct local_shape shape;
    struct local_daemon daemons[LOCAL_DAEMONS_MAX];
    unsigned count;
};

/* Runs "local ARGV..." on DIR; returns pennctl's exit status. */
int local_command(const char *dir, int argc, char **argv);

/* ---- local_layout.c ---- */

/* ST_CONFIG with text if a number is out of range. */
enum status local_check_shape(const struct local_shape *s,
                              struct err *err) MUST_CHECK;
/* Fills l->daemons from l->shape, in the order in which they are started. */
void local_list_daemons(struct local *l);
const struct local_daemon *local_find(const struct local *l, const char *name);
void local_write_config(const struct local *l, struct buf *out);
/* Reads the shape back from a configuration's first line. */
bool local_read_shape(struct slice text, struct local_shape *out);

/* ---- local_process_io.c ---- */

/* The running process of D, or 0. */
int local_pid(const struct local *l, const struct local_daemon *d);
/* Starts D; ST_OK once it was forked and its program found. */
enum status local_spawn(const struct local *l, const struct local_daemon *d,
                        struct err *err) MUST_CHECK;
/* Sends SIGNAL and waits until the process is gone; ST_TIMEOUT otherwise. */
enum status local_end(const struct local *l, const struct local_daemon *d,
                      int signal, int timeout_ms) MUST_CHECK;
/* Puts TEXT in place of PATH's contents, mode 0600, durably. */
enum status local_write_file(const char *path, struct slice text,
                             struct err *err) MUST_CHECK;
/* Last line of D's log, into OUT. */
void local_last_log(const struct local *l, const struct local_daemon *d,
                    char *out, size_t size);
/* Makes the directory and what belongs in it; holds its lock. */
enum status local_prepare(struct local *l, const struct local_shape *asked,
                          bool make, int *lock, struct err *err) MUST_CHECK;

/* ---- local_ready_io.c ---- */

/* ST_IN_USE if something listens at PORT on loopback. */
enum status local_check_port(unsigned port, struct err *err) MUST_CHECK;
/* The same for each loopback address that CONFIG names. */
enum status local_check_ports(const char *config, struct err *err) MUST_CHECK;
/* Waits until every daemon answers /readyz with 200; one that has ended is
 * named at once. */
enum status local_wait_ready(const struct local *l, int timeout_ms,
                             struct err *err) MUST_CHECK;
/* HTTP status of D's /readyz; 0 if it does not answer. */
int local_readiness(const struct local_daemon *d);

/* ---- local_tls_io.c ---- */

/* Makes key and certificate, unless both are there. */
enum status local_make_certificate(const struct local *l,
                                   struct err *err) MUST_CHECK;

/* ---- local_accounts.c ---- */

/* Makes demo and alice if they are not there. */
enum status local_make_accounts(const struct local *l,
                                struct err *err) MUST_CHECK;

#endif
