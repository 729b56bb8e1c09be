/*
 * AES-256-GCM (NIST SP 800-38D) with VAES and VPCLMULQDQ.
 *
 * Four vectors of four blocks are under way at once: so the rounds of one
 * vector hide the latency of the others', and the hash of sixteen blocks is
 * reduced once. No table is indexed and no branch taken by what is secret.
 *
 * GHASH: blocks are byte-swapped, which leaves their bits reflected. The
 * product of two such, multiplied without carries, lacks a factor x, so the
 * powers of the hash key hold one: power(i) = H^i x. A product of 256 bits is
 * reduced by folding its low quarter into the middle, and that into the high
 * half, with the polynomial's upper part, 0xc2 << 56, reflected like all else.
 *
 * What is there: 15 round keys; the powers 16 to 1 in this order, then zeros,
 * so that a vector of the powers n..1 begins 16 - n behind the first.
 */
#include "common/aes_gcm.h"

#include <assert.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)

#include <immintrin.h>

#define FAST                                                                   \
    __attribute__((target("sse4.1,aes,pclmul,avx512f,avx512bw,avx512vl,vaes,"  \
                          "vpclmulqdq")))
/* What must stay in registers. */
#define INLINE FAST __attribute__((always_inline)) static inline

#define ROUNDS 14
#define BLOCK 16u
#define VECTOR 64u
#define WIDE (4 * VECTOR)
#define POWERS 16
#define FOLD ((long long)0xc200000000000000u)

struct aes_gcm {
    __m128i keys[ROUNDS + 1];
    __m128i powers[POWERS + 4];
};

bool aes_gcm_available(void)
{
    return __builtin_cpu_supports("vaes") &&
           __builtin_cpu_supports("vpclmulqdq") &&
           __builtin_cpu_supports("avx512f") &&
           __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("aes") && __builtin_cpu_supports("pclmul");
}

/* ---- keys ---- */

INLINE __m128i swap(__m128i x)
{
    return _mm_shuffle_epi8(
        x, _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
}

INLINE __m128i encrypt_block(const struct aes_gcm *g, __m128i x)
{
    x = _mm_xor_si128(x, g->keys[0]);
    for (int i = 1; i < ROUNDS; i++) {
        x = _mm_aesenc_si128(x, g->keys[i]);
    }
    return _mm_aesenclast_si128(x, g->keys[ROUNDS]);
}

/* The next round key from the one before the last, and WORD, which is made of
 * the last one, in all its words. */
FAST static __m128i next_key(__m128i key, __m128i word)
{
    key = _mm_xor_si128(key, _mm_slli_si128(key, 4));
    key = _mm_xor_si128(key, _mm_slli_si128(key, 8));
    return _mm_xor_si128(key, word);
}

/* FIPS 197, 5.2: every second key takes a round constant. */
FAST static void expand(struct aes_gcm *g, const uint8_t key[AES_GCM_KEY])
{
    __m128i *k = g->keys;
    k[0] = _mm_loadu_si128((const __m128i *)key);
    k[1] = _mm_loadu_si128((const __m128i *)(key + BLOCK));
#define PAIR(i, constant)                                                      \
    k[i] = next_key(k[(i)-2],                                                  \
                    _mm_shuffle_epi32(                                         \
                        _mm_aeskeygenassist_si128(k[(i)-1], constant), 0xff)); \
    if ((i) < ROUNDS) {                                                        \
        k[(i) + (i < ROUNDS)] = next_key(                                      \
            k[(i)-1],                                                          \
            _mm_shuffle_epi32(_mm_aeskeygenassist_si128(k[i], 0), 0xaa));      \
    }
    PAIR(2, 0x01)
    PAIR(4, 0x02)
    PAIR(6, 0x04)
    PAIR(8, 0x08)
    PAIR(10, 0x10)
    PAIR(12, 0x20)
    PAIR(14, 0x40)
#undef PAIR
}

/* ---- the hash ---- */

/* A product of 256 bits, its middle part beside the halves that it overlaps,
 * in each of four lanes. */
struct product {
    __m512i low, middle, high;
};

INLINE void add_product(struct product *p, __m512i a, __m512i b)
{
    p->low = _mm512_xor_si512(p->low, _mm512_clmulepi64_epi128(a, b, 0x00));
    p->high = _mm512_xor_si512(p->high, _mm512_clmulepi64_epi128(a, b, 0x11));
    p->middle = _mm512_ternarylogic_epi64(
        p->middle, _mm512_clmulepi64_epi128(a, b, 0x01),
        _mm512_clmulepi64_epi128(a, b, 0x10), 0x96);
}

/* All lanes added, reduced. */
INLINE __m128i reduce(const struct product *p)
{
    const __m512i fold = _mm512_set1_epi64(FOLD);
    __m512i t = _mm512_clmulepi64_epi128(fold, p->low, 0x00);
    __m512i m = _mm512_ternarylogic_epi64(
        p->middle, _mm512_shuffle_epi32(p->low, 0x4e), t, 0x96);
    t = _mm512_clmulepi64_epi128(fold, m, 0x00);
    __m512i h = _mm512_ternarylogic_epi64(
        p->high, _mm512_shuffle_epi32(m, 0x4e), t, 0x96);
    __m256i half = _mm256_xor_si256(_mm512_castsi512_si256(h),
                                    _mm512_extracti64x4_epi64(h, 1));
    return _mm_xor_si128(_mm256_castsi256_si128(half),
                         _mm256_extracti128_si256(half, 1));
}

INLINE struct product no_product(void)
{
    return (struct product){_mm512_setzero_si512(), _mm512_setzero_si512(),
                            _mm512_setzero_si512()};
}

/* The powers N..1, then zeros, one in each lane. */
INLINE __m512i powers_from(const struct aes_gcm *g, unsigned n)
{
    return _mm512_loadu_si512(&g->powers[POWERS - n]);
}

INLINE __m128i times(__m128i a, __m128i power)
{
    struct product p = no_product();
    add_product(&p, _mm512_zextsi128_si512(a), _mm512_zextsi128_si512(power));
    return reduce(&p);
}

/* H x, from H as it comes: its bits shifted by one, and folded. */
FAST static __m128i first_power(__m128i h)
{
    uint64_t low = (uint64_t)_mm_extract_epi64(h, 0);
    uint64_t high = (uint64_t)_mm_extract_epi64(h, 1);
    uint64_t over = 0 - (high >> 63);
    high = (high << 1 | low >> 63) ^ (over & (uint64_t)FOLD);
    low = low << 1 ^ (over & 1);
    return _mm_set_epi64x((long long)high, (long long)low);
}

FAST static void start(struct aes_gcm *g, const uint8_t key[AES_GCM_KEY])
{
    expand(g, key);
    __m128i first = first_power(swap(encrypt_block(g, _mm_setzero_si128())));
    __m128i power = first;
    for (int i = POWERS - 1; i >= 0; i--) {
        g->powers[i] = power;
        power = times(power, first);
    }
}

struct aes_gcm *aes_gcm_new(const uint8_t key[AES_GCM_KEY])
{
    size_t size = (sizeof(struct aes_gcm) + VECTOR - 1) / VECTOR * VECTOR;
    struct aes_gcm *g = aligned_alloc(VECTOR, size);
    assert(g != NULL);
    memset(g, 0, sizeof(*g));
    start(g, key);
    return g;
}

void aes_gcm_free(struct aes_gcm *g)
{
    if (g != NULL) {
        sodium_memzero(g, sizeof(*g));
        free(g);
    }
}

/* ---- messages ---- */

INLINE __m512i swap4(__m512i x)
{
    return _mm512_shuffle_epi8(
        x, _mm512_broadcast_i32x4(_mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10,
                                               11, 12, 13, 14, 15)));
}

INLINE __m512i round_key(const struct aes_gcm *g, int i)
{
    return _mm512_broadcast_i32x4(g->keys[i]);
}

/* What a message has come to: the next four counters, byte-swapped, and the
 * hash. */
struct course {
    const struct aes_gcm *g;
    bool opens; /* what comes in is hashed; otherwise what goes out */
    __m512i counters;
    __m128i hash;
};

/* Sixteen blocks from IN to OUT. */
INLINE void take_wide(struct course *c, const uint8_t *in, uint8_t *out)
{
    const __m512i four = _mm512_broadcast_i32x4(_mm_set_epi64x(0, 4));
    __m512i x[4], data[4];
    struct product p = no_product();
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        x[i] = _mm512_xor_si512(swap4(c->counters), round_key(c->g, 0));
        c->counters = _mm512_add_epi32(c->counters, four);
    }
#pragma GCC unroll 16
    for (int r = 1; r < ROUNDS; r++) {
        const __m512i key = round_key(c->g, r);
#pragma GCC unroll 4
        for (int i = 0; i < 4; i++) {
            x[i] = _mm512_aesenc_epi128(x[i], key);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        data[i] = _mm512_loadu_si512(in + (unsigned)i * VECTOR);
        x[i] = _mm512_aesenclast_epi128(x[i], round_key(c->g, ROUNDS));
        x[i] = _mm512_xor_si512(x[i], data[i]);
        _mm512_storeu_si512(out + (unsigned)i * VECTOR, x[i]);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
        __m512i hashed = swap4(c->opens ? data[i] : x[i]);
        if (i == 0) {
            hashed = _mm512_xor_si512(hashed, _mm512_zextsi128_si512(c->hash));
        }
        add_product(&p, hashed, powers_from(c->g, POWERS - 4 * (unsigned)i));
    }
    c->hash = reduce(&p);
}

/* LEN bytes, at most a vector, of which only the last may be no whole one. */
INLINE void take_vector(struct course *c, const uint8_t *in, size_t len,
                        uint8_t *out)
{
    const __m512i four = _mm512_broadcast_i32x4(_mm_set_epi64x(0, 4));
    const __mmask64 mask = (__mmask64)(UINT64_MAX >> (VECTOR - len));
    __m512i x = _mm512_xor_si512(swap4(c->counters), round_key(c->g, 0));
    c->counters = _mm512_add_epi32(c->counters, four);
#pragma GCC unroll 16
    for (int r = 1; r < ROUNDS; r++) {
        x = _mm512_aesenc_epi128(x, round_key(c->g, r));
    }
    x = _mm512_aesenclast_epi128(x, round_key(c->g, ROUNDS));
    __m512i data = _mm512_maskz_loadu_epi8(mask, in);
    x = _mm512_maskz_mov_epi8(mask, _mm512_xor_si512(x, data));
    _mm512_mask_storeu_epi8(out, mask, x);
    __m512i hashed = _mm512_xor_si512(swap4(c->opens ? data : x),
                                      _mm512_zextsi128_si512(c->hash));
    unsigned blocks = (unsigned)((len + BLOCK - 1) / BLOCK);
    struct product p = no_product();
    add_product(&p, hashed, powers_from(c->g, blocks));
    c->hash = reduce(&p);
}

/* The 32-bit counter of a message's tag is 1, its first block's is 2. */
FAST static __m128i counter_block(const uint8_t *nonce)
{
    uint8_t b[BLOCK] = {0};
    memcpy(b, nonce, AES_GCM_NONCE);
    b[BLOCK - 1] = 1;
    return _mm_loadu_si128((const __m128i *)b);
}

FAST static void take(const struct aes_gcm *g, const struct aes_gcm_message *m,
                      bool opens, uint8_t *out, uint8_t tag[AES_GCM_TAG])
{
    uint8_t aad[BLOCK] = {0};
    const __m128i first = counter_block(m->nonce);
    struct course c = {.g = g, .opens = opens};
    size_t at = 0;
    assert(m->aad_len <= AES_GCM_AAD_MAX && m->len < UINT32_MAX);
    if (m->aad_len > 0) {
        memcpy(aad, m->aad, m->aad_len);
    }
    const __m128i last = g->powers[POWERS - 1];
    if (m->aad_len > 0) {
        c.hash = times(swap(_mm_loadu_si128((const __m128i *)aad)), last);
    } else {
        c.hash = _mm_setzero_si128();
    }
    c.counters = _mm512_add_epi32(_mm512_broadcast_i32x4(swap(first)),
                                  _mm512_set_epi64(0, 4, 0, 3, 0, 2, 0, 1));
    for (; m->len - at >= WIDE; at += WIDE) {
        take_wide(&c, m->in + at, out + at);
    }
    while (at < m->len) {
        size_t n = m->len - at < VECTOR ? m->len - at : VECTOR;
        take_vector(&c, m->in + at, n, out + at);
        at += n;
    }
    __m128i lengths =
        _mm_set_epi64x((long long)(8 * m->aad_len), (long long)(8 * m->len));
    c.hash = times(_mm_xor_si128(c.hash, lengths), last);
    _mm_storeu_si128((__m128i *)tag,
                     _mm_xor_si128(swap(c.hash), encrypt_block(g, first)));
}

void aes_gcm_seal(const struct aes_gcm *g, const struct aes_gcm_message *m,
                  uint8_t *out)
{
    take(g, m, false, out, out + m->len);
}

bool aes_gcm_open(const struct aes_gcm *g, const struct aes_gcm_message *m,
                  uint8_t *out)
{
    uint8_t tag[AES_GCM_TAG];
    take(g, m, true, out, tag);
    return sodium_memcmp(tag, m->in + m->len, AES_GCM_TAG) == 0;
}

#else

bool aes_gcm_available(void)
{
    return false;
}

struct aes_gcm *aes_gcm_new(const uint8_t key[AES_GCM_KEY])
{
    (void)key;
    abort();
}

void aes_gcm_free(struct aes_gcm *g)
{
    assert(g == NULL);
}

void aes_gcm_seal(const struct aes_gcm *g, const struct aes_gcm_message *m,
                  uint8_t *out)
{
    (void)g;
    (void)m;
    (void)out;
    abort();
}

bool aes_gcm_open(const struct aes_gcm *g, const struct aes_gcm_message *m,
                  uint8_t *out)
{
    (void)g;
    (void)m;
    (void)out;
    abort();
}

#endif
