/*
 * fuzz_seeds DIR: writes a few messages of every type into DIR, as fuzz_wire
 * reads them.
 */
#include <stdio.h>
#include <stdlib.h>

#include "tests/unit/wire_gen.h"

static int write_seed(const char *dir, uint16_t type, uint64_t seed)
{
    struct wire_gen g = {.seed = seed};
    struct wire_msg m;
    struct buf b = {0};
    char path[4096];
    wire_gen_message(&g, type, &m);
    wire_gen_put(&b, &m);
    (void)snprintf(path, sizeof(path), "%s/%s-%llu", dir, wire_type_name(type),
                   (unsigned long long)seed);
    FILE *f = fopen(path, "wb");
    int bad = f == NULL || fputc(type & 255, f) == EOF ||
              fputc(type >> 8, f) == EOF ||
              fwrite(b.data + WIRE_HEADER, 1, b.len - WIRE_HEADER, f) !=
                  b.len - WIRE_HEADER;
    if (f != NULL && fclose(f) != 0) {
        bad = 1;
    }
    buf_free(&b);
    arena_free(&g.arena);
    return bad;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: fuzz_seeds DIR\n");
        return 2;
    }
    for (size_t i = 0; i < wire_gen_type_count; i++) {
        for (uint64_t seed = 0; seed < 3; seed++) {
            if (write_seed(argv[1], wire_gen_types[i], seed) != 0) {
                perror(argv[1]);
                return EXIT_FAILURE;
            }
        }
    }
    return EXIT_SUCCESS;
}
