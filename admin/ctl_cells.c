/*
 * pennctl kv: single cells and scans. Values are bytes: they are written as
 * they are to standard output, escaped in listings, and as text or base64 in
 * JSON. A write whose outcome is unknown is settled before anything is said.
 */
#include "admin/ctl.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* ---- get ---- */

int ctl_cmd_kv_get(struct ctl *c, int argc, char **argv)
{
    struct buf value = {0};
    if (!ctl_end_options(&argc, argv) || argc != 3) {
        return ctl_misuse("kv get");
    }
    struct kv_key key = kv_key_of(argv[0], argv[1], argv[2]);
    enum status s = kv_get(c->kv, key, c->timeout_ms, &value);
    if (s == ST_OK && c->json) {
        cJSON *root = cJSON_CreateObject();
        ctl_json_bytes(root, "value", buf_slice(&value));
        ctl_print_take(root);
    } else if (s == ST_OK) {
        (void)fwrite(value.data, 1, value.len, stdout);
    }
    buf_free(&value);
    return s == ST_OK ? CTL_DONE : ctl_fail(c, s, "kv get");
}

/* ---- writes ---- */

/* Runs B and settles it while its outcome is unknown. */
static enum status run_settled(struct ctl *c, const struct kv_batch *b)
{
    struct kv_result r;
    enum status s = kv_run(c->kv, b, c->timeout_ms, &r);
    if (s == ST_UNKNOWN_OUTCOME) {
        s = kv_settle(c->kv, &r, c->timeout_ms);
    }
    if (s == ST_UNKNOWN_OUTCOME) {
        kv_abandon(c->kv, &r);
    }
    return s == ST_UNKNOWN_CLIENT ? ST_UNKNOWN_OUTCOME : s;
}

static int finish(struct ctl *c, struct kv_batch *b, const char *what)
{
    enum status s = run_settled(c, b);
    kv_batch_free(b);
    if (s != ST_OK) {
        return ctl_fail(c, s, what);
    }
    if (c->json) {
        ctl_print_take(cJSON_CreateObject());
    }
    return CTL_DONE;
}

static bool read_stream(FILE *f, const char *name, struct buf *out)
{
    uint8_t block[65536];
    size_t n;
    buf_init(out, LIMIT_VALUE);
    while ((n = fread(block, 1, sizeof(block), f)) > 0) {
        buf_put(out, block, n);
    }
    if (ferror(f)) {
        (void)fprintf(stderr, "pennctl: %s: %s\n", name, strerror(errno));
        return false;
    }
    if (out->full) {
        (void)fprintf(stderr, "pennctl: %s: larger than %u bytes\n", name,
                      LIMIT_VALUE);
        return false;
    }
    return true;
}

static bool read_file(const char *name, struct buf *out)
{
    FILE *f = fopen(name, "rbe");
    if (f == NULL) {
        (void)fprintf(stderr, "pennctl: %s: %s\n", name, strerror(errno));
        return false;
    }
    bool good = read_stream(f, name, out);
    (void)fclose(f);
    return good;
}

/* VALUE: "-" is standard input. */
static bool read_value(const char *value, struct buf *out)
{
    if (strcmp(value, "-") == 0) {
        return read_stream(stdin, "standard input", out);
    }
    buf_put_text(out, value);
    return true;
}

int ctl_cmd_kv_put(struct ctl *c, int argc, char **argv)
{
    const char *file = NULL;
    struct buf value = {0};
    bool from_file = ctl_take_option(&argc, argv, "--file", &file);
    if (!ctl_end_options(&argc, argv) || argc != (from_file ? 3 : 4)) {
        return ctl_misuse("kv put");
    }
    bool good =
        from_file ? read_file(file, &value) : read_value(argv[3], &value);
    int code = CTL_NO;
    if (good) {
        struct kv_batch *b = kv_batch_new(slice_of(argv[0]));
        kv_batch_put(b, argv[1], argv[2], buf_slice(&value));
        code = finish(c, b, "kv put");
    }
    buf_free(&value);
    return code;
}

int ctl_cmd_kv_cput(struct ctl *c, int argc, char **argv)
{
    struct buf value = {0};
    bool absent = ctl_take_flag(&argc, argv, "--absent");
    if (!ctl_end_options(&argc, argv) || argc != (absent ? 4 : 5)) {
        return ctl_misuse("kv cput");
    }
    int code = CTL_NO;
    if (read_value(argv[absent ? 3 : 4], &value)) {
        struct kv_batch *b = kv_batch_new(slice_of(argv[0]));
        if (absent) {
            kv_batch_require_absent(b, argv[1], argv[2]);
        } else {
            kv_batch_require_equal(b, argv[1], argv[2], slice_of(argv[3]));
        }
        kv_batch_put(b, argv[1], argv[2], buf_slice(&value));
        code = finish(c, b, "kv cput");
    }
    buf_free(&value);
    return code;
}

int ctl_cmd_kv_delete(struct ctl *c, int argc, char **argv)
{
    if (!ctl_end_options(&argc, argv) || argc != 3) {
        return ctl_misuse("kv delete");
    }
    struct kv_batch *b = kv_batch_new(slice_of(argv[0]));
    kv_batch_delete(b, argv[1], argv[2]);
    return finish(c, b, "kv delete");
}

/* ---- scan ---- */

static void print_cell(const struct cell *cell)
{
    struct buf b = {0};
    (void)printf("%s\t", ctl_escape(cell->row, &b));
    (void)printf("%s\t", ctl_escape(cell->column, &b));
    (void)printf("%s\n", ctl_escape(cell->value, &b));
    buf_free(&b);
}

static void add_cell(cJSON *list, const struct cell *cell)
{
    cJSON *o = cJSON_CreateObject();
    ctl_json_bytes(o, "row", cell->row);
    ctl_json_bytes(o, "column", cell->column);
    ctl_json_bytes(o, "value", cell->value);
    cJSON_AddItemToArray(list, o);
}

/* Pages until the end or LIMIT cells; LIST NULL: prints them. */
static enum status scan_all(struct ctl *c, struct kv_scan *scan,
                            long long limit, cJSON *list)
{
    enum status s = ST_OK;
    bool more = true;
    struct arena page = {0}, last = {0}; /* the cursor lives in LAST */
    while (s == ST_OK && more && limit > 0) {
        struct cell *cells = NULL;
        size_t count = 0;
        scan->limit = limit < LIMIT_SCAN_CELLS ? (uint32_t)limit : 0;
        s = kv_scan_page(c->kv, scan, c->timeout_ms, &page, &cells, &count,
                         &more);
        for (size_t i = 0; s == ST_OK && i < count; i++) {
            if (list != NULL) {
                add_cell(list, &cells[i]);
            } else {
                print_cell(&cells[i]);
            }
            scan->has_after = true;
            scan->after_row = cells[i].row;
            scan->after_column = cells[i].column;
        }
        limit -= (long long)count;
        more = more && count > 0;
        arena_free(&last);
        last = page;
        page = (struct arena){0};
    }
    arena_free(&last);
    return s;
}

int ctl_cmd_kv_scan(struct ctl *c, int argc, char **argv)
{
    const char *text = NULL;
    long long limit = INT64_MAX;
    bool reverse = ctl_take_flag(&argc, argv, "--reverse");
    bool limited = ctl_take_option(&argc, argv, "--limit", &text);
    if (!ctl_end_options(&argc, argv) || argc < 1 || argc > 3 ||
        (limited && !ctl_parse_number(text, 1, INT64_MAX, &limit))) {
        return ctl_misuse("kv scan");
    }
    struct kv_scan scan = {
        .partition = slice_of(argv[0]),
        .row = slice_of(argc > 1 ? argv[1] : ""),
        .column_prefix = slice_of(argc > 2 ? argv[2] : ""),
        .reverse = reverse,
    };
    cJSON *root = c->json ? cJSON_CreateObject() : NULL;
    cJSON *list = c->json ? cJSON_AddArrayToObject(root, "cells") : NULL;
    enum status s = scan_all(c, &scan, limit, list);
    if (s != ST_OK) {
        cJSON_Delete(root);
        return ctl_fail(c, s, "kv scan");
    }
    if (c->json) {
        ctl_print_take(root);
    }
    return CTL_DONE;
}
