/*
 * What html.c lets pass: elements, attributes, properties of style, functions
 * in their values. All in lower case.
 */
#ifndef GATEWAY_HTTP_HTML_TABLES_H
#define GATEWAY_HTTP_HTML_TABLES_H

#include "common/buf.h"

enum html_kind {
    HTML_DROP,    /* unknown: the tag goes, what is in it stays */
    HTML_KEEP,    /* has an end tag */
    HTML_VOID,    /* has none */
    HTML_SWALLOW, /* goes with all that is in it */
};
/* NAME in lower case. */
enum html_kind html_element_kind(struct slice name);

enum html_attribute {
    HTML_ATTRIBUTE_DROP,
    HTML_ATTRIBUTE_PLAIN, /* passes as text */
    HTML_ATTRIBUTE_STYLE,
    HTML_ATTRIBUTE_LINK,
    HTML_ATTRIBUTE_IMAGE,
    HTML_ATTRIBUTE_REMOTE, /* would fetch; goes, and is counted */
};
enum html_attribute html_attribute_kind(struct slice element,
                                        struct slice name);

/* True if declaration "NAME: VALUE" of a style may stay. */
bool html_style_allowed(struct slice name, struct slice value);

/* The character that entity NAME (without & and ;) stands for, 0 if it is not
 * one of the few that matter in links. */
uint32_t html_entity(struct slice name);

#endif
