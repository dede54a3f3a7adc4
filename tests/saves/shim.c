/* Counts the calls of the C library by which a program touches files, and makes one of them fail, or the process die at it.
 *
 * Loaded by LD_PRELOAD. shim_arm() starts the counting; tests/saves/shim.py calls it. Each function here stands before the
 * library's own of the same name. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

enum { COUNT, FAIL, DIE_BEFORE, DIE_AFTER, SHORT, SHORT_THEN_FAIL, SHORT_THEN_DIE };

static int armed, calls, chosen, failure, way;
static char names[1 << 14];

void shim_arm(int how, int at, int error) {
  way = how, chosen = at, failure = error, calls = 0, names[0] = 0, armed = 1;
}

const char* shim_disarm(void) {
  armed = 0;
  return names;
}

static void die(void) { kill(getpid(), SIGKILL); }

/* Whether this call is to fail. */
static int counted(const char* name) {
  if (!armed) return 0;
  ++calls;
  if (strlen(names) + strlen(name) + 2 < sizeof names) strcat(strcat(names, name), " ");
  if (calls != chosen) return 0;
  if (way == DIE_BEFORE) die();
  if (way != FAIL) return 0;
  errno = failure;
  return 1;
}

static void done(void) {
  if (armed && calls == chosen && way == DIE_AFTER) die();
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRAP(type, wrong, name, parameters, arguments) \
  type name parameters {                               \
    static type(*real) parameters;                     \
    if (!real) real = dlsym(RTLD_NEXT, #name);         \
    if (counted(#name)) return wrong;                  \
    type result = real arguments;                      \
    int kept = errno;                                  \
    done();                                            \
    errno = kept;                                      \
    return result;                                     \
  }
#define WRAP_OPEN(name)                           \
  int name(const char* path, int flags, ...) {    \
    static int (*real)(const char*, int, ...);    \
    if (!real) real = dlsym(RTLD_NEXT, #name);    \
    va_list rest;                                 \
    va_start(rest, flags);                        \
    int mode = va_arg(rest, int);                 \
    va_end(rest);                                 \
    if (counted(#name)) return -1;                \
    int result = real(path, flags, mode);         \
    int kept = errno;                             \
    done();                                       \
    errno = kept;                                 \
    return result;                                \
  }
#define WRAP_OPENAT(name)                              \
  int name(int at, const char* path, int flags, ...) { \
    static int (*real)(int, const char*, int, ...);    \
    if (!real) real = dlsym(RTLD_NEXT, #name);         \
    va_list rest;                                      \
    va_start(rest, flags);                             \
    int mode = va_arg(rest, int);                      \
    va_end(rest);                                      \
    if (counted(#name)) return -1;                     \
    int result = real(at, path, flags, mode);          \
    int kept = errno;                                  \
    done();                                            \
    errno = kept;                                      \
    return result;                                     \
  }

struct stat64;
struct statx;
WRAP_OPEN(open)
WRAP_OPEN(open64)
WRAP_OPENAT(openat)
WRAP_OPENAT(openat64)
WRAP(int, -1, fstat, (int fd, struct stat* s), (fd, s))
WRAP(int, -1, fstat64, (int fd, struct stat64* s), (fd, s))
WRAP(int, -1, stat, (const char* p, struct stat* s), (p, s))
WRAP(int, -1, stat64, (const char* p, struct stat64* s), (p, s))
WRAP(int, -1, lstat, (const char* p, struct stat* s), (p, s))
WRAP(int, -1, lstat64, (const char* p, struct stat64* s), (p, s))
WRAP(int, -1, fstatat, (int at, const char* p, struct stat* s, int f), (at, p, s, f))
WRAP(int, -1, fstatat64, (int at, const char* p, struct stat64* s, int f), (at, p, s, f))
WRAP(int, -1, access, (const char* p, int m), (p, m))
WRAP(int, -1, faccessat, (int at, const char* p, int m, int f), (at, p, m, f))
WRAP(int, -1, fsync, (int fd), (fd))
WRAP(int, -1, fdatasync, (int fd), (fd))
WRAP(int, -1, rename, (const char* a, const char* b), (a, b))
WRAP(int, -1, renameat, (int f, const char* a, int t, const char* b), (f, a, t, b))
WRAP(int, -1, link, (const char* a, const char* b), (a, b))
WRAP(int, -1, unlink, (const char* p), (p))
WRAP(int, -1, unlinkat, (int at, const char* p, int f), (at, p, f))
WRAP(int, -1, fchmod, (int fd, mode_t m), (fd, m))
WRAP(int, -1, chmod, (const char* p, mode_t m), (p, m))
WRAP(int, -1, mkdir, (const char* p, mode_t m), (p, m))
WRAP(int, -1, ftruncate, (int fd, off_t n), (fd, n))
WRAP(int, -1, ftruncate64, (int fd, off64_t n), (fd, n))
WRAP(int, -1, flock, (int fd, int how), (fd, how))
WRAP(off_t, -1, lseek, (int fd, off_t n, int how), (fd, n, how))
WRAP(off64_t, -1, lseek64, (int fd, off64_t n, int how), (fd, n, how))
WRAP(ssize_t, -1, read, (int fd, void* b, size_t n), (fd, b, n))
WRAP(ssize_t, -1, readlink, (const char* p, char* b, size_t n), (p, b, n))
WRAP(ssize_t, -1, readlinkat, (int at, const char* p, char* b, size_t n), (at, p, b, n))
WRAP(ssize_t, -1, getrandom, (void* b, size_t n, unsigned f), (b, n, f))
WRAP(char*, NULL, getcwd, (char* b, size_t n), (b, n))
WRAP(DIR*, NULL, opendir, (const char* p), (p))
WRAP(int, -1, closedir, (DIR * d), (d))

/* A failing close closes nevertheless, as Linux does. */
int close(int fd) {
  static int (*real)(int);
  if (!real) real = dlsym(RTLD_NEXT, "close");
  int wrong = counted("close"), result = real(fd), kept = wrong ? failure : errno;
  done();
  errno = kept;
  return wrong ? -1 : result;
}

/* The chosen write takes half of the bytes; then the next one fails, or the process dies. */
ssize_t write(int fd, const void* bytes, size_t size) {
  static ssize_t (*real)(int, const void*, size_t);
  if (!real) real = dlsym(RTLD_NEXT, "write");
  if (counted("write")) return -1;
  int now = armed && calls == chosen, after = armed && calls == chosen + 1;
  if (after && way == SHORT_THEN_FAIL) {
    errno = failure;
    return -1;
  }
  if (now && way >= SHORT && size > 1) size /= 2;
  ssize_t result = real(fd, bytes, size);
  int kept = errno;
  if (now && way == SHORT_THEN_DIE) die();
  done();
  errno = kept;
  return result;
}
