/*
 * penn-storaged --inspect: reads a data directory and explains it, changing
 * nothing (readonly_env_io.h).
 */
#ifndef STORAGE_INSPECT_IO_H
#define STORAGE_INSPECT_IO_H

#include <stdio.h>

#include "common/buf.h"

/* True if ARGV asks for an inspection at all. */
bool inspect_asked(int argc, char **argv);
/* main() of it: 0 all whole; 64 usage; 65 something is damaged; 66, 77, 74
 * the directory cannot be read; 75 it looks damaged, but is in use. */
int inspect_main(int argc, char **argv);
/* The same for DIR, onto OUT, VERBOSE: with each record. */
int inspect_directory(const char *dir, bool verbose, FILE *out);

#endif
