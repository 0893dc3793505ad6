// Counts the primes below N (default 200 million) with a segmented sieve, and reports how far it is.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

__attribute__((import_module("zerostate"), import_name("progress"))) void progress(int thousandths);

enum { SEGMENT = 1 << 16, ROOT_MAX = 65536 };

static uint8_t small[ROOT_MAX], segment[SEGMENT];

int main(int argc, char **argv) {
    char *end = "";
    unsigned long long n = argc > 1 ? strtoull(argv[1], &end, 10) : 200000000ULL;
    if (*end || n > 4000000000ULL) {
        fprintf(stderr, "usage: primes [N], N at most 4000000000\n");
        return 2;
    }
    for (uint32_t i = 2; i * i < ROOT_MAX; i++)
        if (!small[i])
            for (uint32_t j = i * i; j < ROOT_MAX; j += i)
                small[j] = 1;
    uint64_t count = 0;
    for (uint64_t low = 0; low < n; low += SEGMENT) {
        uint64_t high = low + SEGMENT < n ? low + SEGMENT : n;
        memset(segment, 0, sizeof segment);
        for (uint64_t p = 2; p * p < high; p++) {
            if (small[p])
                continue;
            uint64_t first = p * p > low ? p * p : (low + p - 1) / p * p;
            for (uint64_t j = first; j < high; j += p)
                segment[j - low] = 1;
        }
        for (uint64_t i = low < 2 ? 2 : low; i < high; i++)
            count += !segment[i - low];
        progress((int)(high * 1000 / n));
    }
    printf("%llu primes below %llu\n", (unsigned long long)count, n);
    return 0;
}
