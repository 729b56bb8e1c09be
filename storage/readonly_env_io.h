/*
 * An env over a data directory that is only looked at (inspect.h): files are
 * opened for reading, whatever is asked for, and what is to be written is
 * taken and dropped, as if a disk had said yes. So recovery itself can be run
 * on a directory without a byte of it changing. There is no network, and no
 * time passes: timers never fire, operations beside the loop never end, but for
 * file_fetch(), which calls done() from within.
 */
#ifndef STORAGE_READONLY_ENV_IO_H
#define STORAGE_READONLY_ENV_IO_H

#include "common/env.h"

/* LOG is the caller's. ERR says what cannot be opened. */
enum status readonly_env_open(const char *dir, struct log *log,
                              struct env **out, struct err *err) MUST_CHECK;
/* True if a living process has the directory; *PID is 0 if it is not known.
 * The lock is tried for a moment, so a process that starts in that very
 * moment is refused; nothing else shows that we were here. */
bool readonly_env_in_use(struct env *e, long *pid);
/* Operations under way are given up: their users may be freed. */
void readonly_env_end(struct env *e);
void readonly_env_close(struct env *e); /* NULL is fine */

#endif
