/* Processes that hold memory on a GPU. A context ends with its process. */
#include "nvemu.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define CHECK_PERIOD_NS MS(250)

/* State letter and start time from /proc; 0 when they cannot be read. */
static int read_process(unsigned pid, char *state, ull *started)
{
    char path[32], text[512];
    snprintf(path, sizeof path, "/proc/%u/stat", pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = '\0';
    /* The name in brackets may hold blanks and brackets: the fields start after the last one.
     * The start time is field 22, the state is field 3. */
    const char *fields = strrchr(text, ')');
    return fields && sscanf(fields + 1,
                            " %c %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s %*s"
                            " %*s %*s %llu",
                            state, started) == 2;
}

static int is_running(const context_t *context)
{
    char state;
    ull started;
    if (!read_process(context->pid, &state, &started))
        return kill((pid_t)context->pid, 0) == 0 || errno == EPERM;
    return state != 'Z' && state != 'X' && (!context->started || started == context->started);
}

static context_t *find_context(gpu_t *gpu, unsigned pid)
{
    for (unsigned i = 0; i < gpu->num_contexts; i++)
        if (gpu->contexts[i].pid == pid)
            return &gpu->contexts[i];
    return NULL;
}

static void remove_context(gpu_t *gpu, context_t *context)
{
    gpu->num_contexts--;
    *context = gpu->contexts[gpu->num_contexts];
}

ull contexts_bytes(const gpu_t *gpu)
{
    ull sum = 0;
    for (unsigned i = 0; i < gpu->num_contexts; i++)
        sum += gpu->contexts[i].mem_bytes;
    return sum;
}

int set_context(gpu_t *gpu, unsigned pid, ull mem_bytes)
{
    context_t *context = find_context(gpu, pid);
    ull held = context ? context->mem_bytes : 0;
    ull others = contexts_bytes(gpu) - held;
    if (pid == 0 || pid > INT32_MAX)
        return INVALID_ARGUMENT;
    if (mem_bytes > gpu->profile.mem_bytes - others)
        return INSUFFICIENT_MEMORY;
    if (!context) {
        if (gpu->num_contexts == MAX_CONTEXTS)
            return INSUFFICIENT_SIZE;
        context = &gpu->contexts[gpu->num_contexts++];
        char state;
        context->pid = pid;
        context->started = 0;
        context->core_load = context->mem_load = 0;
        read_process(pid, &state, &context->started);
    }
    context->mem_bytes = mem_bytes;
    return OK;
}

/* A process that is not the workload uses the GPU, too; it needs a context. */
int set_context_load(gpu_t *gpu, unsigned pid, double core, double mem)
{
    context_t *context = find_context(gpu, pid);
    if (!context)
        return INVALID_ARGUMENT;
    context->core_load = core;
    context->mem_load = mem;
    return OK;
}

void clear_context(gpu_t *gpu, unsigned pid)
{
    context_t *context = find_context(gpu, pid);
    if (context)
        remove_context(gpu, context);
}

/*
 * Drop the contexts of processes that are gone, and the load with the last of them. Looks a
 * few times a second; under the virtual clock never, so that tests may name any process.
 */
void drop_dead_contexts(gpu_t *gpu)
{
    uint64_t now = monotonic_ns();
    if (!gpu->num_contexts || shared->virtual_clock)
        return;
    if (now - gpu->contexts_checked_ns < CHECK_PERIOD_NS)
        return;
    gpu->contexts_checked_ns = now;
    for (unsigned i = gpu->num_contexts; i-- > 0;)
        if (!is_running(&gpu->contexts[i]))
            remove_context(gpu, &gpu->contexts[i]);
    if (!gpu->num_contexts) {
        gpu->core_load = 0;
        gpu->mem_load = 0;
    }
}
