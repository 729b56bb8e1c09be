/*
 * See the header. Echo is off while a password is typed, and is put back also
 * where a signal ends the program: the signals that would are held back until
 * the line is read or given up.
 */
#include "admin/password_io.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

#include <sodium.h>

#define INTERRUPT 3 /* control-C, where the terminal makes no signal of it */

/* Reads one line from FD byte by byte: nothing of it stays in a buffer of
 * stdio. */
static bool read_line(int fd, char out[PASSWORD_LINE])
{
    size_t len = 0;
    char c = 0;
    ssize_t n;
    while ((n = read(fd, &c, 1)) == 1 && c != '\n') {
        if (c == INTERRUPT) {
            sodium_memzero(out, PASSWORD_LINE);
            return false;
        }
        if (len + 1 == PASSWORD_LINE) {
            (void)fprintf(stderr, "pennctl: the password is too long\n");
            sodium_memzero(out, PASSWORD_LINE);
            return false;
        }
        out[len++] = c;
    }
    if (len > 0 && out[len - 1] == '\r') {
        len--;
    }
    out[len] = '\0';
    if (n != 1 && len == 0) {
        (void)fprintf(stderr, "pennctl: no password was given\n");
        return false;
    }
    return true;
}

bool password_read_line(char out[PASSWORD_LINE])
{
    return read_line(STDIN_FILENO, out);
}

static bool prompt_on(int tty, const char *prompt, char out[PASSWORD_LINE])
{
    struct termios old, quiet;
    sigset_t held, before;
    if (tcgetattr(tty, &old) != 0) {
        return false;
    }
    sigemptyset(&held);
    sigaddset(&held, SIGINT);
    sigaddset(&held, SIGQUIT);
    sigaddset(&held, SIGTSTP);
    sigprocmask(SIG_BLOCK, &held, &before);
    quiet = old;
    quiet.c_lflag &= ~(tcflag_t)(ECHO | ISIG);
    bool good = tcsetattr(tty, TCSAFLUSH, &quiet) == 0;
    if (good) {
        (void)dprintf(tty, "%s", prompt);
        good = read_line(tty, out);
        (void)dprintf(tty, "\n");
        (void)tcsetattr(tty, TCSAFLUSH, &old);
    }
    sigprocmask(SIG_SETMASK, &before, NULL);
    return good;
}

bool password_prompt(const char *prompt, char out[PASSWORD_LINE])
{
    int tty = open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (tty < 0) {
        (void)fprintf(stderr, "pennctl: no terminal to ask for a password; "
                              "use --password-stdin\n");
        return false;
    }
    bool good = prompt_on(tty, prompt, out);
    (void)close(tty);
    return good;
}
