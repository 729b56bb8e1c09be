/*
 * Reads scenarios: a script's commands one after the other, each a word of
 * words_*.c and its arguments.
 */
#include "tests/sim/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool script_failed(struct script *s, const char *what)
{
    sim_cluster_fail(s->c, "scenario: %s %s", what,
                     s->count > 0 ? s->args[0] : "");
    return false;
}

struct member *script_who(struct script *s, int i)
{
    for (int n = 0; n < s->name_count && i < s->count; n++) {
        if (strcmp(s->names[n].name, s->args[i]) == 0) {
            return s->names[n].member;
        }
    }
    struct member *m = i < s->count ? sim_cluster_find(s->c, s->args[i]) : NULL;
    if (m == NULL) {
        sim_cluster_fail(s->c, "scenario: nobody is %s",
                         i < s->count ? s->args[i] : "(missing)");
    }
    return m;
}

int64_t script_number(const struct script *s, int i, int64_t otherwise)
{
    return i < s->count ? strtoll(s->args[i], NULL, 10) : otherwise;
}

struct member *script_stopped(struct script *s)
{
    struct member *m = script_who(s, 0);
    if (m != NULL && sim_host_running(m->host)) {
        (void)script_failed(s, "still running:");
        return NULL;
    }
    return m;
}

/* ---- running ---- */

static const struct word *find_word(const char *name)
{
    const struct word *const tables[] = {words_faults, words_rot, words_expect};
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        for (const struct word *w = tables[i]; w->name != NULL; w++) {
            if (strcmp(w->name, name) == 0) {
                return w;
            }
        }
    }
    return NULL;
}

static bool run_command(struct script *s, char *text)
{
    char *save = NULL;
    const char *name = strtok_r(text, " \n", &save);
    if (name == NULL) {
        return true;
    }
    s->count = 0;
    char *arg;
    while ((arg = strtok_r(NULL, " \n", &save)) != NULL &&
           s->count < ARGS_MAX) {
        s->args[s->count++] = arg;
    }
    world_trace(s->c->w, "scenario: %s %s %s", name,
                s->count > 0 ? s->args[0] : "", s->count > 1 ? s->args[1] : "");
    const struct word *w = find_word(name);
    if (w != NULL && s->count >= w->args_min) {
        return w->fn(s) && !sim_cluster_failed(s->c);
    }
    sim_cluster_fail(s->c, "scenario: what is \"%s\" with %d arguments?", name,
                     s->count);
    return false;
}

bool scenario_run(struct cluster *c, const char *script)
{
    struct script s = {.c = c};
    bool good = true;
    while (*script != '\0' && good) {
        char text[256];
        size_t n = strcspn(script, ";");
        (void)snprintf(text, sizeof(text), "%.*s", (int)n, script);
        good = run_command(&s, text);
        script += n + (script[n] == ';');
    }
    sim_disk_image_free(s.saved[0].image);
    sim_disk_image_free(s.saved[1].image);
    return good;
}

const struct scenario *scenario_find(const char *name)
{
    const struct scenario *s = scenarios;
    while (s->name != NULL && strcmp(s->name, name) != 0) {
        s++;
    }
    return s->name != NULL ? s : NULL;
}
