/* What every NVML call has in common: initialised, a valid handle, faults, privilege. */
#include "nvemu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CAP_SYS_ADMIN_BIT 21

int init_count;

static int is_handle(const gpu_t *gpu)
{
    for (unsigned i = 0; i < shared->num_gpus; i++)
        if (gpu == &shared->gpus[i])
            return 1;
    return 0;
}

/* Start a call about the library as a whole; it ends without the lock. */
int enter_library(const char *function)
{
    if (!__atomic_load_n(&init_count, __ATOMIC_SEQ_CST) || !shared)
        return UNINITIALIZED;
    lock();
    int error = apply_fault(function, -1);
    unlock();
    return error;
}

/* Start a device call. On success the lock is held and the GPU is at "now". */
int enter(const char *function, const gpu_t *handle)
{
    if (!__atomic_load_n(&init_count, __ATOMIC_SEQ_CST) || !shared)
        return UNINITIALIZED;
    if (!is_handle(handle))
        return INVALID_ARGUMENT;
    gpu_t *gpu = &shared->gpus[handle - shared->gpus];
    lock();
    int error = apply_fault(function, (int)gpu->index);
    if (!gpu->alive)
        error = GPU_IS_LOST;
    if (error)
        return leave(error);
    advance(gpu, now_ns());
    drop_dead_contexts(gpu);
    return OK;
}

/* End a device call. */
int leave(int result)
{
    unlock();
    return result;
}

static int has_admin_capability(void)
{
    int found = 0;
    char line[256];
    FILE *file = fopen("/proc/self/status", "re");
    if (!file)
        return 0;
    while (fgets(line, sizeof line, file)) {
        ull mask;
        if (sscanf(line, "CapEff: %llx", &mask) == 1)
            found = (mask >> CAP_SYS_ADMIN_BIT) & 1;
    }
    fclose(file);
    return found;
}

int may_set_limits(const gpu_t *gpu)
{
    if (gpu->is_forbidden)
        return 0;
    const char *forced = getenv("STEPPE_EMULATED_PRIVILEGE");
    return forced ? strcmp(forced, "0") != 0 : has_admin_capability();
}

int copy_text(char *buffer, unsigned size, const char *text)
{
    if (!buffer)
        return INVALID_ARGUMENT;
    if (strlen(text) + 1 > size)
        return INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return OK;
}

/* Thousandths, as NVML counts watts; what does not fit is the largest or smallest number. */
unsigned milli(double x)
{
    double thousandths = x * 1e3 + 0.5;
    if (!(thousandths >= 0))
        return 0;
    return thousandths >= UINT32_MAX ? UINT32_MAX : (unsigned)thousandths;
}
