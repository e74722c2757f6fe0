/* Random numbers that a seed determines on every machine: xoshiro256++ (Blackman and Vigna, 2019), seeded by splitmix64. */
#pragma once

#include <math.h>
#include <stdint.h>

struct random {
    uint64_t state[4];
};

static inline uint64_t random_rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

/* Streams of one seed are independent of each other. */
static inline struct random random_from(uint64_t seed, uint64_t stream)
{
    struct random random;
    uint64_t x = seed ^ (stream * UINT64_C(0xd1342543de82ef95));

    for (int i = 0; i < 4; i++) {
        uint64_t z = x += UINT64_C(0x9e3779b97f4a7c15);
        z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
        z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
        random.state[i] = z ^ z >> 31;
    }
    return random;
}

static inline uint64_t random_next(struct random *random)
{
    uint64_t *const s = random->state;
    const uint64_t result = random_rotate(s[0] + s[3], 23) + s[0], shifted = s[1] << 17;

    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= shifted;
    s[3] = random_rotate(s[3], 45);
    return result;
}

/* From the exponential distribution of mean 1. */
static inline double random_exponential(struct random *random)
{
    return -log((double)((random_next(random) >> 11) + 1) * 0x1p-53);
}

/* From 0 to count - 1. The bias is count / 2^32. */
static inline uint32_t random_below(struct random *random, uint32_t count)
{
    return (uint32_t)((random_next(random) >> 32) * count >> 32);
}
