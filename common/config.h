/*
 * One file, /etc/penncloud/penncloud.conf, for all daemons:
 *
 *   # what all share
 *   [cluster]
 *   key_file = /etc/penncloud/cluster.key
 *   coordinators = 10.0.0.1:7100, 10.0.0.2:7100
 *   [storage]             # all storage daemons that read this file
 *   memory_limit = 2G
 *   [storage storage-2]   # only the one started with -n storage-2
 *   node = 12
 *
 * Lines are "key = value"; '#' at the start of a line or after a blank opens
 * a comment; items of lists are divided by commas or blanks. A key stands at
 * most once in a section and a section at most once in the file; a named
 * section goes before the plain one, that before the default. Nothing is
 * guessed: an unknown section, an unknown key, a bad value or a missing
 * required option is an error with file and line. A daemon knows the keys of
 * [cluster] and of its own kind; sections of other kinds it checks for their
 * form only. Secrets are never values, only files' paths.
 *
 * How a daemon declares its options (storage/config.h, storage/config.c):
 *
 *   struct storage_config {
 *       int64_t node;          // INT
 *       char *listen;          // ADDRESS
 *       uint64_t memory_limit; // SIZE
 *   };
 *   extern const struct config_spec storage_config_spec;
 *
 *   #define FIELD(f) offsetof(struct storage_config, f)
 *   static const struct config_option options[] = {
 *       {"node", CONFIG_INT, NULL, 1, 65535, FIELD(node), NULL,
 *        "number of this process, unique in the cluster"},
 *       {"listen", CONFIG_ADDRESS, "*:7300", 0, 0, FIELD(listen), NULL,
 *        "where peers and clients connect"},
 *       {"memory_limit", CONFIG_SIZE, "1G", 1 << 26, 1LL << 40,
 *        FIELD(memory_limit), NULL, "memory for the trees"},
 *   };
 *   const struct config_spec storage_config_spec = {
 *       "storage", options, sizeof(options) / sizeof(options[0]),
 *       sizeof(struct storage_config), NULL};
 *
 * and reads them as `const struct storage_config *c = config->own`. Each
 * option also stands in man/penncloud.conf.5 (a test compares).
 */
#ifndef COMMON_CONFIG_H
#define COMMON_CONFIG_H

#include <stddef.h>

#include "common/buf.h"
#include "common/limits.h"
#include "common/status.h"

#define CONFIG_FILE_DEFAULT "/etc/penncloud/penncloud.conf"

/* Type of an option, and of the field that holds its value. */
enum config_type {
    CONFIG_STRING,    /* char *, never NULL; min..max: its length */
    CONFIG_INT,       /* int64_t, min..max */
    CONFIG_BOOL,      /* bool: yes or no */
    CONFIG_SIZE,      /* uint64_t, bytes: 512, 64K, 20M, 1G; min..max */
    CONFIG_DURATION,  /* int64_t, ms: 200ms, 5s, 10m, 1h, 7d; min..max in ms */
    CONFIG_ADDRESS,   /* char *, "host:port" (address.h); "" if unset */
    CONFIG_LIST,      /* struct config_list of words; min..max: their number */
    CONFIG_ADDRESSES, /* struct config_list of "host:port"; min..max: number */
    CONFIG_PATH,      /* char *, absolute; "" if unset */
};

struct config_list {
    char **items; /* ends with NULL; itself never NULL */
    size_t count;
};

struct config_option {
    const char *name;
    enum config_type type;
    const char *fallback; /* as in the file; "": unset; NULL: required */
    int64_t min, max;     /* both 0: no bounds (lists: LIMIT_CONFIG_LIST) */
    size_t offset;        /* of the field in the section's struct */
    /* Further check of a string, or of each item of a list; NULL, or what is
     * wrong, e.g. "is not a domain". May be NULL. */
    const char *(*check)(const char *value);
    const char *help; /* one line */
};

struct config;

struct config_spec {
    const char *kind; /* "storage": section, and first part of names */
    const struct config_option *options;
    size_t count;
    size_t size; /* of the struct */
    /* Relations between options; may be NULL. *ERR: "storage.x: ...". */
    enum status (*check)(const struct config *c, struct err *err);
};

/* [cluster] */
struct config_cluster {
    char *key_file;
    struct config_list coordinators;
    struct config_list domains;
    int64_t replicas;
    int64_t tablets;
    char *user;
    char *log_level;
};
extern const struct config_spec config_cluster_spec;

/* A configuration, owned; config_free() frees all in it. */
struct config {
    const struct config_spec *spec;
    char *path; /* of the file */
    /* "storage-2": as given, else kind-<its option "node", or 1>. */
    char name[LIMIT_NAME + 1];
    bool named; /* it was given, and its section is there */
    struct config_cluster cluster;
    void *own; /* spec->size bytes */
};

/* What to look for. PATH is for messages. NAME, if not NULL, is the node's:
 * its section must be there. */
struct config_source {
    const char *path, *name;
    const struct config_spec *spec; /* NULL: only [cluster] (pennctl) */
};

/* Parses TEXT. ST_CONFIG with "file:line: section.key: what" in *ERR. */
enum status config_parse(const struct config_source *source, struct slice text,
                         struct config *out, struct err *err) MUST_CHECK;
/* Reads and parses source->path. ST_CONFIG also where it cannot be read. */
enum status config_load(const struct config_source *source, struct config *out,
                        struct err *err) MUST_CHECK;
/* Zeroed or loaded. */
void config_free(struct config *c);

/* Appends the effective values of [cluster] and of its own section, as plain
 * sections of a file that config_parse() reads back to the same. */
void config_print(const struct config *c, struct buf *out);
/* Appends one line an option: "section.key<TAB>type<TAB>default or
 * (required)<TAB>range<TAB>help", for -h and the test of the man page. */
void config_describe(const struct config_spec *spec, struct buf *out);

/* "storage-2": lower-case letters, digits and inner '-', at most LIMIT_NAME. */
bool config_name_valid(const char *name);

#endif
