/*
 * The options that all daemons share.
 */
#include <ctype.h>
#include <string.h>

#include "common/config.h"
#include "common/log.h"

#define FIELD(f) offsetof(struct config_cluster, f)

/* A domain as in mail addresses (RFC 5321 4.1.2): labels of letters, digits
 * and inner '-'. */
static const char *check_domain(const char *text)
{
    size_t len = strlen(text), label = 0;
    for (size_t i = 0; i < len; i++) {
        char c = text[i], next = text[i + 1];
        bool edge = label == 0 || next == '.' || next == '\0';
        if (c == '.' && label > 0) {
            label = 0;
        } else if (isalnum((unsigned char)c) || (c == '-' && !edge)) {
            label++;
        } else {
            return "is not a domain";
        }
        if (label > 63) {
            return "is not a domain";
        }
    }
    return len > 253 || label == 0 ? "is not a domain" : NULL;
}

static const char *check_log_level(const char *text)
{
    enum log_level level;
    if (log_level_parse(text, &level) && level >= LOG_LEVEL_ERROR) {
        return NULL;
    }
    return "is not error, warn, info or debug";
}

static const struct config_option options[] = {
    {"key_file", CONFIG_PATH, "/etc/penncloud/cluster.key", 0, 0,
     FIELD(key_file), NULL, "the cluster key, made by pennctl keygen"},
    {"coordinators", CONFIG_ADDRESSES, NULL, 1, 5, FIELD(coordinators), NULL,
     "where the coordinators listen"},
    {"domains", CONFIG_LIST, "", 0, 0, FIELD(domains), check_domain,
     "mail domains whose mail is delivered here"},
    {"replicas", CONFIG_INT, "3", 1, 5, FIELD(replicas), NULL,
     "copies of each tablet; fixed when the cluster is made"},
    {"tablets", CONFIG_INT, "64", 1, LIMIT_TABLETS, FIELD(tablets), NULL,
     "parts of the key space; fixed when the cluster is made"},
    {"user", CONFIG_STRING, "", 0, 32, FIELD(user), NULL,
     "user to become when started by root"},
    {"log_level", CONFIG_STRING, "info", 0, 0, FIELD(log_level),
     check_log_level, "error, warn, info or debug"},
};

const struct config_spec config_cluster_spec = {
    "cluster", options, sizeof(options) / sizeof(options[0]),
    sizeof(struct config_cluster), NULL};
