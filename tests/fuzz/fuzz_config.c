/*
 * Configuration files: anything is either refused with one line of text or
 * prints to a file that parses to the same.
 */
#include <stdlib.h>
#include <string.h>

#include "common/config.h"
#include "tests/fuzz/fuzz.h"

struct fuzzed {
    int64_t number, wait;
    uint64_t size;
    bool flag;
    char *text, *address, *path;
    struct config_list words, addresses;
};

#define FIELD(f) offsetof(struct fuzzed, f)

static const struct config_option options[] = {
    {"node", CONFIG_INT, "1", 1, 65535, FIELD(number), NULL, "n"},
    {"wait", CONFIG_DURATION, "1s", 0, 0, FIELD(wait), NULL, "w"},
    {"size", CONFIG_SIZE, "1K", 0, 0, FIELD(size), NULL, "s"},
    {"flag", CONFIG_BOOL, "no", 0, 0, FIELD(flag), NULL, "f"},
    {"text", CONFIG_STRING, "", 0, 0, FIELD(text), NULL, "t"},
    {"address", CONFIG_ADDRESS, "", 0, 0, FIELD(address), NULL, "a"},
    {"path", CONFIG_PATH, "", 0, 0, FIELD(path), NULL, "p"},
    {"words", CONFIG_LIST, "", 0, 0, FIELD(words), NULL, "w"},
    {"addresses", CONFIG_ADDRESSES, "", 0, 0, FIELD(addresses), NULL, "a"},
};

static const struct config_spec spec = {"storage", options,
                                        sizeof(options) / sizeof(options[0]),
                                        sizeof(struct fuzzed), NULL};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct config_source source = {"f", NULL, &spec};
    struct config c, again;
    struct err err = {""};
    struct buf one = {0}, two = {0};
    if (config_parse(&source, slice_make(data, size), &c, &err) != ST_OK) {
        if (err.text[0] == '\0' || strchr(err.text, '\n') != NULL) {
            abort();
        }
        return 0;
    }
    config_print(&c, &one);
    if (config_parse(&source, buf_slice(&one), &again, &err) != ST_OK) {
        abort();
    }
    config_print(&again, &two);
    if (!slice_equal(buf_slice(&one), buf_slice(&two))) {
        abort();
    }
    config_free(&c);
    config_free(&again);
    buf_free(&one);
    buf_free(&two);
    return 0;
}
