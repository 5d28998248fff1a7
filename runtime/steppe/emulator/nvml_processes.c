/* NVML: memory, utilisation and processes. */
#include "nvemu.h"

enum { NO_INSTANCE = -1 };

#define BAR1_BYTES (128ull << 30)

typedef struct {
    unsigned gpu, memory;
} utilization_t;

static unsigned percent(double share)
{
    return (unsigned)(share * 100 + 0.5);
}

API int nvmlDeviceGetUtilizationRates(gpu_t *gpu, utilization_t *rates)
{
    ENTER(gpu);
    if (!rates)
        return leave(INVALID_ARGUMENT);
    rates->gpu = percent(gpu_activity(gpu));
    rates->memory = percent(gpu_mem_load(gpu));
    return leave(OK);
}

typedef struct {
    ull total, free, used;
} memory_t;

typedef struct {
    unsigned version;
    ull total, reserved, free, used;
} memory_v2_t;

API int nvmlDeviceGetMemoryInfo(gpu_t *gpu, memory_t *memory)
{
    ENTER(gpu);
    if (!memory)
        return leave(INVALID_ARGUMENT);
    memory->total = gpu->profile.mem_bytes;
    memory->used = contexts_bytes(gpu);
    memory->free = memory->total - memory->used;
    return leave(OK);
}

API int nvmlDeviceGetMemoryInfo_v2(gpu_t *gpu, memory_v2_t *memory)
{
    ENTER(gpu);
    if (!memory)
        return leave(INVALID_ARGUMENT);
    if (memory->version != VERSION(memory_v2_t, 2))
        return leave(ARGUMENT_VERSION_MISMATCH);
    memory->total = gpu->profile.mem_bytes;
    memory->reserved = 0;
    memory->used = contexts_bytes(gpu);
    memory->free = memory->total - memory->used;
    return leave(OK);
}

API int nvmlDeviceGetBAR1MemoryInfo(gpu_t *gpu, memory_t *memory)
{
    ENTER(gpu);
    if (!memory)
        return leave(INVALID_ARGUMENT);
    *memory = (memory_t){.total = BAR1_BYTES, .free = BAR1_BYTES, .used = 0};
    return leave(OK);
}

typedef struct {
    unsigned pid;
    ull mem_bytes;
    unsigned gpu_instance, compute_instance;
} process_info_t;

static int list_processes(const gpu_t *gpu, unsigned *count, process_info_t *out)
{
    if (!count)
        return INVALID_ARGUMENT;
    unsigned room = *count;
    *count = gpu->num_contexts;
    if (*count == 0)
        return OK;
    if (room < *count || !out)
        return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < *count; i++) {
        const context_t *context = &gpu->contexts[i];
        out[i] = (process_info_t){context->pid, context->mem_bytes, (unsigned)NO_INSTANCE,
                                  (unsigned)NO_INSTANCE};
    }
    return OK;
}

static int list_nothing(unsigned *count)
{
    if (!count)
        return INVALID_ARGUMENT;
    *count = 0;
    return OK;
}

API int nvmlDeviceGetComputeRunningProcesses_v3(gpu_t *gpu, unsigned *count, process_info_t *out)
{
    ENTER(gpu);
    return leave(list_processes(gpu, count, out));
}

API int nvmlDeviceGetComputeRunningProcesses_v2(gpu_t *gpu, unsigned *count, process_info_t *out)
{
    ENTER(gpu);
    return leave(list_processes(gpu, count, out));
}

API int nvmlDeviceGetGraphicsRunningProcesses_v3(gpu_t *gpu, unsigned *count, process_info_t *out)
{
    ENTER(gpu);
    (void)out;
    return leave(list_nothing(count));
}

API int nvmlDeviceGetGraphicsRunningProcesses_v2(gpu_t *gpu, unsigned *count, process_info_t *out)
{
    ENTER(gpu);
    (void)out;
    return leave(list_nothing(count));
}

typedef struct {
    unsigned pid;
    ull timestamp_us;
    unsigned sm, memory, encoder, decoder;
} process_utilization_t;

/* The load of a process: a neighbour's own; the workload's is shared out evenly. */
static double process_core_load(const gpu_t *gpu, const context_t *context)
{
    return context->core_load ? context->core_load : gpu->core_load / gpu->num_contexts;
}

static double process_mem_load(const gpu_t *gpu, const context_t *context)
{
    return context->mem_load ? context->mem_load : gpu->mem_load / gpu->num_contexts;
}

API int nvmlDeviceGetProcessUtilization(gpu_t *gpu, process_utilization_t *out, unsigned *count,
                                        ull last_seen_us)
{
    ENTER(gpu);
    (void)last_seen_us;
    if (!count)
        return leave(INVALID_ARGUMENT);
    unsigned n = gpu->num_contexts, room = *count;
    if (n == 0)
        return leave(NOT_FOUND);
    *count = n;
    if (!out || room < n)
        return leave(INSUFFICIENT_SIZE);
    for (unsigned i = 0; i < n; i++)
        out[i] = (process_utilization_t){
            .pid = gpu->contexts[i].pid,
            .timestamp_us = (now_ns() + shared->epoch_ns) / 1000,
            .sm = percent(process_core_load(gpu, &gpu->contexts[i])),
            .memory = percent(process_mem_load(gpu, &gpu->contexts[i])),
        };
    return leave(OK);
}

typedef struct {
    ull timestamp_us;
    unsigned pid, sm, memory, encoder, decoder, jpeg, optical_flow;
} process_utilization_v1_t;

typedef struct {
    unsigned version, count;
    ull last_seen_us;
    process_utilization_v1_t *processes;
} processes_utilization_t;

API int nvmlDeviceGetProcessesUtilizationInfo(gpu_t *gpu, processes_utilization_t *info)
{
    ENTER(gpu);
    if (!info)
        return leave(INVALID_ARGUMENT);
    if (info->version != VERSION(processes_utilization_t, 1))
        return leave(ARGUMENT_VERSION_MISMATCH);
    unsigned n = gpu->num_contexts, room = info->count;
    if (n == 0)
        return leave(NOT_FOUND);
    info->count = n;
    if (!info->processes || room < n)
        return leave(INSUFFICIENT_SIZE);
    for (unsigned i = 0; i < n; i++)
        info->processes[i] = (process_utilization_v1_t){
            .timestamp_us = (now_ns() + shared->epoch_ns) / 1000,
            .pid = gpu->contexts[i].pid,
            .sm = percent(process_core_load(gpu, &gpu->contexts[i])),
            .memory = percent(process_mem_load(gpu, &gpu->contexts[i])),
        };
    return leave(OK);
}
