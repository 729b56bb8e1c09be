#include "common/key.h"

#include <sodium.h>
#include <string.h>

void key_wipe(struct cluster_key *k)
{
    sodium_memzero(k, sizeof(*k));
}

void key_format(const struct cluster_key *k, char out[KEY_TEXT + 1])
{
    sodium_bin2hex(out, KEY_TEXT + 1, k->b, sizeof(k->b));
    out[KEY_TEXT - 1] = '\n';
    out[KEY_TEXT] = '\0';
}

bool key_parse(struct slice text, struct cluster_key *out)
{
    struct cluster_key k;
    size_t len = 0;
    if (text.len == KEY_TEXT && text.data[KEY_TEXT - 1] == '\n') {
        text.len--;
    }
    bool good = text.len == (size_t)KEY_TEXT - 1 &&
                sodium_hex2bin(k.b, sizeof(k.b), (const char *)text.data,
                               text.len, NULL, &len, NULL) == 0 &&
                len == sizeof(k.b) && !sodium_is_zero(k.b, sizeof(k.b));
    if (good) {
        *out = k;
    }
    key_wipe(&k);
    return good;
}
