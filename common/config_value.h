/*
 * The types of options: text to field, field to text, for config.c alone.
 */
#ifndef COMMON_CONFIG_VALUE_H
#define COMMON_CONFIG_VALUE_H

#include "common/config.h"

/* Parses TEXT into O's field of the struct at BASE (freeing what it held).
 * ST_CONFIG: *WHY says what is wrong with it; the field is as it was. */
enum status config_value_parse(const struct config_option *o, const char *text,
                               void *base, struct err *why) MUST_CHECK;
/* Appends the field's value as text that parses to the same. */
void config_value_print(const struct config_option *o, const void *base,
                        struct buf *out);
void config_value_free(const struct config_option *o, void *base);

const char *config_type_name(enum config_type type);
/* Appends "1..65535", "64M..1T", or "-" where there are no bounds. */
void config_range_print(const struct config_option *o, struct buf *out);

#endif
