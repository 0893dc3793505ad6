// Tries to get at files that are not its own, or to write more than it may, and reports what came of it.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void tell(const char *what, const char *path, int failed) {
    printf("%s %s: %s\n", what, path, failed ? strerror(errno) : "done");
}

static void read_one(const char *path) {
    int fd = open(path, O_RDONLY);
    tell("read", path, fd < 0);
    if (fd >= 0)
        close(fd);
}

static void write_one(const char *path) {
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    tell("write", path, fd < 0 || write(fd, "x", 1) != 1);
    if (fd >= 0)
        close(fd);
}

static int escape(void) {
    read_one("/etc/passwd");
    read_one("/in/../etc/passwd");
    read_one("/in/../../../../etc/passwd");
    read_one("/in/sub/../../../etc/passwd");
    read_one("/proc/self/environ");
    read_one("/in/link");
    write_one("/in/new");
    write_one("/in/a.txt");
    write_one("/out/../escaped");
    write_one("/out/../../escaped");
    write_one("/escaped");
    tell("symlink", "/out/link", symlink("/etc/passwd", "/out/link"));
    tell("link", "/out/hard", link("/in/a.txt", "/out/hard"));
    tell("rename", "/in/a.txt", rename("/in/a.txt", "/out/a.txt"));
    tell("unlink", "/in/a.txt", unlink("/in/a.txt"));
    tell("mkdir", "/in/dir", mkdir("/in/dir", 0700));
    tell("newline", "/out/a\\nb", open("/out/a\nb", O_WRONLY | O_CREAT, 0600) < 0);
    read_one("/in/sub/../a.txt");
    return 0;
}

static int disk(void) {
    static char block[1 << 16];
    unsigned long long kept = 0;
    FILE *file = fopen("/out/big", "wb");
    if (!file)
        return 1;
    setvbuf(file, NULL, _IONBF, 0);
    for (size_t n; (n = fwrite(block, 1, sizeof block, file)) > 0;)
        kept += n;
    printf("%llu bytes, then: %s\n", kept, strerror(errno));
    return 0;
}

static int hidden(void) {
    static char block[1 << 20];
    int rounds = 0;
    for (; rounds < 100; rounds++) {
        int fd = open("/out/hidden", O_RDWR | O_CREAT | O_TRUNC, 0600);
        if (fd < 0 || write(fd, block, sizeof block) != sizeof block)
            break;
        unlink("/out/hidden");
    }
    printf("%d removed files of 1 MiB held open, then: %s\n", rounds, strerror(errno));
    return 0;
}

static int swarm(void) {
    char name[32];
    int made = 0;
    for (; made < 100000; made++) {
        snprintf(name, sizeof name, "/out/%d", made);
        int fd = open(name, O_WRONLY | O_CREAT, 0600);
        if (fd < 0)
            break;
        close(fd);
    }
    printf("%d files, then: %s\n", made, strerror(errno));
    return 0;
}

static int sparse(void) {
    int fd = open("/out/sparse", O_WRONLY | O_CREAT, 0600);
    tell("truncate", "4 TiB", ftruncate(fd, 4LL << 40));
    tell("seek", "4 TiB", lseek(fd, 4LL << 40, SEEK_SET) < 0);
    tell("write", "4 TiB", write(fd, "x", 1) != 1);
    return 0;
}

static int list(const char *path) {
    DIR *directory = opendir(path);
    if (!directory)
        return 1;
    for (struct dirent *entry; (entry = readdir(directory));) {
        struct stat stat;
        fstatat(dirfd(directory), entry->d_name, &stat, 0);
        printf("%s %llu %lld %lld\n", entry->d_name, (unsigned long long)entry->d_ino, (long long)stat.st_size,
               (long long)stat.st_mtim.tv_sec);
    }
    closedir(directory);
    return 0;
}

int main(int argc, char **argv) {
    const char *mode = argc > 1 ? argv[1] : "";
    if (!strcmp(mode, "escape"))
        return escape();
    if (!strcmp(mode, "disk"))
        return disk();
    if (!strcmp(mode, "hidden"))
        return hidden();
    if (!strcmp(mode, "swarm"))
        return swarm();
    if (!strcmp(mode, "sparse"))
        return sparse();
    if (!strcmp(mode, "list"))
        return list(argc > 2 ? argv[2] : "/in");
    fprintf(stderr, "usage: intrude escape|disk|hidden|swarm|sparse|list [DIRECTORY]\n");
    return 2;
}
