/* Stands before the C library: clocks that jump, and a file system like one on a network.
 *
 * CLOCK_JUMPS=1: every other reading of a wall clock is a day later, every third ten days earlier; steady clocks stay as they are.
 * NETWORK=NAME: what one call answers. nolock: flock says ENOLCK. stale: rename says ESTALE. close: close says EIO for files that
 * were written to. fsync: fsync says EDQUOT. nosync: fsync says EINVAL for folders. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static long jump(void) {
  static unsigned count;
  if (!getenv("CLOCK_JUMPS")) return 0;
  unsigned now = __atomic_add_fetch(&count, 1, __ATOMIC_RELAXED);
  return now % 3 == 0 ? -864000 : now % 2 == 0 ? 86400 : 0;
}

int clock_gettime(clockid_t clock, struct timespec* at) {
  int done = REAL(clock_gettime)(clock, at);
  if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) at->tv_sec += jump();
  return done;
}

time_t time(time_t* at) {
  time_t now = REAL(time)(0) + jump();
  if (at) *at = now;
  return now;
}

int gettimeofday(struct timeval* restrict at, void* restrict zone) {
  int done = REAL(gettimeofday)(at, zone);
  at->tv_sec += jump();
  return done;
}

static int answers(const char* name) {
  const char* asked = getenv("NETWORK");
  return asked && !strcmp(asked, name);
}

static int is_folder(int file) {
  struct stat status;
  return fstat(file, &status) == 0 && S_ISDIR(status.st_mode);
}

int flock(int file, int how) {
  if (answers("nolock")) return errno = ENOLCK, -1;
  return REAL(flock)(file, how);
}

int rename(const char* from, const char* to) {
  if (answers("stale")) return errno = ESTALE, -1;
  return REAL(rename)(from, to);
}

int fsync(int file) {
  if (answers("fsync") && !is_folder(file)) return errno = EDQUOT, -1;
  if (answers("nosync") && is_folder(file)) return errno = EINVAL, -1;
  return REAL(fsync)(file);
}

int close(int file) {
  struct stat status;
  int written = answers("close") && (fcntl(file, F_GETFL) & O_ACCMODE) == O_RDWR && fstat(file, &status) == 0 &&
                S_ISREG(status.st_mode) && status.st_size > 100;
  int done = REAL(close)(file);
  return written ? (errno = EIO, -1) : done;
}
