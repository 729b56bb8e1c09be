/*
 * System calls that fail as a test asks for (record_io.h has the calls). The
 * file PENN_CRASH_FAULTS is read at the start, if it is there, and at each
 * SIGUSR2; its lines, of which the first that fits a call counts:
 *
 *   CALL PATH WHAT [SKIP [COUNT]]
 *
 * CALL is the call's name without "at"; it fits if PATH is a part of the
 * file's name as seen from the data directory ("." is the directory itself,
 * a folder has its own name). WHAT: EIO, ENOSPC, EMFILE, EINTR, EACCES; "half"
 * writes half and says so; "delay:MS" waits before the call; "kill" ends the
 * process there as by SIGKILL. The first SKIP calls pass, then COUNT fail (1;
 * 0: all).
 */
#ifndef TESTS_CRASH_FAULT_IO_H
#define TESTS_CRASH_FAULT_IO_H

#include <stdbool.h>
#include <stddef.h>

/* Any thread. */
void fault_read(void);
/* The file that FD is now ("": none of ours). */
void fault_name(int fd, const char *name);
/* Called to end the process; it does not return. */
void fault_on_kill(void (*die)(void));
/* True: the call must fail, errno says how. Waits for a delay. */
bool fault_fd(const char *call, int fd);
bool fault_path(const char *call, int dir, const char *path);
/* LEN, or the half of it if this write is to be short. */
size_t fault_half(int fd, size_t len);

#endif
