/* Faults that tests inject: any function, any GPU, any error, a number of times, late. */
#include "nvemu.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static void sleep_s(double seconds)
{
    struct timespec t = {(time_t)seconds, (long)(fmod(seconds, 1) * 1e9)};
    while (nanosleep(&t, &t) != 0 && errno == EINTR)
        continue;
}

/* Length of a function name without its version: pynvml's GetCount calls GetCount_v2. */
static size_t plain_length(const char *function)
{
    size_t n = strlen(function);
    return n > 3 && strncmp(function + n - 3, "_v", 2) == 0 ? n - 3 : n;
}

static int hits(const fault_t *fault, const char *function, int gpu)
{
    if (!fault->left || (fault->gpu >= 0 && fault->gpu != gpu))
        return 0;
    if (strcmp(fault->function, "*") == 0)
        return 1;
    size_t n = plain_length(function);
    return n == plain_length(fault->function) && strncmp(function, fault->function, n) == 0;
}

/* Apply the first matching fault; the caller holds the lock. */
int apply_fault(const char *function, int gpu)
{
    for (int i = 0; i < MAX_FAULTS; i++) {
        fault_t *fault = &shared->faults[i];
        if (!hits(fault, function, gpu))
            continue;
        int error = fault->error;
        double delay_s = fault->delay_s;
        if (fault->left > 0)
            fault->left--;
        if (delay_s > 0) {
            unlock(); /* a slow call must not stall other callers */
            sleep_s(delay_s);
            lock();
        }
        return error;
    }
    return OK;
}

/* Let the next `count` calls (negative: all) fail with `error`, be late, or both. */
API int nvemu_inject(const char *function, int gpu, int error, int count, double delay_s)
{
    if (!shared)
        return UNINITIALIZED;
    if (!(delay_s >= 0 && delay_s < 3600) || strlen(function) >= FUNCTION_NAME_SIZE)
        return INVALID_ARGUMENT;
    if (gpu >= (int)shared->num_gpus)
        return INVALID_ARGUMENT;
    lock();
    for (int i = 0; i < MAX_FAULTS; i++) {
        fault_t *fault = &shared->faults[i];
        if (fault->left)
            continue;
        snprintf(fault->function, sizeof fault->function, "%s", function);
        fault->gpu = gpu;
        fault->error = error;
        fault->left = count;
        fault->delay_s = delay_s;
        return leave(OK);
    }
    return leave(INSUFFICIENT_SIZE);
}

API int nvemu_clear_faults(void)
{
    if (!shared)
        return UNINITIALIZED;
    lock();
    memset(shared->faults, 0, sizeof shared->faults);
    for (unsigned i = 0; i < shared->num_gpus; i++)
        shared->gpus[i].spikes_left = 0;
    return leave(OK);
}
