/*
 * cJSON helpers: see the header. cJSON keeps numbers as doubles; whole
 * numbers stay exact up to 2^53, which sizes and milliseconds are below.
 */
#include "cloud/json.h"

#include <stdlib.h>

#define EXACT_MAX 9007199254740992.0

cJSON *json_parse_object(struct slice s)
{
    if (s.len == 0)
        return NULL;
    cJSON *o = cJSON_ParseWithLength((const char *)s.data, s.len);
    if (o != NULL && !cJSON_IsObject(o)) {
        cJSON_Delete(o);
        return NULL;
    }
    return o;
}

const char *json_text(const cJSON *o, const char *name)
{
    return cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, name));
}

int64_t json_int(const cJSON *o, const char *name, int64_t fallback)
{
    const cJSON *v = cJSON_GetObjectItemCaseSensitive(o, name);
    if (!cJSON_IsNumber(v) || !(v->valuedouble >= -EXACT_MAX) ||
        !(v->valuedouble <= EXACT_MAX))
        return fallback;
    return (int64_t)v->valuedouble;
}

bool json_bool(const cJSON *o, const char *name)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, name));
}

void json_add_text(cJSON *o, const char *name, const char *text)
{
    if (cJSON_AddStringToObject(o, name, text) == NULL)
        abort();
}

void json_add_int(cJSON *o, const char *name, int64_t v)
{
    if (cJSON_AddNumberToObject(o, name, (double)v) == NULL)
        abort();
}

void json_write_take(cJSON *o, struct buf *out)
{
    char *text = cJSON_PrintUnformatted(o);
    if (text == NULL)
        abort();
    buf_put_text(out, text);
    cJSON_free(text);
    cJSON_Delete(o);
}
