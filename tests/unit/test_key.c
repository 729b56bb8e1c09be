/*
 * The cluster key's file: form, mode, making.
 */
#include "common/key.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64], path[80];

static void setup(void)
{
    snprintf(dir, sizeof(dir), "/tmp/unit_key.XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/key", dir);
}

static void teardown(void)
{
    unlink(path);
    rmdir(dir);
}

static void put(const char *text, mode_t mode)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    ck_assert_int_eq(fchmod(fd, mode), 0);
    close(fd);
}

#define DIGITS "00112233445566778899aabbccddeeff"

static const struct {
    const char *text;
    bool good;
} forms[] = {
    {DIGITS DIGITS "\n", true},
    {DIGITS DIGITS, true},
    {"00112233445566778899AABBCCDDEEFF" DIGITS "\n", true},
    {DIGITS DIGITS "\n\n", false},
    {DIGITS DIGITS " ", false},
    {DIGITS DIGITS "00", false},
    {DIGITS "\n", false},
    {"", false},
    {"\n", false},
    {DIGITS "00112233445566778899aabbccddeefg\n", false},
    {DIGITS "0011223344 566778899aabbccddeefg\n", false},
    {"0000000000000000000000000000000000000000000000000000000000000000\n",
     false},
};

START_TEST(form)
{
    struct cluster_key k;
    struct err err = {""};
    memset(k.b, 0x5a, sizeof(k.b));
    put(forms[_i].text, 0600);
    enum status s = key_load(path, &k, &err);
    if (forms[_i].good) {
        ck_assert_int_eq(s, ST_OK);
        ck_assert_uint_eq(k.b[1], 0x11);
        ck_assert_uint_eq(k.b[31], 0xff);
    } else {
        ck_assert_int_eq(s, ST_CONFIG);
        ck_assert_uint_eq(k.b[1], 0x5a); /* untouched */
        ck_assert_ptr_nonnull(strstr(err.text, path));
        ck_assert_ptr_null(strstr(err.text, "aabbcc")); /* no key bytes */
    }
}
END_TEST

static const struct {
    mode_t mode;
    bool good;
} modes[] = {{0600, true},  {0400, true},  {0700, true},  {0640, false},
             {0604, false}, {0620, false}, {0602, false}, {0644, false},
             {0610, false}, {0777, false}};

START_TEST(mode)
{
    struct cluster_key k;
    struct err err = {""};
    put(forms[0].text, modes[_i].mode);
    enum status s = key_load(path, &k, &err);
    ck_assert_int_eq(s, modes[_i].good ? ST_OK : ST_DENIED);
    if (s != ST_OK) {
        ck_assert_ptr_nonnull(strstr(err.text, "chmod 600"));
        ck_assert_ptr_null(strchr(err.text, '\n'));
    }
}
END_TEST

START_TEST(no_file)
{
    struct cluster_key k;
    struct err err = {""};
    ck_assert_int_eq(key_load(path, &k, &err), ST_NOT_FOUND);
    ck_assert_ptr_nonnull(strstr(err.text, path));
    ck_assert_int_eq(key_load(dir, &k, &err), ST_CONFIG);
    /* A pipe must not hang the start. */
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    ck_assert_int_eq(key_load(path, &k, &err), ST_CONFIG);
}
END_TEST

START_TEST(making)
{
    struct cluster_key a, b;
    struct err err = {""};
    struct stat st;
    char text[KEY_TEXT + 1];
    mode_t old = umask(0);
    ck_assert_int_eq(key_create(path, &err), ST_OK);
    umask(old);
    ck_assert_int_eq(stat(path, &st), 0);
    ck_assert_uint_eq(st.st_mode & 07777, 0600);
    ck_assert_int_eq(st.st_size, KEY_TEXT);
    ck_assert_int_eq(key_load(path, &a, &err), ST_OK);
    ck_assert_int_eq(key_create(path, &err), ST_EXISTS);
    ck_assert_int_eq(key_load(path, &b, &err), ST_OK);
    ck_assert_mem_eq(&a, &b, sizeof(a)); /* not overwritten */
    key_format(&a, text);
    ck_assert(key_parse(slice_of(text), &b));
    ck_assert_mem_eq(&a, &b, sizeof(a));
    unlink(path);
    ck_assert_int_eq(key_create(path, &err), ST_OK);
    ck_assert_int_eq(key_load(path, &b, &err), ST_OK);
    ck_assert_mem_ne(&a, &b, sizeof(a));
    key_wipe(&a);
    ck_assert_uint_eq(a.b[0] | a.b[15] | a.b[31], 0);
    ck_assert_int_eq(key_create("/no/such/folder/key", &err), ST_NOT_FOUND);
}
END_TEST

#define COUNT(a) ((int)(sizeof(a) / sizeof((a)[0])))

int main(void)
{
    Suite *s = suite_create("key");
    TCase *t = tcase_create("key");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, form, 0, COUNT(forms));
    tcase_add_loop_test(t, mode, 0, COUNT(modes));
    tcase_add_test(t, no_file);
    tcase_add_test(t, making);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
