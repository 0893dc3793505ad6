// Breaks the rules in the way that its argument names, to see what the sandbox makes of it.
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

static volatile uint64_t sink;
static void *volatile kept;

static uint64_t recurse(uint64_t depth) {
    sink = depth;
    return depth == UINT64_MAX ? 0 : recurse(depth + 1) + sink;
}

static int loop(void) {
    for (;;)
        sink++;
}

static int memory(void) {
    size_t taken = 0;
    for (; (kept = malloc(1 << 20)); taken++)
        memset(kept, 1, 1 << 20);
    printf("got %zu MiB before malloc failed\n", taken);
    fflush(stdout);
    abort();
}

static int flood(void) {
    for (uint64_t i = 0;; i++)
        if (printf("line %llu of far too many\n", (unsigned long long)i) < 0 || ferror(stdout))
            return 3;
}

static int leave(void) {
    FILE *file = fopen("/out/partial", "w");
    if (!file || fputs("as far as it got\n", file) < 0 || fflush(file))
        return 1;
    return loop();
}

static int nap(void) {
    time_t before = time(NULL);
    sleep(3600);
    printf("slept %lld seconds\n", (long long)(time(NULL) - before));
    return 0;
}

static int dice(void) {
    uint32_t number;
    if (getentropy(&number, sizeof number))
        return 1;
    printf("random %u at %lld\n", number, (long long)time(NULL));
    return 0;
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (!strcmp(mode, "loop"))
        return loop();
    if (!strcmp(mode, "memory"))
        return memory();
    if (!strcmp(mode, "recurse"))
        return (int)recurse(sink);
    if (!strcmp(mode, "trap"))
        __builtin_trap();
    if (!strcmp(mode, "flood"))
        return flood();
    if (!strcmp(mode, "leave"))
        return leave();
    if (!strcmp(mode, "sleep"))
        return nap();
    if (!strcmp(mode, "random"))
        return dice();
    if (!strcmp(mode, "exit"))
        return argc > 2 ? atoi(argv[2]) : 200;
    fprintf(stderr, "usage: misbehave loop|memory|recurse|trap|flood|leave|sleep|random|exit [CODE]\n");
    return 2;
}
