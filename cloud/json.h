/*
 * Small helpers around cJSON for what we keep in cells. Getters take data
 * that may be damaged: a missing or wrong member gives the default.
 */
#ifndef CLOUD_JSON_H
#define CLOUD_JSON_H

#include <cjson/cJSON.h>

#include "common/buf.h"

/* Parses S, which needs no NUL; NULL if it is not a JSON object. */
cJSON *json_parse_object(struct slice s);
/* Member NAME's text, or NULL; lives as long as O. */
const char *json_text(const cJSON *o, const char *name);
/* Its whole number; FALLBACK if absent or beyond 2^53. */
int64_t json_int(const cJSON *o, const char *name, int64_t fallback);
bool json_bool(const cJSON *o, const char *name);
/* Adders abort when memory is out. */
void json_add_text(cJSON *o, const char *name, const char *text);
void json_add_int(cJSON *o, const char *name, int64_t v);
/* Appends O's text to OUT and frees O. */
void json_write_take(cJSON *o, struct buf *out);

#endif
