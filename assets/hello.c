// Prints its arguments and environment: the smallest useful WASI program.
#include <stdio.h>

extern char **environ;

int main(int argc, char **argv) {
    printf("Hello from the sandbox!\n");
    for (int i = 1; i < argc; i++)
        printf("argument %d: %s\n", i, argv[i]);
    for (char **e = environ; *e; e++)
        printf("environment: %s\n", *e);
    return 0;
}
