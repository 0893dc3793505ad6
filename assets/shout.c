// Copies each file of /in to /out in capital letters.
#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>

static int copy(const char *name) {
    char path[512];
    snprintf(path, sizeof path, "/in/%s", name);
    FILE *source = fopen(path, "r");
    snprintf(path, sizeof path, "/out/%s", name);
    FILE *target = fopen(path, "w");
    if (!source || !target)
        return 1;
    for (int c; (c = getc(source)) != EOF;)
        putc(toupper(c), target);
    fclose(source);
    return fclose(target);
}

int main(void) {
    DIR *directory = opendir("/in");
    if (!directory) {
        fprintf(stderr, "There is no /in: give input files.\n");
        return 1;
    }
    for (struct dirent *entry; (entry = readdir(directory));)
        if (entry->d_type == DT_REG) {
            if (copy(entry->d_name)) {
                perror(entry->d_name);
                return 1;
            }
            printf("%s\n", entry->d_name);
        }
    closedir(directory);
    return 0;
}
