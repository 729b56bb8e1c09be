/*
 * Reading passwords from the terminal or from standard input.
 */
#ifndef ADMIN_PASSWORD_IO_H
#define ADMIN_PASSWORD_IO_H

#include <stdbool.h>

#define PASSWORD_LINE 1100 /* more than any password may have */

/* Writes PROMPT to the terminal and reads a line without echo. False, after
 * a message: no terminal, the end of input, or too long. The caller wipes
 * OUT. */
bool password_prompt(const char *prompt, char out[PASSWORD_LINE]);
/* One line of standard input. */
bool password_read_line(char out[PASSWORD_LINE]);

#endif
