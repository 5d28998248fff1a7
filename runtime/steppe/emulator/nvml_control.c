/* NVML: the knobs. Locked clocks outlive the process that set them, as on a real GPU. */
#include "nvemu.h"

#include <math.h>

#define LIMIT_TOLERANCE_W 1e-6
#define SYMBOLIC_CLOCK_MIN 0xffffff00u /* "as low or as high as possible" */

/* Clocks are supported in steps down from the highest. */
static unsigned supported_clock(const profile_t *p, unsigned index)
{
    return (unsigned)(p->max_mhz - index * p->step_mhz + 1e-3);
}

static unsigned num_supported_clocks(const profile_t *p)
{
    return (unsigned)((p->max_mhz - p->min_mhz) / p->step_mhz + 1e-3) + 1;
}

/* The highest supported clock that is not above `mhz`. */
static unsigned round_down(const profile_t *p, unsigned mhz)
{
    if (mhz >= p->max_mhz)
        return p->max_mhz;
    unsigned n = num_supported_clocks(p);
    for (unsigned i = 0; i < n; i++)
        if (supported_clock(p, i) <= mhz)
            return supported_clock(p, i);
    return supported_clock(p, n - 1);
}

API int nvmlDeviceGetSupportedMemoryClocks(gpu_t *gpu, unsigned *count, unsigned *mhz)
{
    ENTER(gpu);
    if (!count)
        return leave(INVALID_ARGUMENT);
    unsigned room = *count;
    *count = 1;
    if (room < 1 || !mhz)
        return leave(INSUFFICIENT_SIZE);
    mhz[0] = gpu->profile.mem_mhz;
    return leave(OK);
}

API int nvmlDeviceGetSupportedGraphicsClocks(gpu_t *gpu, unsigned mem_mhz, unsigned *count,
                                             unsigned *mhz)
{
    ENTER(gpu);
    const profile_t *p = &gpu->profile;
    if (!count)
        return leave(INVALID_ARGUMENT);
    if (mem_mhz != p->mem_mhz)
        return leave(NOT_FOUND);
    unsigned room = *count;
    *count = num_supported_clocks(p);
    if (room < *count || !mhz)
        return leave(INSUFFICIENT_SIZE);
    for (unsigned i = 0; i < *count; i++)
        mhz[i] = supported_clock(p, i);
    return leave(OK);
}

/* A lock takes hold only after lock_latency_ns; a newer one replaces one that is under way. */
static void request_lock(gpu_t *gpu, unsigned min_mhz, unsigned max_mhz)
{
    gpu->pending_lock = (clock_lock_t){min_mhz, max_mhz};
    gpu->pending_at_ns = now_ns() + gpu->profile.lock_latency_ns;
    gpu->lock_is_pending = 1;
    gpu->num_clock_sets++;
}

API int nvmlDeviceSetGpuLockedClocks(gpu_t *gpu, unsigned min_mhz, unsigned max_mhz)
{
    ENTER(gpu);
    REQUIRE_PRIVILEGE();
    const profile_t *p = &gpu->profile;
    if (!p->has_clock_lock)
        return leave(NOT_SUPPORTED);

    int min_is_symbolic = min_mhz >= SYMBOLIC_CLOCK_MIN;
    int max_is_symbolic = max_mhz >= SYMBOLIC_CLOCK_MIN;
    if (min_is_symbolic != max_is_symbolic)
        return leave(INVALID_ARGUMENT);
    if (min_is_symbolic)
        request_lock(gpu, 0, 0);
    else if (min_mhz > max_mhz)
        return leave(INVALID_ARGUMENT);
    else
        request_lock(gpu, round_down(p, min_mhz), round_down(p, max_mhz));
    return leave(OK);
}

API int nvmlDeviceResetGpuLockedClocks(gpu_t *gpu)
{
    ENTER(gpu);
    REQUIRE_PRIVILEGE();
    if (!gpu->profile.has_clock_lock)
        return leave(NOT_SUPPORTED);
    request_lock(gpu, 0, 0);
    return leave(OK);
}

/* Memory clocks are accepted and ignored. */
API int nvmlDeviceSetMemoryLockedClocks(gpu_t *gpu, unsigned min_mhz, unsigned max_mhz)
{
    ENTER(gpu);
    REQUIRE_PRIVILEGE();
    if (min_mhz > max_mhz)
        return leave(INVALID_ARGUMENT);
    return leave(gpu->profile.arch < AMPERE ? NOT_SUPPORTED : OK);
}

API int nvmlDeviceResetMemoryLockedClocks(gpu_t *gpu)
{
    ENTER(gpu);
    REQUIRE_PRIVILEGE();
    return leave(gpu->profile.arch < AMPERE ? NOT_SUPPORTED : OK);
}

static int set_limit(gpu_t *gpu, double watts)
{
    if (watts < gpu->profile.min_limit_w - LIMIT_TOLERANCE_W)
        return INVALID_ARGUMENT;
    if (watts > gpu->profile.max_limit_w + LIMIT_TOLERANCE_W)
        return INVALID_ARGUMENT;
    gpu->limit_w = watts;
    gpu->num_limit_sets++;
    return OK;
}

API int nvmlDeviceSetPowerManagementLimit(gpu_t *gpu, unsigned milliwatts)
{
    ENTER(gpu);
    REQUIRE_PRIVILEGE();
    return leave(set_limit(gpu, milliwatts * 1e-3));
}

typedef struct {
    unsigned version, scope, milliwatts;
} power_value_t;

API int nvmlDeviceSetPowerManagementLimit_v2(gpu_t *gpu, power_value_t *value)
{
    ENTER(gpu);
    REQUIRE_PRIVILEGE();
    if (!value)
        return leave(INVALID_ARGUMENT);
    if (value->version != VERSION(power_value_t, 2))
        return leave(ARGUMENT_VERSION_MISMATCH);
    if (value->scope != SCOPE_GPU)
        return leave(NOT_SUPPORTED);
    return leave(set_limit(gpu, value->milliwatts * 1e-3));
}

API int nvmlDeviceSetPersistenceMode(gpu_t *gpu, unsigned mode)
{
    ENTER(gpu);
    REQUIRE_PRIVILEGE();
    gpu->persistence = mode != 0;
    return leave(OK);
}
