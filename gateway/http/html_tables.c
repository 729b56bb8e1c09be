/*
 * The lists, and the judgement of style declarations: a property must be
 * known, and its value must hold no escape, no comment and no function but
 * those that make colours and sums; so nothing in it can load anything.
 */
#include "gateway/http/html_tables.h"

#include <string.h>
#include <strings.h>

static const char *const kept[] = {
    "a",        "abbr",  "address",    "article", "aside",  "b",      "bdi",
    "bdo",      "big",   "blockquote", "caption", "center", "cite",   "code",
    "colgroup", "dd",    "del",        "details", "dfn",    "div",    "dl",
    "dt",       "em",    "figcaption", "figure",  "font",   "footer", "h1",
    "h2",       "h3",    "h4",         "h5",      "h6",     "header", "i",
    "ins",      "kbd",   "li",         "main",    "mark",   "ol",     "p",
    "pre",      "q",     "rp",         "rt",      "ruby",   "s",      "samp",
    "section",  "small", "span",       "strike",  "strong", "sub",    "summary",
    "sup",      "table", "tbody",      "td",      "tfoot",  "th",     "thead",
    "time",     "tr",    "tt",         "u",       "ul",     "var",    NULL,
};

static const char *const voids[] = {"br", "col", "hr", "img", "wbr", NULL};

static const char *const swallowed[] = {
    "applet", "audio",   "canvas",   "embed",    "frameset", "iframe",
    "math",   "noembed", "noframes", "noscript", "object",   "plaintext",
    "script", "select",  "style",    "svg",      "template", "textarea",
    "title",  "video",   "xmp",      NULL,
};

static const char *const plain[] = {
    "abbr",        "align",  "alt",     "bgcolor", "border", "cellpadding",
    "cellspacing", "color",  "colspan", "dir",     "face",   "height",
    "lang",        "nowrap", "rowspan", "size",    "span",   "start",
    "title",       "type",   "valign",  "value",   "width",  NULL,
};

static const char *const remote[] = {"background", "lowsrc", "poster", "srcset",
                                     NULL};

static const char *const properties[] = {
    "background",      "background-color",
    "border-collapse", "border-radius",
    "border-spacing",  "box-sizing",
    "clear",           "color",
    "direction",       "display",
    "float",           "font",
    "height",          "letter-spacing",
    "line-height",     "list-style",
    "list-style-type", "margin",
    "max-height",      "max-width",
    "min-height",      "min-width",
    "opacity",         "padding",
    "table-layout",    "text-align",
    "text-decoration", "text-indent",
    "text-transform",  "vertical-align",
    "white-space",     "width",
    "word-break",      "word-spacing",
    "word-wrap",       "overflow-wrap",
    "border",          NULL,
};
static const char *const property_families[] = {"border-", "font-", "margin-",
                                                "padding-", NULL};
static const char *const functions[] = {"calc", "hsl",  "hsla",
                                        "rgb",  "rgba", NULL};

static bool listed(const char *const *list, struct slice name)
{
    for (; *list != NULL; list++) {
        if (strlen(*list) == name.len &&
            strncasecmp(*list, (const char *)name.data, name.len) == 0)
            return true;
    }
    return false;
}

enum html_kind html_element_kind(struct slice name)
{
    if (listed(kept, name))
        return HTML_KEEP;
    if (listed(voids, name))
        return HTML_VOID;
    return listed(swallowed, name) ? HTML_SWALLOW : HTML_DROP;
}

enum html_attribute html_attribute_kind(struct slice element, struct slice name)
{
    if (slice_equal(name, slice_of("style")))
        return HTML_ATTRIBUTE_STYLE;
    if (slice_equal(name, slice_of("href")) &&
        slice_equal(element, slice_of("a")))
        return HTML_ATTRIBUTE_LINK;
    if (slice_equal(name, slice_of("src")) &&
        slice_equal(element, slice_of("img")))
        return HTML_ATTRIBUTE_IMAGE;
    if (listed(remote, name))
        return HTML_ATTRIBUTE_REMOTE;
    return listed(plain, name) ? HTML_ATTRIBUTE_PLAIN : HTML_ATTRIBUTE_DROP;
}

static bool in_family(struct slice name)
{
    for (const char *const *f = property_families; *f != NULL; f++) {
        size_t len = strlen(*f);
        if (name.len > len &&
            strncasecmp(*f, (const char *)name.data, len) == 0)
            return true;
    }
    return false;
}

static bool is_letter(uint8_t c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '_' || c >= 0x80;
}

bool html_style_allowed(struct slice name, struct slice value)
{
    if (!listed(properties, name) && !in_family(name))
        return false;
    size_t word = 0;
    for (size_t i = 0; i < value.len; i++) {
        uint8_t c = value.data[i];
        if (c == '\\' || c == '<' || c == '>' || c == '@' || c == '{' ||
            c == '}' || c < ' ')
            return false;
        if (c == '/' && i + 1 < value.len && value.data[i + 1] == '*')
            return false;
        if (c == '(' &&
            !listed(functions, slice_make(value.data + word, i - word)))
            return false;
        if (!is_letter(c))
            word = i + 1;
    }
    return true;
}

uint32_t html_entity(struct slice name)
{
    static const struct {
        const char *name;
        uint32_t c;
    } rows[] = {
        {"amp", '&'},      {"lt", '<'},     {"gt", '>'},     {"quot", '"'},
        {"apos", '\''},    {"colon", ':'},  {"sol", '/'},    {"Tab", '\t'},
        {"NewLine", '\n'}, {"lpar", '('},   {"rpar", ')'},   {"nbsp", 0xa0},
        {"period", '.'},   {"commat", '@'}, {"semi", ';'},   {"num", '#'},
        {"quest", '?'},    {"equals", '='}, {"percnt", '%'}, {"plus", '+'},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        if (slice_equal(name, slice_of(rows[i].name)))
            return rows[i].c;
    }
    return 0;
}
