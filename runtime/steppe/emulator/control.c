/* What a workload or a test does to the GPUs; not part of NVML. library.py wraps it. */
#include "nvemu.h"

#include <math.h>

#define LONGEST_LEASE_S 1e9 /* longer ones never end */
#define LONGEST_TICK_S 1e7

gpu_t *control_gpu(unsigned index)
{
    if (!shared || index >= shared->num_gpus)
        return NULL;
    gpu_t *gpu = &shared->gpus[index];
    lock();
    advance(gpu, now_ns());
    drop_dead_contexts(gpu);
    return gpu;
}

/* Attach this process to a state file; `spec` as STEPPE_EMULATED_GPUS, or NULL. */
API int nvemu_attach(const char *path, const char *spec)
{
    return attach(path, spec);
}

API int nvemu_count(void)
{
    return shared ? (int)shared->num_gpus : 0;
}

static int is_share(double x)
{
    return x >= 0 && x <= 1;
}

/* Shares of compute and of memory-bandwidth time in use, for the next valid_s seconds. */
API int nvemu_set_load(unsigned index, double core, double mem, double valid_s)
{
    if (!is_share(core) || !is_share(mem) || !(valid_s >= 0))
        return INVALID_ARGUMENT;
    gpu_t *gpu = control_gpu(index);
    if (!gpu)
        return NOT_FOUND;
    gpu->core_load = core;
    gpu->mem_load = mem;
    gpu->load_until_ns
        = valid_s > LONGEST_LEASE_S ? FOREVER_NS : now_ns() + (uint64_t)llround(valid_s * 1e9);
    return leave(OK);
}

/* A process holds memory on the GPU, until it ends or clears its context. */
API int nvemu_set_context(unsigned index, unsigned pid, ull mem_bytes)
{
    gpu_t *gpu = control_gpu(index);
    return gpu ? leave(set_context(gpu, pid, mem_bytes)) : NOT_FOUND;
}

API int nvemu_clear_context(unsigned index, unsigned pid)
{
    gpu_t *gpu = control_gpu(index);
    if (!gpu)
        return NOT_FOUND;
    clear_context(gpu, pid);
    return leave(OK);
}

/* A GPU that is not alive answers GPU_IS_LOST to every call. */
API int nvemu_set_alive(unsigned index, int alive)
{
    gpu_t *gpu = control_gpu(index);
    if (!gpu)
        return NOT_FOUND;
    gpu->alive = alive != 0;
    return leave(OK);
}

/* The energy counter starts at 0 again, as after a driver reload; the truth goes on. */
API int nvemu_reset_counter(unsigned index)
{
    gpu_t *gpu = control_gpu(index);
    if (!gpu)
        return NOT_FOUND;
    gpu->counted_j = gpu->true_j;
    gpu->counter_j = 0;
    return leave(OK);
}

/* Counter and power readings stand still; the truth goes on. */
API int nvemu_freeze(unsigned index, int on)
{
    gpu_t *gpu = control_gpu(index);
    if (!gpu)
        return NOT_FOUND;
    gpu->frozen = on != 0;
    return leave(OK);
}

/* The next `count` readings of the instant power return `watts`. */
API int nvemu_spike(unsigned index, double watts, unsigned count)
{
    if (!(watts >= 0))
        return INVALID_ARGUMENT;
    gpu_t *gpu = control_gpu(index);
    if (!gpu)
        return NOT_FOUND;
    gpu->spike_w = watts;
    gpu->spikes_left = count;
    return leave(OK);
}

static void advance_all(void)
{
    for (unsigned i = 0; i < shared->num_gpus; i++)
        advance(&shared->gpus[i], now_ns());
}

/* Stop real time for all processes: only nvemu_tick moves it. Time never goes back. */
API int nvemu_virtual(int on)
{
    if (!shared)
        return UNINITIALIZED;
    lock();
    advance_all();
    /* Start on a whole second, so that sensor phases are the same in every run. */
    if (on && !shared->virtual_clock)
        shared->virtual_now_ns = next_multiple(now_ns(), NS_PER_S);
    if (!on && shared->virtual_clock)
        shared->offset_ns = shared->virtual_now_ns - monotonic_ns();
    shared->virtual_clock = on != 0;
    advance_all();
    return leave(OK);
}

API int nvemu_tick(double seconds)
{
    if (!shared)
        return UNINITIALIZED;
    if (!(seconds >= 0 && seconds <= LONGEST_TICK_S) || !shared->virtual_clock)
        return INVALID_ARGUMENT;
    lock();
    shared->virtual_now_ns += (uint64_t)llround(seconds * 1e9);
    advance_all();
    return leave(OK);
}

/* Mirrored by library.py. */
typedef struct {
    double now_s, true_j, counter_j, power_w, instant_w, average_w;
    double clock_mhz, max_mhz, temp_c, limit_w, core_load, mem_load;
    unsigned lock_min_mhz, lock_max_mhz;
    ull reasons, num_clock_sets, num_limit_sets, mem_bytes, num_contexts;
} snapshot_t;

/* The true state of a GPU, which NVML does not show. */
API int nvemu_snap(unsigned index, snapshot_t *out)
{
    gpu_t *gpu = control_gpu(index);
    if (!gpu)
        return NOT_FOUND;
    *out = (snapshot_t){
        .now_s = (double)now_ns() * 1e-9,
        .true_j = gpu->true_j,
        .counter_j = gpu->counter_j,
        .power_w = gpu->power_w,
        .instant_w = gpu->instant_w,
        .average_w = gpu->average_w,
        .clock_mhz = gpu->clock_mhz,
        .max_mhz = gpu->profile.max_mhz,
        .temp_c = gpu->temp_c,
        .limit_w = gpu->limit_w,
        .core_load = gpu->core_load,
        .mem_load = gpu->mem_load,
        .lock_min_mhz = gpu->lock.min_mhz,
        .lock_max_mhz = gpu->lock.max_mhz,
        .reasons = gpu->reasons,
        .num_clock_sets = gpu->num_clock_sets,
        .num_limit_sets = gpu->num_limit_sets,
        .mem_bytes = contexts_bytes(gpu),
        .num_contexts = gpu->num_contexts,
    };
    return leave(OK);
}

/* Clock relative to the highest; negative when there is no such GPU. */
API double nvemu_speed(unsigned index)
{
    gpu_t *gpu = control_gpu(index);
    if (!gpu)
        return -1;
    double speed = gpu->clock_mhz / gpu->profile.max_mhz;
    unlock();
    return speed;
}
