/*
 * Parses the configuration file; see config.h for its form.
 *
 * One pass over the lines. A section header decides which table its keys are
 * looked up in and what rank its values have: a default is beaten by a plain
 * section, that by the section named after this node. Sections of our kind
 * named after other nodes are checked as strictly and then forgotten; those
 * of other kinds are checked for form only, because their tables live in
 * other daemons. Whatever is wrong ends the pass with one line of text.
 */
#include "common/config.h"

#include <assert.h>
#include <ctype.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/config_value.h"

static const char *const kinds[] = {"cluster", "coordinator", "storage",
                                    "gateway", "balancer",    "admin"};

enum rank { RANK_NONE = 0, RANK_PLAIN = 1, RANK_NAMED = 2 };

/* What was seen of one option. */
struct seen {
    int line;        /* in the section being read; 0: not there */
    enum rank taken; /* where its value comes from */
};

/* A table and the struct it fills. */
struct target {
    const struct config_spec *spec;
    void *base, *scratch; /* scratch: for other nodes' values */
    struct seen seen[LIMIT_CONFIG_OPTIONS];
};

struct header {
    char *text; /* "storage storage-2" */
    int line;
};

struct parser {
    const struct config_source *source;
    struct err *err;
    int line;
    struct target cluster, own;
    struct target *current; /* NULL: a section of another kind */
    enum rank rank;         /* RANK_NONE: another node's */
    bool in_section, name_found;
    struct header *headers;
    size_t header_count;
};

__attribute__((format(printf, 2, 3))) static enum status
fail(struct parser *p, const char *format, ...)
{
    struct err what;
    va_list ap;
    va_start(ap, format);
    (void)vsnprintf(what.text, sizeof(what.text), format, ap);
    va_end(ap);
    return err_set(p->err, ST_CONFIG, "%s:%d: %.400s", p->source->path, p->line,
                   what.text);
}

bool config_name_valid(const char *name)
{
    size_t len = strlen(name);
    for (size_t i = 0; i < len; i++) {
        bool inner = i > 0 && i + 1 < len;
        if (!islower((unsigned char)name[i]) &&
            !isdigit((unsigned char)name[i]) && !(name[i] == '-' && inner)) {
            return false;
        }
    }
    return len > 0 && len <= LIMIT_NAME;
}

static bool known_kind(const char *kind)
{
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kinds[i], kind) == 0) {
            return true;
        }
    }
    return false;
}

/* Chooses table and rank for the section (KIND, NAME); NAME "" if plain. */
static void enter_section(struct parser *p, const char *kind, const char *name)
{
    const struct config_spec *own = p->own.spec;
    p->in_section = true;
    p->current = NULL;
    p->rank = RANK_NONE;
    if (strcmp(kind, "cluster") == 0) {
        p->current = &p->cluster;
        p->rank = RANK_PLAIN;
    } else if (own != NULL && strcmp(kind, own->kind) == 0) {
        const char *wanted = p->source->name;
        p->current = &p->own;
        if (name[0] == '\0') {
            p->rank = RANK_PLAIN;
        } else if (wanted != NULL && strcmp(name, wanted) == 0) {
            p->rank = RANK_NAMED;
            p->name_found = true;
        }
    }
    if (p->current != NULL) {
        for (size_t i = 0; i < p->current->spec->count; i++) {
            p->current->seen[i].line = 0;
        }
    }
}

static enum status note_header(struct parser *p, const char *text)
{
    for (size_t i = 0; i < p->header_count; i++) {
        if (strcmp(p->headers[i].text, text) == 0) {
            return fail(p, "[%s]: section given twice, first in line %d", text,
                        p->headers[i].line);
        }
    }
    p->headers =
        xrealloc(p->headers, (p->header_count + 1) * sizeof(p->headers[0]));
    p->headers[p->header_count++] = (struct header){xstrdup(text), p->line};
    return ST_OK;
}

/* LINE is "[kind]" or "[kind name]", trimmed and writable. */
static enum status parse_header(struct parser *p, char *line)
{
    size_t len = strlen(line);
    if (line[len - 1] != ']') {
        return fail(p, "section header without ]");
    }
    line[len - 1] = '\0';
    char *save = NULL;
    char *kind = strtok_r(line + 1, " \t", &save);
    char *name = strtok_r(NULL, " \t", &save);
    if (kind == NULL || strtok_r(NULL, " \t", &save) != NULL) {
        return fail(p, "section header is not [kind] or [kind name]");
    }
    if (!known_kind(kind)) {
        return fail(p, "[%s]: unknown section", kind);
    }
    if (name != NULL && strcmp(kind, "cluster") == 0) {
        return fail(p, "[cluster]: takes no name");
    }
    if (name != NULL && !config_name_valid(name)) {
        return fail(p, "[%s %s]: not a node's name", kind, name);
    }
    char text[2 * LIMIT_NAME];
    (void)snprintf(text, sizeof(text), "%s%s%s", kind, name != NULL ? " " : "",
                   name != NULL ? name : "");
    enum status s = note_header(p, text);
    if (s == ST_OK) {
        enter_section(p, kind, name != NULL ? name : "");
    }
    return s;
}

static bool key_valid(const char *key)
{
    size_t len = strspn(key, "abcdefghijklmnopqrstuvwxyz0123456789_");
    return len > 0 && key[len] == '\0';
}

/* Takes one value into table T. */
static enum status take_value(struct parser *p, struct target *t,
                              const char *key, const char *value)
{
    size_t i = 0;
    while (i < t->spec->count && strcmp(t->spec->options[i].name, key) != 0) {
        i++;
    }
    const char *kind = t->spec->kind;
    if (i == t->spec->count) {
        return fail(p, "%s.%s: unknown option", kind, key);
    }
    struct seen *seen = &t->seen[i];
    if (seen->line != 0) {
        return fail(p, "%s.%s: given twice, first in line %d", kind, key,
                    seen->line);
    }
    seen->line = p->line;
    bool take = p->rank != RANK_NONE && p->rank >= seen->taken;
    struct err why;
    enum status s = config_value_parse(&t->spec->options[i], value,
                                       take ? t->base : t->scratch, &why);
    if (s != ST_OK) {
        return fail(p, "%s.%s: %s", kind, key, why.text);
    }
    if (take) {
        seen->taken = p->rank;
    }
    return ST_OK;
}

static char *trim(char *text)
{
    text += strspn(text, " \t");
    size_t len = strlen(text);
    while (len > 0 && (text[len - 1] == ' ' || text[len - 1] == '\t')) {
        text[--len] = '\0';
    }
    return text;
}

/* Cuts a comment: '#' first or after a blank. */
static void cut_comment(char *line)
{
    for (size_t i = 0; line[i] != '\0'; i++) {
        if (line[i] == '#' &&
            (i == 0 || line[i - 1] == ' ' || line[i - 1] == '\t')) {
            line[i] = '\0';
            return;
        }
    }
}

static enum status parse_line(struct parser *p, char *line)
{
    cut_comment(line);
    line = trim(line);
    if (line[0] == '\0') {
        return ST_OK;
    }
    if (line[0] == '[') {
        return parse_header(p, line);
    }
    char *equals = strchr(line, '=');
    if (equals == NULL) {
        return fail(p, "not \"key = value\"");
    }
    *equals = '\0';
    char *key = trim(line), *value = trim(equals + 1);
    if (!key_valid(key)) {
        return fail(p, "not \"key = value\"");
    }
    if (value[0] == '#') { /* is it meant as a comment? */
        return fail(p, "%s: value begins with #", key);
    }
    if (!p->in_section) {
        return fail(p, "%s: stands before the first section", key);
    }
    return p->current != NULL ? take_value(p, p->current, key, value) : ST_OK;
}

/* Copies the line at the start of *REST into LINE and steps over it. */
static enum status next_line(struct parser *p, struct slice *rest, char *line)
{
    const uint8_t *end = memchr(rest->data, '\n', rest->len);
    size_t len = end != NULL ? (size_t)(end - rest->data) : rest->len;
    p->line++;
    if (len >= LIMIT_CONFIG_LINE) {
        return fail(p, "line is longer than %u bytes", LIMIT_CONFIG_LINE - 1);
    }
    memcpy(line, rest->data, len);
    size_t shown = len > 0 && line[len - 1] == '\r' ? len - 1 : len;
    line[shown] = '\0';
    for (size_t i = 0; i < shown; i++) {
        if (((uint8_t)line[i] < ' ' && line[i] != '\t') || line[i] == 0x7f) {
            return fail(p, "control character in column %zu", i + 1);
        }
    }
    size_t step = end != NULL ? len + 1 : len;
    *rest = slice_make(rest->data + step, rest->len - step);
    return ST_OK;
}

static enum status parse_lines(struct parser *p, struct slice text)
{
    char line[LIMIT_CONFIG_LINE];
    while (text.len > 0) {
        enum status s = next_line(p, &text, line);
        if (s == ST_OK) {
            s = parse_line(p, line);
        }
        if (s != ST_OK) {
            return s;
        }
    }
    return ST_OK;
}

/* Gives T's missing options their defaults. */
static enum status take_defaults(struct parser *p, struct target *t)
{
    for (size_t i = 0; i < t->spec->count; i++) {
        const struct config_option *o = &t->spec->options[i];
        if (t->seen[i].taken != RANK_NONE) {
            continue;
        }
        if (o->fallback == NULL) {
            bool named =
                t->spec == &config_cluster_spec || p->source->name != NULL;
            return err_set(p->err, ST_CONFIG, "%s: %s.%s: must be set%s",
                           p->source->path, t->spec->kind, o->name,
                           named ? "" : ", or a node named with -n");
        }
        struct err why;
        enum status s = config_value_parse(o, o->fallback, t->base, &why);
        assert(s == ST_OK);
    }
    return ST_OK;
}

static void target_init(struct target *t, const struct config_spec *spec,
                        void *base)
{
    *t = (struct target){.spec = spec, .base = base};
    if (spec != NULL) {
        assert(spec->count <= LIMIT_CONFIG_OPTIONS);
        t->scratch = xcalloc(1, spec->size);
    }
}

static void free_values(const struct config_spec *spec, void *base)
{
    for (size_t i = 0; spec != NULL && base != NULL && i < spec->count; i++) {
        config_value_free(&spec->options[i], base);
    }
}

static void parser_fini(struct parser *p)
{
    struct target *targets[] = {&p->cluster, &p->own};
    for (size_t i = 0; i < 2; i++) {
        free_values(targets[i]->spec, targets[i]->scratch);
        free(targets[i]->scratch);
    }
    for (size_t i = 0; i < p->header_count; i++) {
        free(p->headers[i].text);
    }
    free(p->headers);
}

/* The node's name: as asked for, or made of its kind and number. */
static void set_name(const struct config_source *source, struct config *c)
{
    long long number = 1;
    const struct config_spec *spec = source->spec;
    c->named = source->name != NULL;
    if (c->named) {
        (void)snprintf(c->name, sizeof(c->name), "%s", source->name);
        return;
    }
    for (size_t i = 0; spec != NULL && i < spec->count; i++) {
        const struct config_option *o = &spec->options[i];
        if (strcmp(o->name, "node") == 0 && o->type == CONFIG_INT) {
            int64_t node;
            memcpy(&node, (const char *)c->own + o->offset, sizeof(node));
            number = node;
        }
    }
    (void)snprintf(c->name, sizeof(c->name), "%s-%lld",
                   spec != NULL ? spec->kind : "client", number);
}

static enum status finish(struct parser *p, struct config *c)
{
    const struct config_source *source = p->source;
    if (source->name != NULL && !p->name_found) {
        return err_set(p->err, ST_CONFIG, "%s: there is no section [%s %s]",
                       source->path, source->spec->kind, source->name);
    }
    enum status s = take_defaults(p, &p->cluster);
    if (s == ST_OK && source->spec != NULL) {
        s = take_defaults(p, &p->own);
    }
    if (s != ST_OK) {
        return s;
    }
    set_name(source, c);
    struct err why;
    if (source->spec != NULL && source->spec->check != NULL &&
        source->spec->check(c, &why) != ST_OK) {
        return err_set(p->err, ST_CONFIG, "%s: %.400s", source->path, why.text);
    }
    return ST_OK;
}

enum status config_parse(const struct config_source *source, struct slice text,
                         struct config *out, struct err *err)
{
    struct config c = {.spec = source->spec};
    struct parser p = {.source = source, .err = err};
    if (text.len > LIMIT_CONFIG_FILE) {
        return err_set(err, ST_CONFIG, "%s: file is larger than %u bytes",
                       source->path, LIMIT_CONFIG_FILE);
    }
    c.path = xstrdup(source->path);
    c.own = source->spec != NULL ? xcalloc(1, source->spec->size) : NULL;
    target_init(&p.cluster, &config_cluster_spec, &c.cluster);
    target_init(&p.own, source->spec, c.own);
    enum status s = parse_lines(&p, text);
    if (s == ST_OK) {
        s = finish(&p, &c);
    }
    parser_fini(&p);
    if (s != ST_OK) {
        config_free(&c);
        return s;
    }
    *out = c;
    return ST_OK;
}

void config_free(struct config *c)
{
    free_values(&config_cluster_spec, &c->cluster);
    free_values(c->spec, c->own);
    free(c->own);
    free(c->path);
    *c = (struct config){0};
}

static void print_section(const struct config_spec *spec, const void *base,
                          struct buf *out)
{
    buf_printf(out, "[%s]\n", spec->kind);
    for (size_t i = 0; i < spec->count; i++) {
        buf_printf(out, "%s = ", spec->options[i].name);
        config_value_print(&spec->options[i], base, out);
        buf_put_text(out, "\n");
    }
}

void config_print(const struct config *c, struct buf *out)
{
    print_section(&config_cluster_spec, &c->cluster, out);
    if (c->spec != NULL) {
        print_section(c->spec, c->own, out);
    }
}

void config_describe(const struct config_spec *spec, struct buf *out)
{
    for (size_t i = 0; i < spec->count; i++) {
        const struct config_option *o = &spec->options[i];
        buf_printf(out, "%s.%s\t%s\t%s\t", spec->kind, o->name,
                   config_type_name(o->type),
                   o->fallback != NULL ? o->fallback : "(required)");
        config_range_print(o, out);
        buf_printf(out, "\t%s\n", o->help);
    }
}
