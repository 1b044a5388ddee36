/* A disk that fails: preloaded, it lets writes below $IO_FAULTS_FOLDER fail with EIO from the n-th on, `num` of them.

   gcc -shared -fPIC -O1 -o io_faults.so io_faults.c -ldl */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_int until_fault = -1; /* calls that still succeed; -1: no fault is wanted */
static atomic_int num_faults = 0;   /* how many fail then */
static atomic_int num_failed = 0;

void io_faults_arm(int succeed, int fail) {
    num_failed = 0;
    num_faults = fail;
    until_fault = succeed;
}

int io_faults_disarm(void) {
    until_fault = -1;
    return num_failed;
}

static int below(const char *path) {
    const char *folder = getenv("IO_FAULTS_FOLDER");
    return folder && path && strncmp(path, folder, strlen(folder)) == 0;
}

static int fails_now(void) {
    if (atomic_fetch_sub(&until_fault, 1) > 0) return 0;
    until_fault = 0;
    if (atomic_fetch_add(&num_failed, 1) >= num_faults) { atomic_fetch_sub(&num_failed, 1); return 0; }
    errno = EIO;
    return 1;
}

static int fails(const char *path) { return until_fault >= 0 && below(path) && fails_now(); }

static int fails_fd(int fd) {
    char link[64], path[PATH_MAX];
    if (until_fault < 0) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0) return 0;
    path[size] = 0;
    return below(path) && fails_now();
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define ON_FD(result, name, params, args) result name params { return fails_fd(fd) ? -1 : REAL(name) args; }
#define ON_PATH(name, params, args) int name params { return fails(to) ? -1 : REAL(name) args; }

ON_FD(ssize_t, write, (int fd, const void *buf, size_t n), (fd, buf, n))
ON_FD(ssize_t, pwrite64, (int fd, const void *buf, size_t n, off64_t at), (fd, buf, n, at))
ON_FD(ssize_t, writev, (int fd, const struct iovec *parts, int n), (fd, parts, n))
ON_FD(int, fsync, (int fd), (fd))
ON_FD(int, fdatasync, (int fd), (fd))
ON_FD(int, ftruncate64, (int fd, off64_t n), (fd, n))
ON_PATH(rename, (const char *from, const char *to), (from, to))
ON_PATH(renameat, (int a, const char *from, int b, const char *to), (a, from, b, to))
ON_PATH(link, (const char *from, const char *to), (from, to))
ON_PATH(linkat, (int a, const char *from, int b, const char *to, int f), (a, from, b, to, f))
ON_PATH(mkdir, (const char *to, mode_t mode), (to, mode))

#define OPEN(name)                                                         \
    int name(const char *path, int how, ...) {                             \
        va_list more;                                                      \
        va_start(more, how);                                               \
        mode_t mode = (how & (O_CREAT | O_TMPFILE)) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                                      \
        if ((how & O_CREAT) && fails(path)) return -1;                     \
        return REAL(name)(path, how, mode);                                \
    }
OPEN(open)
OPEN(open64)
