// Counts lines, words and bytes of its standard input, as wc does.
#include <stdio.h>
#include <unistd.h>

int main(void) {
    static char buffer[1 << 14];
    unsigned long lines = 0, words = 0, bytes = 0;
    int inside = 0;
    ssize_t got;
    while ((got = read(0, buffer, sizeof buffer)) > 0) {
        bytes += got;
        for (ssize_t i = 0; i < got; i++) {
            char c = buffer[i];
            int space = c == ' ' || (c >= '\t' && c <= '\r');
            lines += c == '\n';
            words += inside == 0 && !space;
            inside = !space;
        }
    }
    if (got < 0) {
        perror("stdin");
        return 1;
    }
    printf("%lu lines, %lu words, %lu bytes\n", lines, words, bytes);
    return 0;
}
