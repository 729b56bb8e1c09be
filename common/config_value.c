/*
 * The types of options. One row a type: how its text becomes a field, how the
 * field becomes text, what it owns. Numbers are read strictly: digits and a
 * unit, no sign, no blanks, no overflow.
 */
#include "common/config_value.h"

#include <assert.h>
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "common/address.h"

struct unit {
    const char *name;
    int64_t scale;
};

static const struct unit no_units[] = {{"", 1}, {NULL, 0}};
static const struct unit size_units[] = {{"T", 1LL << 40}, {"G", 1LL << 30},
                                         {"M", 1LL << 20}, {"K", 1LL << 10},
                                         {"", 1},          {NULL, 0}};
static const struct unit time_units[] = {{"d", 86400000}, {"h", 3600000},
                                         {"m", 60000},    {"s", 1000},
                                         {"ms", 1},       {NULL, 0}};

static bool read_number(const char *text, const struct unit *units,
                        int64_t *out)
{
    int64_t v = 0;
    const char *at = text;
    for (; isdigit((unsigned char)*at); at++) {
        if (__builtin_mul_overflow(v, 10, &v) ||
            __builtin_add_overflow(v, *at - '0', &v)) {
            return false;
        }
    }
    if (at == text) {
        return false;
    }
    for (; units->name != NULL; units++) {
        if (strcmp(units->name, at) == 0) {
            return !__builtin_mul_overflow(v, units->scale, out);
        }
    }
    return false;
}

/* The largest unit that divides V. */
static void print_number(int64_t v, const struct unit *units, struct buf *out)
{
    while (units[1].name != NULL && (v == 0 || v % units->scale != 0)) {
        units++;
    }
    buf_printf(out, "%lld%s", (long long)(v / units->scale), units->name);
}

static const struct unit *units_of(enum config_type type)
{
    return type == CONFIG_SIZE       ? size_units
           : type == CONFIG_DURATION ? time_units
                                     : no_units;
}

static bool bounded(const struct config_option *o)
{
    return o->min != 0 || o->max != 0;
}

void config_range_print(const struct config_option *o, struct buf *out)
{
    if (!bounded(o)) {
        buf_put_text(out, "-");
        return;
    }
    print_number(o->min, units_of(o->type), out);
    buf_put_text(out, "..");
    print_number(o->max, units_of(o->type), out);
}

static enum status check_range(const struct config_option *o, int64_t v,
                               const char *what, struct err *why)
{
    if (!bounded(o) || (v >= o->min && v <= o->max)) {
        return ST_OK;
    }
    struct buf range = {0};
    config_range_print(o, &range);
    (void)err_set(why, ST_CONFIG, "%s outside %s", what, buf_cstr(&range));
    buf_free(&range);
    return ST_CONFIG;
}

static enum status parse_number(const struct config_option *o, const char *text,
                                void *field, struct err *why)
{
    int64_t v;
    if (!read_number(text, units_of(o->type), &v)) {
        const char *hint = o->type == CONFIG_SIZE
                               ? "a size (a number, or one with K, M, G, T)"
                           : o->type == CONFIG_DURATION
                               ? "a duration (a number with ms, s, m, h or d)"
                               : "a number";
        return err_set(why, ST_CONFIG, "\"%s\" is not %s", text, hint);
    }
    struct err what;
    (void)err_set(&what, ST_OK, "%s is", text);
    enum status s = check_range(o, v, what.text, why);
    if (s == ST_OK) {
        memcpy(field, &v, sizeof(v));
    }
    return s;
}

static enum status parse_bool(const struct config_option *o, const char *text,
                              void *field, struct err *why)
{
    bool yes = strcmp(text, "yes") == 0;
    if (!yes && strcmp(text, "no") != 0) {
        return err_set(why, ST_CONFIG, "\"%s\" is not yes or no", text);
    }
    *(bool *)field = yes;
    return ST_OK;
}

/* One string, or one item of a list. */
static enum status check_text(const struct config_option *o, const char *text,
                              struct err *why)
{
    struct address a;
    switch (o->type) {
    case CONFIG_ADDRESS:
    case CONFIG_ADDRESSES:
        if (address_parse(text, &a) != ST_OK || a.port == 0) {
            return err_set(why, ST_CONFIG, "\"%s\" is not host:port", text);
        }
        break;
    case CONFIG_PATH:
        if (text[0] != '/') {
            return err_set(why, ST_CONFIG, "\"%s\" is not an absolute path",
                           text);
        }
        break;
    case CONFIG_STRING:
    case CONFIG_LIST:
    case CONFIG_INT:
    case CONFIG_BOOL:
    case CONFIG_SIZE:
    case CONFIG_DURATION:
        break;
    }
    const char *wrong = o->check != NULL ? o->check(text) : NULL;
    if (wrong != NULL) {
        return err_set(why, ST_CONFIG, "\"%s\" %s", text, wrong);
    }
    return ST_OK;
}

static enum status parse_text(const struct config_option *o, const char *text,
                              void *field, struct err *why)
{
    char **to = field;
    if (text[0] == '\0' && o->fallback == NULL) {
        return err_set(why, ST_CONFIG, "may not be empty");
    }
    if (o->type == CONFIG_STRING) {
        enum status s =
            check_range(o, (int64_t)strlen(text), "its length is", why);
        if (s != ST_OK) {
            return s;
        }
    }
    if (text[0] != '\0') {
        enum status s = check_text(o, text, why);
        if (s != ST_OK) {
            return s;
        }
    }
    free(*to);
    *to = xstrdup(text);
    return ST_OK;
}

static void list_free(struct config_list *l)
{
    for (size_t i = 0; i < l->count; i++) {
        free(l->items[i]);
    }
    free(l->items);
    *l = (struct config_list){0};
}

static void list_add(struct config_list *l, const char *item, size_t len)
{
    char *copy = xmalloc(len + 1);
    memcpy(copy, item, len);
    copy[len] = '\0';
    l->items[l->count++] = copy;
}

/* Counts items up to one beyond what a list may hold. */
static void list_split(const char *text, struct config_list *out)
{
    out->items = xcalloc(LIMIT_CONFIG_LIST + 2, sizeof(*out->items));
    while (out->count <= LIMIT_CONFIG_LIST) {
        text += strspn(text, ", \t");
        size_t len = strcspn(text, ", \t");
        if (len == 0) {
            return;
        }
        list_add(out, text, len);
        text += len;
    }
}

static enum status check_list(const struct config_option *o,
                              const struct config_list *l, struct err *why)
{
    if (l->count > LIMIT_CONFIG_LIST) {
        return err_set(why, ST_CONFIG, "has more than %d items",
                       LIMIT_CONFIG_LIST);
    }
    enum status s =
        check_range(o, (int64_t)l->count, "its number of items is", why);
    for (size_t i = 0; s == ST_OK && i < l->count; i++) {
        s = l->items[i][0] == '#'
                ? err_set(why, ST_CONFIG, "\"%s\" begins with #", l->items[i])
                : check_text(o, l->items[i], why);
        for (size_t j = 0; s == ST_OK && j < i; j++) {
            if (strcmp(l->items[i], l->items[j]) == 0) {
                s = err_set(why, ST_CONFIG, "\"%s\" is listed twice",
                            l->items[i]);
            }
        }
    }
    return s;
}

static enum status parse_list(const struct config_option *o, const char *text,
                              void *field, struct err *why)
{
    struct config_list l = {0};
    list_split(text, &l);
    enum status s = check_list(o, &l, why);
    if (s != ST_OK) {
        list_free(&l);
        return s;
    }
    list_free(field);
    *(struct config_list *)field = l;
    return ST_OK;
}

static void print_value(const struct config_option *o, const void *field,
                        struct buf *out)
{
    int64_t v;
    memcpy(&v, field, sizeof(v));
    print_number(v, units_of(o->type), out);
}

static void print_bool(const struct config_option *o, const void *field,
                       struct buf *out)
{
    buf_put_text(out, *(const bool *)field ? "yes" : "no");
}

static void print_text(const struct config_option *o, const void *field,
                       struct buf *out)
{
    buf_put_text(out, *(char *const *)field);
}

static void print_list(const struct config_option *o, const void *field,
                       struct buf *out)
{
    const struct config_list *l = field;
    for (size_t i = 0; i < l->count; i++) {
        buf_printf(out, "%s%s", i == 0 ? "" : ", ", l->items[i]);
    }
}

static void free_text(void *field)
{
    char **p = field;
    free(*p);
    *p = NULL;
}

static void free_list(void *field)
{
    list_free(field);
}

static const struct type {
    const char *name;
    enum status (*parse)(const struct config_option *o, const char *text,
                         void *field, struct err *why);
    void (*print)(const struct config_option *o, const void *field,
                  struct buf *out);
    void (*free)(void *field);
} types[] = {
    [CONFIG_STRING] = {"string", parse_text, print_text, free_text},
    [CONFIG_INT] = {"int", parse_number, print_value, NULL},
    [CONFIG_BOOL] = {"bool", parse_bool, print_bool, NULL},
    [CONFIG_SIZE] = {"size", parse_number, print_value, NULL},
    [CONFIG_DURATION] = {"duration", parse_number, print_value, NULL},
    [CONFIG_ADDRESS] = {"address", parse_text, print_text, free_text},
    [CONFIG_LIST] = {"list", parse_list, print_list, free_list},
    [CONFIG_ADDRESSES] = {"addresses", parse_list, print_list, free_list},
    [CONFIG_PATH] = {"path", parse_text, print_text, free_text},
};

static const struct type *type_of(const struct config_option *o)
{
    assert((size_t)o->type < sizeof(types) / sizeof(types[0]));
    return &types[o->type];
}

enum status config_value_parse(const struct config_option *o, const char *text,
                               void *base, struct err *why)
{
    return type_of(o)->parse(o, text, (char *)base + o->offset, why);
}

void config_value_print(const struct config_option *o, const void *base,
                        struct buf *out)
{
    type_of(o)->print(o, (const char *)base + o->offset, out);
}

void config_value_free(const struct config_option *o, void *base)
{
    if (type_of(o)->free != NULL) {
        type_of(o)->free((char *)base + o->offset);
    }
}

const char *config_type_name(enum config_type type)
{
    return types[type].name;
}
