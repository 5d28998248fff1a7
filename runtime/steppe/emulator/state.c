/* The shared file: created by the first process that asks, mapped by all. */
#include "nvemu.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define LAYOUT_MAGIC 0x5354455050453033ull /* change it when the shared layout changes */

shared_t *shared;
static struct stat shared_file;
static pthread_mutex_t attach_mutex = PTHREAD_MUTEX_INITIALIZER;

static uint64_t read_clock(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

uint64_t monotonic_ns(void)
{
    return read_clock(CLOCK_MONOTONIC);
}

uint64_t now_ns(void)
{
    return shared->virtual_clock ? shared->virtual_now_ns : monotonic_ns() + shared->offset_ns;
}

uint64_t next_multiple(uint64_t t, uint64_t period)
{
    return (t / period + 1) * period;
}

void lock(void)
{
    /* The mutex is robust: a process killed inside a call must not hang the others. */
    if (pthread_mutex_lock(&shared->mutex) == EOWNERDEAD)
        pthread_mutex_consistent(&shared->mutex);
}

void unlock(void)
{
    pthread_mutex_unlock(&shared->mutex);
}

static void create_gpu(gpu_t *gpu, unsigned index, const profile_t *profile, uint64_t t_ns)
{
    gpu->profile = *profile;
    gpu->index = index;
    gpu->alive = 1;
    gpu->persistence = 1;
    snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-%08x-e000-4e56-8000-%012x", 0x5eed0000u + index,
             index);
    snprintf(gpu->bus_id, sizeof gpu->bus_id, "00000000:%02X:00.0", 0x10 + index * 8);
    snprintf(gpu->serial, sizeof gpu->serial, "16500%08u", index);

    gpu->counter_scale = 1;
    gpu->limit_w = profile->max_limit_w;
    gpu->load_until_ns = FOREVER_NS;
    gpu->clock_mhz = profile->idle_mhz;
    gpu->ceiling_mhz = profile->max_mhz;
    gpu->temp_c = profile->ambient_c + profile->heat_c_per_w * profile->idle_w;
    gpu->t_ns = t_ns;
    gpu->reasons = REASON_IDLE;
    gpu->power_w = gpu_power_at(gpu, gpu->clock_mhz);
    sensors_start(gpu);
}

/* Add the GPUs of one item of a spec, such as "h100x4". */
static int create_group(shared_t *s, char *item, uint64_t t_ns)
{
    char *x = strrchr(item, 'x'), *end = NULL;
    long count = x ? strtol(x + 1, &end, 10) : 0;
    if (!x || end == x + 1 || *end || count < 1 || count > MAX_GPUS)
        return INVALID_ARGUMENT;
    *x = '\0';
    const profile_t *profile = find_profile(item);
    if (!profile || s->num_gpus + (unsigned)count > MAX_GPUS)
        return INVALID_ARGUMENT;
    for (long i = 0; i < count; i++) {
        create_gpu(&s->gpus[s->num_gpus], s->num_gpus, profile, t_ns);
        s->num_gpus++;
    }
    return OK;
}

static void create_mutex(pthread_mutex_t *mutex)
{
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

static int create_shared(shared_t *s, const char *spec)
{
    char items[GPU_SPEC_SIZE], *rest;
    uint64_t t_ns = monotonic_ns();
    memset(s, 0, sizeof *s);
    if (!spec || strlen(spec) >= sizeof items)
        return INVALID_ARGUMENT;
    strcpy(items, spec);
    for (char *item = strtok_r(items, ",", &rest); item; item = strtok_r(NULL, ",", &rest))
        if (create_group(s, item, t_ns) != OK)
            return INVALID_ARGUMENT;
    if (!s->num_gpus || set_hardware_faults(s, getenv("STEPPE_EMULATED_FAULTS")) != OK)
        return INVALID_ARGUMENT;
    create_mutex(&s->mutex);
    strcpy(s->spec, spec);
    /* Whole seconds, so that sensor phases are the same in both. */
    s->epoch_ns = (read_clock(CLOCK_REALTIME) - t_ns) / NS_PER_S * NS_PER_S;
    s->size = sizeof *s;
    s->magic = LAYOUT_MAGIC;
    return OK;
}

/* Map an open state file and create its GPUs if it has none; the caller holds the file lock. */
static int map_shared(int fd, const char *spec, shared_t **result)
{
    struct stat status;
    if (fstat(fd, &status) != 0)
        return DRIVER_NOT_LOADED;
    /* Never write into a file that is not ours. */
    if (status.st_size != 0 && status.st_size != (off_t)sizeof(shared_t))
        return ARGUMENT_VERSION_MISMATCH;
    if (status.st_size == 0 && ftruncate(fd, sizeof(shared_t)) != 0)
        return DRIVER_NOT_LOADED;
    shared_t *s = mmap(NULL, sizeof(shared_t), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (s == MAP_FAILED)
        return DRIVER_NOT_LOADED;

    int error = OK;
    if (s->magic == 0)
        error = create_shared(s, spec);
    else if (s->magic != LAYOUT_MAGIC || s->size != sizeof *s)
        error = ARGUMENT_VERSION_MISMATCH;
    else if (spec && strcmp(s->spec, spec) != 0)
        error = NOT_FOUND;
    if (error) {
        munmap(s, sizeof *s);
        return error;
    }
    fstat(fd, &shared_file);
    *result = s;
    return OK;
}

static int is_attached_to(const char *path)
{
    struct stat status;
    return shared && stat(path, &status) == 0 && status.st_dev == shared_file.st_dev
           && status.st_ino == shared_file.st_ino;
}

/*
 * Attach this process to a state file; a new one gets the GPUs of `spec`. NULL: the GPUs must be
 * there. An earlier mapping stays mapped, so that old handles are refused and do not crash.
 */
int attach(const char *path, const char *spec)
{
    pthread_mutex_lock(&attach_mutex);
    int error = OK;
    if (is_attached_to(path)) {
        error = spec && strcmp(shared->spec, spec) != 0 ? NOT_FOUND : OK;
    } else {
        /* Its name can be guessed, in a folder where anybody may write. */
        int fd = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW | (spec ? O_CREAT : 0), 0600);
        if (fd < 0) {
            error = DRIVER_NOT_LOADED;
        } else {
            /* Two processes must not create the GPUs at the same time. */
            flock(fd, LOCK_EX);
            error = map_shared(fd, spec, &shared);
            flock(fd, LOCK_UN);
            close(fd);
        }
    }
    pthread_mutex_unlock(&attach_mutex);
    return error;
}

int attach_from_environment(void)
{
    const char *path = getenv("STEPPE_EMULATED_STATE");
    if (shared)
        return OK;
    if (!path)
        return DRIVER_NOT_LOADED;
    return attach(path, getenv("STEPPE_EMULATED_GPUS")) ? DRIVER_NOT_LOADED : OK;
}
