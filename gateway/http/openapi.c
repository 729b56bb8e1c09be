/*
 * The description of the API, openapi.json, built into the program.
 */
#include "gateway/http/app.h"

/* Defines text[]; made from openapi.json. */
#include "gateway/http/openapi_text.inc"

void http_api_openapi(struct http_call *c)
{
    c->res->fixed = slice_make(text, sizeof(text) - 1);
}
