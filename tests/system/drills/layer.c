/*
 * The layer between a daemon and its disk and clocks, put there by LD_PRELOAD: it counts, breaks and records what the
 * daemon does to the files below one folder, and shifts its clocks. tests/system/drills/layer.py compiles and steers it.
 *
 * DRILL_UNDER    the folder (resolved) whose files are watched
 * DRILL_CONTROL  a file of sizeof(struct control) bytes, mapped by both sides; the drill may change it at any moment
 * DRILL_RECORD   if set: every change to a watched file is appended here, for disk.py to make the disk again from it
 *
 * Only the process that was started with these acts; what it starts inherits neither them nor the layer. What a file
 * is changed by without passing here (mmap, stdio) is not seen; the power drill compares and would find out.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { WRITE = 1, SYNC = 2, TRUNCATE = 4, NAME = 8 };             /* what is done: create, rename and unlink are NAME */
enum { DATABASE = 1, WAL = 2, JOURNAL = 4, LOG = 8, OTHER = 16 }; /* to what */
enum { NOTHING, KILL_BEFORE, KILL_HALF, KILL_AFTER, FAIL, SHORT };

struct control {
    uint64_t points;     /* chosen operations on chosen files since `armed` was set */
    uint64_t hits;       /* how many of them were struck */
    uint64_t at, times;  /* strike the points at, at+1, ... at+times-1 (the first is 1) */
    uint32_t armed;
    uint32_t operations, files; /* which are points */
    uint32_t action, error;
    uint32_t full;       /* whatever would grow a watched file fails with ENOSPC */
    uint32_t deaf;       /* files whose syncs are told done and are not */
    uint32_t writes, syncs, truncations, names; /* of the database since `armed` was set, whatever is chosen */
    int64_t wall_ns, monotonic_ns; /* added to the clocks */
    uint64_t written; /* bytes */
};

enum { R_OPEN = 1, R_WRITE, R_SIZE, R_SYNC_BEGIN, R_SYNC_END, R_RENAME, R_UNLINK, R_VOID, R_LINK };
struct record {
    uint32_t kind, handle;
    uint64_t offset, length; /* length bytes follow */
};

struct watched {
    uint32_t handle; /* 0: not watched. One for each open, never used again */
    uint32_t class;
};

#define MAX_FD 65536
static struct watched table[MAX_FD];
static struct control *control;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pid_t self;
static char under[PATH_MAX];
static size_t under_length;
static int record_fd = -1;
static uint32_t last_handle;

#define REAL(name) \
    static __typeof__(name) *real; \
    if (!real) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

static __typeof__(write) *real_write;
static __typeof__(pwrite) *real_pwrite;
static __typeof__(clock_gettime) *real_clock_gettime;

__attribute__((constructor)) static void begin(void)
{
    real_write = (__typeof__(write) *)dlsym(RTLD_NEXT, "write");
    real_pwrite = (__typeof__(pwrite) *)dlsym(RTLD_NEXT, "pwrite64");
    real_clock_gettime = (__typeof__(clock_gettime) *)dlsym(RTLD_NEXT, "clock_gettime");
    const char *folder = getenv("DRILL_UNDER"), *steering = getenv("DRILL_CONTROL"), *record = getenv("DRILL_RECORD");
    if (!folder || !steering) return;
    under_length = (size_t)snprintf(under, sizeof under, "%s/", folder);
    int fd = open(steering, O_RDWR | O_CLOEXEC);
    if (fd < 0) return;
    void *map = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (map == MAP_FAILED) return;
    if (record) record_fd = open(record, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    unsetenv("LD_PRELOAD");
    unsetenv("DRILL_UNDER");
    unsetenv("DRILL_CONTROL");
    unsetenv("DRILL_RECORD");
    self = getpid();
    control = map;
}

/* A child between fork and exec shares this memory, or has a copy with a lock that nobody will open. */
static int active(void) { return control && getpid() == self; }

static struct watched *watched(int fd)
{
    if (fd < 0 || fd >= MAX_FD || !active() || !table[fd].handle) return NULL;
    return &table[fd];
}

/* The class of a path, 0 for one that is not watched. The -shm file is memory, not disk. */
static uint32_t class_of(const char *path)
{
    if (strncmp(path, under, under_length) != 0) return 0;
    const char *name = path + under_length;
    if (strcmp(name, "goclaw.db") == 0) return DATABASE;
    if (strcmp(name, "goclaw.db-wal") == 0) return WAL;
    if (strcmp(name, "goclaw.db-journal") == 0) return JOURNAL;
    if (strcmp(name, "goclaw.db-shm") == 0) return 0;
    if (strncmp(name, "logs/", 5) == 0) return LOG;
    if (strncmp(name, "workspace/", 10) == 0) return 0;
    return OTHER;
}

static void note(uint32_t kind, uint32_t handle, uint64_t offset, const void *data, uint64_t length)
{
    if (record_fd < 0) return;
    struct record head = {kind, handle, offset, length};
    if (real_write(record_fd, &head, sizeof head) != (ssize_t)sizeof head) _exit(99);
    while (length > 0) {
        ssize_t done = real_write(record_fd, data, length);
        if (done <= 0) _exit(99);
        data = (const char *)data + done;
        length -= (uint64_t)done;
    }
}

static void die(void)
{
    kill(self, SIGKILL);
    for (;;) pause();
}

/* Count an operation; what is to be done to it. KILL_BEFORE has then happened. Called with the lock held. */
static uint32_t strike(uint32_t operation, uint32_t class)
{
    if (class & (DATABASE | WAL | JOURNAL)) {
        control->writes += operation == WRITE;
        control->syncs += operation == SYNC;
        control->truncations += operation == TRUNCATE;
        control->names += operation == NAME;
    }
    if (!control->armed || !(control->operations & operation) || !(control->files & class)) return NOTHING;
    uint64_t point = ++control->points;
    if (control->action == NOTHING || point < control->at || point - control->at >= control->times) return NOTHING;
    control->hits++;
    if (control->action == KILL_BEFORE) die();
    return control->action;
}

static int refuse(int error)
{
    errno = error;
    return -1;
}

/* -- writing ------------------------------------------------------------------------------------------------------ */

static ssize_t change(int fd, struct watched *file, const void *data, size_t length, off_t offset, int positioned)
{
    pthread_mutex_lock(&lock);
    struct stat about;
    ssize_t done = -1;
    fstat(fd, &about);
    if (!positioned) offset = fcntl(fd, F_GETFL) & O_APPEND ? about.st_size : lseek(fd, 0, SEEK_CUR);
    uint32_t action = strike(WRITE, file->class);
    size_t wanted = (action == KILL_HALF || action == SHORT) && length > 1 ? length / 2 : length;
    if (action == FAIL) {
        errno = (int)control->error;
    } else if (control->full && offset + (off_t)length > about.st_size) {
        errno = ENOSPC;
    } else {
        note(R_WRITE, file->handle, (uint64_t)offset, data, wanted);
        done = positioned ? real_pwrite(fd, data, wanted, offset) : real_write(fd, data, wanted);
        int error = errno;
        if (done != (ssize_t)wanted) note(R_VOID, file->handle, done > 0 ? (uint64_t)done : 0, NULL, 0);
        if (done > 0) control->written += (uint64_t)done;
        errno = error;
    }
    if (action == KILL_HALF || action == KILL_AFTER) die();
    pthread_mutex_unlock(&lock);
    return done;
}

ssize_t write(int fd, const void *data, size_t length)
{
    struct watched *file = watched(fd);
    if (!file) {
        if (!real_write) real_write = (__typeof__(write) *)dlsym(RTLD_NEXT, "write");
        return real_write(fd, data, length);
    }
    return change(fd, file, data, length, 0, 0);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset)
{
    struct watched *file = watched(fd);
    if (!file) return real_pwrite(fd, data, length, offset);
    return change(fd, file, data, length, offset, 1);
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) { return pwrite64(fd, data, length, offset); }

/* Callers fall back to read and write, which are seen. */
ssize_t sendfile64(int out, int in, off64_t *offset, size_t count)
{
    REAL(sendfile64);
    return watched(out) ? refuse(ENOTSOCK) : real(out, in, offset, count);
}
ssize_t sendfile(int out, int in, off_t *offset, size_t count) { return sendfile64(out, in, offset, count); }

int ftruncate64(int fd, off64_t size)
{
    REAL(ftruncate64);
    struct watched *file = watched(fd);
    if (!file) return real(fd, size);
    pthread_mutex_lock(&lock);
    struct stat about;
    fstat(fd, &about);
    int done = -1;
    uint32_t action = strike(TRUNCATE, file->class);
    if (action == FAIL) {
        errno = (int)control->error;
    } else if (control->full && size > about.st_size) {
        errno = ENOSPC;
    } else {
        done = real(fd, size);
        if (done == 0) note(R_SIZE, file->handle, (uint64_t)size, NULL, 0);
    }
    if (action == KILL_HALF || action == KILL_AFTER) die();
    pthread_mutex_unlock(&lock);
    return done;
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

/* Told by its answer, not by errno. Room is taken for what lies within the file already. */
int posix_fallocate64(int fd, off64_t offset, off64_t length)
{
    REAL(posix_fallocate64);
    struct watched *file = watched(fd);
    if (!file) return real(fd, offset, length);
    pthread_mutex_lock(&lock);
    struct stat about;
    fstat(fd, &about);
    int error, grows = offset + length > about.st_size;
    uint32_t action = strike(TRUNCATE, file->class);
    if (action == FAIL) {
        error = (int)control->error;
    } else if (control->full && grows) {
        error = ENOSPC;
    } else {
        error = real(fd, offset, length);
        if (error == 0 && grows) note(R_SIZE, file->handle, (uint64_t)(offset + length), NULL, 0);
    }
    if (action == KILL_HALF || action == KILL_AFTER) die();
    pthread_mutex_unlock(&lock);
    return error;
}
int posix_fallocate(int fd, off_t offset, off_t length) { return posix_fallocate64(fd, offset, length); }

/* -- syncing ------------------------------------------------------------------------------------------------------ */

/* Others may write while a sync is under way; what they write meanwhile is not promised by it. */
static int flush(int fd, struct watched *file, int (*real)(int))
{
    pthread_mutex_lock(&lock);
    uint32_t action = strike(SYNC, file->class), handle = file->handle;
    if (action == FAIL) {
        pthread_mutex_unlock(&lock);
        return refuse((int)control->error);
    }
    int deaf = (control->deaf & file->class) != 0;
    if (!deaf) note(R_SYNC_BEGIN, handle, 0, NULL, 0);
    pthread_mutex_unlock(&lock);
    int done = deaf ? 0 : real(fd);
    int error = errno;
    pthread_mutex_lock(&lock);
    if (done == 0 && !deaf) note(R_SYNC_END, handle, 0, NULL, 0);
    if (action == KILL_HALF || action == KILL_AFTER) die();
    pthread_mutex_unlock(&lock);
    errno = error;
    return done;
}

int fsync(int fd)
{
    REAL(fsync);
    struct watched *file = watched(fd);
    return file ? flush(fd, file, real) : real(fd);
}

int fdatasync(int fd)
{
    REAL(fdatasync);
    struct watched *file = watched(fd);
    return file ? flush(fd, file, real) : real(fd);
}

/* -- names -------------------------------------------------------------------------------------------------------- */

static const char *absolute(int folder, const char *path, char *buffer)
{
    char link[64];
    if (path[0] == '/' || folder == AT_FDCWD) return path;
    snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
    ssize_t length = readlink(link, buffer, PATH_MAX / 2);
    if (length < 0) return path;
    snprintf(buffer + length, (size_t)(PATH_MAX - length), "/%s", path);
    return buffer;
}

static int follow(int fd, const char *path, int flags, int fresh)
{
    if (fd < 0 || fd >= MAX_FD) return fd;
    struct stat about;
    int folder = fstat(fd, &about) == 0 && S_ISDIR(about.st_mode);
    char named[PATH_MAX];
    snprintf(named, sizeof named, "%s%s", path, folder && strlen(path) + 1 == under_length ? "/" : "");
    table[fd].class = folder && strncmp(named, under, under_length) == 0 ? OTHER : class_of(path);
    table[fd].handle = 0;
    if (!table[fd].class || (!folder && (flags & O_ACCMODE) == O_RDONLY)) return fd;
    uint32_t handle = ++last_handle;
    note(R_OPEN, handle, (uint64_t)(fresh | folder << 1), path, strlen(path));
    if (!fresh && flags & O_TRUNC) note(R_SIZE, handle, 0, NULL, 0);
    table[fd].handle = handle;
    return fd;
}

static int open_in(int folder, const char *given, int flags, mode_t mode)
{
    static int (*real)(int, const char *, int, ...);
    if (!real) real = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, "openat64");
    char buffer[PATH_MAX];
    const char *path = active() ? absolute(folder, given, buffer) : "";
    if (strncmp(path, under, under_length ? under_length - 1 : 0) != 0 || !under_length || !active())
        return real(folder, given, flags, mode);
    pthread_mutex_lock(&lock);
    int fresh = flags & O_CREAT && access(path, F_OK) != 0, fd = -1;
    uint32_t action = fresh && class_of(path) ? strike(NAME, class_of(path)) : NOTHING;
    if (action == FAIL || (fresh && control->full && class_of(path)))
        errno = action == FAIL ? (int)control->error : ENOSPC;
    else
        fd = follow(real(folder, given, flags, mode), path, flags, fresh);
    if (action == KILL_HALF || action == KILL_AFTER) die();
    pthread_mutex_unlock(&lock);
    return fd;
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

int open64(const char *path, int flags, ...) { MODE(flags) return open_in(AT_FDCWD, path, flags, mode); }
int open(const char *path, int flags, ...) { MODE(flags) return open_in(AT_FDCWD, path, flags, mode); }
int openat64(int folder, const char *path, int flags, ...) { MODE(flags) return open_in(folder, path, flags, mode); }
int openat(int folder, const char *path, int flags, ...) { MODE(flags) return open_in(folder, path, flags, mode); }

int close(int fd)
{
    REAL(close);
    if (watched(fd)) table[fd].handle = 0;
    return real(fd);
}

static int move(uint32_t kind, int from_folder, const char *from, int to_folder, const char *to, int flags)
{
    static int (*rename_in)(int, const char *, int, const char *);
    static int (*link_in)(int, const char *, int, const char *, int);
    if (!rename_in) rename_in = (int (*)(int, const char *, int, const char *))dlsym(RTLD_NEXT, "renameat");
    if (!link_in) link_in = (int (*)(int, const char *, int, const char *, int))dlsym(RTLD_NEXT, "linkat");
    char one[PATH_MAX], two[PATH_MAX];
    const char *old = active() ? absolute(from_folder, from, one) : "", *new = active() ? absolute(to_folder, to, two) : "";
    uint32_t class = active() ? class_of(new) : 0;
    int watching = class != 0;
    if (watching) pthread_mutex_lock(&lock);
    uint32_t action = watching ? strike(NAME, class) : NOTHING;
    int done = action == FAIL       ? refuse((int)control->error)
               : kind == R_RENAME   ? rename_in(from_folder, from, to_folder, to)
                                    : link_in(from_folder, from, to_folder, to, flags);
    if (!watching) return done;
    if (done == 0) {
        char both[2 * PATH_MAX];
        int length = snprintf(both, sizeof both, "%s%c%s", old, 0, new);
        note(kind, 0, 0, both, (uint64_t)length);
    }
    if (action == KILL_HALF || action == KILL_AFTER) die();
    pthread_mutex_unlock(&lock);
    return done;
}
int rename(const char *from, const char *to) { return move(R_RENAME, AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return move(R_RENAME, a, from, b, to, 0); }
int link(const char *from, const char *to) { return move(R_LINK, AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int a, const char *from, int b, const char *to, int flags) { return move(R_LINK, a, from, b, to, flags); }

static int drop(int folder, const char *given, int flags)
{
    REAL(unlinkat);
    char buffer[PATH_MAX];
    const char *path = active() ? absolute(folder, given, buffer) : "";
    uint32_t class = active() && !(flags & AT_REMOVEDIR) ? class_of(path) : 0;
    if (!class) return real(folder, given, flags);
    pthread_mutex_lock(&lock);
    uint32_t action = strike(NAME, class);
    int done = action == FAIL ? refuse((int)control->error) : real(folder, given, flags);
    if (done == 0) note(R_UNLINK, 0, 0, path, strlen(path));
    if (action == KILL_HALF || action == KILL_AFTER) die();
    pthread_mutex_unlock(&lock);
    return done;
}
int unlink(const char *path) { return drop(AT_FDCWD, path, 0); }
int unlinkat(int folder, const char *path, int flags) { return drop(folder, path, flags); }

/* -- clocks ------------------------------------------------------------------------------------------------------- */

static int64_t shift(clockid_t id)
{
    if (!control) return 0;
    switch (id) {
    case CLOCK_REALTIME: case CLOCK_REALTIME_COARSE: return control->wall_ns;
    case CLOCK_MONOTONIC: case CLOCK_MONOTONIC_RAW: case CLOCK_MONOTONIC_COARSE: case CLOCK_BOOTTIME:
        return control->monotonic_ns;
    default: return 0;
    }
}

static struct timespec moved(struct timespec given, int64_t by)
{
    int64_t whole = (int64_t)given.tv_sec * 1000000000 + given.tv_nsec + by;
    return (struct timespec){.tv_sec = whole / 1000000000, .tv_nsec = whole % 1000000000};
}

int clock_gettime(clockid_t id, struct timespec *told)
{
    if (!real_clock_gettime)
        real_clock_gettime = (__typeof__(clock_gettime) *)dlsym(RTLD_NEXT, "clock_gettime");
    int done = real_clock_gettime(id, told);
    if (done == 0 && control) *told = moved(*told, shift(id));
    return done;
}

int gettimeofday(struct timeval *restrict told, void *restrict zone)
{
    (void)zone;
    struct timespec now;
    int done = clock_gettime(CLOCK_REALTIME, &now);
    *told = (struct timeval){.tv_sec = now.tv_sec, .tv_usec = now.tv_nsec / 1000};
    return done;
}

time_t time(time_t *told)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (told) *told = now.tv_sec;
    return now.tv_sec;
}

/* Deadlines are told to the kernel by its own clocks. */
int sem_clockwait(sem_t *restrict semaphore, clockid_t id, const struct timespec *restrict until)
{
    static int (*real)(sem_t *, clockid_t, const struct timespec *);
    if (!real) real = (int (*)(sem_t *, clockid_t, const struct timespec *))dlsym(RTLD_NEXT, "sem_clockwait");
    struct timespec real_until = moved(*until, -shift(id));
    return real(semaphore, id, &real_until);
}

int sem_timedwait(sem_t *restrict semaphore, const struct timespec *restrict until)
{
    REAL(sem_timedwait);
    struct timespec real_until = moved(*until, -shift(CLOCK_REALTIME));
    return real(semaphore, &real_until);
}

int pthread_cond_timedwait(pthread_cond_t *restrict condition, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until)
{
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    static const char *const versions[] = {"GLIBC_2.3.2", "GLIBC_2.17", "GLIBC_2.2.5"};
    for (size_t i = 0; !real && i < sizeof versions / sizeof *versions; i++)
        real = (int (*)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *))dlvsym(
            RTLD_NEXT, "pthread_cond_timedwait", versions[i]);
    /* Its clock is not asked for: a deadline of more than thirty years of uptime is one of the wall clock. */
    clockid_t id = until->tv_sec > 1000000000 ? CLOCK_REALTIME : CLOCK_MONOTONIC;
    struct timespec real_until = moved(*until, -shift(id));
    return real(condition, mutex, &real_until);
}

int clock_nanosleep(clockid_t id, int flags, const struct timespec *until, struct timespec *left)
{
    REAL(clock_nanosleep);
    struct timespec real_until = flags & TIMER_ABSTIME ? moved(*until, -shift(id)) : *until;
    return real(id, flags, &real_until, left);
}
