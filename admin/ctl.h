/*
 * pennctl: what its commands share. A command is a row of commands.def; main
 * (pennctl.c) parses what stands before it, opens what the row says it needs,
 * and calls its function with the rest of the arguments.
 *
 * Exit status: 0 done, 1 the cluster said no, 2 usage, 3 unreachable or
 * outcome unknown. People read text on standard output and errors on standard
 * error; with --json standard output is one JSON object.
 */
#ifndef ADMIN_CTL_H
#define ADMIN_CTL_H

#include <stdio.h>

#include <cjson/cJSON.h>

#include "cloud/cloud.h"
#include "common/config.h"
#include "kv/kv.h"

enum ctl_exit {
    CTL_DONE = 0,
    CTL_NO = 1,
    CTL_USAGE = 2,
    CTL_UNREACHABLE = 3,
};

/* What a command needs to be opened before it runs; each includes those
 * before it. */
enum ctl_needs { CTL_NOTHING, CTL_CONFIG, CTL_STORE, CTL_CLOUD };

struct ctl {
    const char *config_file; /* --config, or of --local, or the default */
    const char *local_dir;   /* --local, or NULL */
    int timeout_ms;          /* --timeout: of each request */
    bool json, watch;
    struct log log;
    struct config config;
    struct kv *kv;
    struct cloud *cloud;
};

struct ctl_command {
    const char *words; /* "node list" */
    enum ctl_needs needs;
    int (*run)(struct ctl *c, int argc, char **argv); /* after the words */
    const char *arguments, *help;
};
/* Ends with a row whose words are NULL. */
extern const struct ctl_command ctl_commands[];

/* The row that ARGV begins with, the one of most words; *USED words of it.
 * NULL: no such command. */
const struct ctl_command *ctl_find(int argc, char **argv, int *used);
/* Text for usage, all commands. */
void ctl_usage(FILE *to);
/* The first line of that, to standard error. */
void ctl_usage_short(void);
/* Says how COMMAND is used; CTL_USAGE. */
int ctl_misuse(const char *words);

/* Opens what NEEDS says; CTL_DONE, or an exit status after a message. */
int ctl_open(struct ctl *c, enum ctl_needs needs);
void ctl_close(struct ctl *c);

/* Exit status for S. */
int ctl_exit_of(enum status s);
/* Says that WHAT failed with S; its exit status. */
int ctl_fail(const struct ctl *c, enum status s, const char *what);
/* Prints ROOT and frees it. */
void ctl_print_take(cJSON *root);

/* Sends the encoded REQUEST to NODE (0: coordinator) and expects an answer of
 * TYPE. */
enum status ctl_ask(struct ctl *c, uint32_t node, struct buf *request_take,
                    enum msg_type type, struct arena *arena,
                    struct wire_msg *answer) MUST_CHECK;
/* Calls SHOW once, or every second until interrupted with --watch. */
int ctl_repeat(struct ctl *c, int (*show)(struct ctl *c));

/* S with control characters, backslashes and bad UTF-8 as \xNN, in SCRATCH. */
const char *ctl_escape(struct slice s, struct buf *scratch);
/* Adds S as text, or where it is not text as {"base64": "..."}. */
void ctl_json_bytes(cJSON *object, const char *name, struct slice s);

/* Options of a command: takes "--NAME VALUE" or "--NAME=VALUE" out of ARGV.
 * False: not there. */
bool ctl_take_option(int *argc, char **argv, const char *name,
                     const char **value);
bool ctl_take_flag(int *argc, char **argv, const char *name);
/* Ends the options: takes out the first "--". False: one before it is not
 * known. */
bool ctl_end_options(int *argc, char **argv);
/* A whole number within bounds; false: not one. */
bool ctl_parse_number(const char *text, long long low, long long high,
                      long long *out);

/* ---- the commands ---- */

#define COMMAND(words, needs, fn, arguments, help)                             \
    int fn(struct ctl *c, int argc, char **argv);
#include "admin/commands.def"
#undef COMMAND

#endif
