/* NVML: power, energy, clocks, load and temperature. */
#include "nvemu.h"

#include <math.h>

/* Ids of nvmlDeviceGetFieldValues that are emulated. */
enum {
    FIELD_POWER_VIOLATION = 74,
    FIELD_TOTAL_ENERGY = 83,
    FIELD_POWER_AVERAGE = 185,
    FIELD_POWER_INSTANT = 186,
    FIELD_POWER_MIN_LIMIT = 187,
    FIELD_POWER_MAX_LIMIT = 188,
    FIELD_POWER_DEFAULT_LIMIT = 189,
    FIELD_POWER_CURRENT_LIMIT = 190,
    FIELD_POWER_REQUESTED_LIMIT = 192,
};

enum { VALUE_UNSIGNED_INT = 1, VALUE_UNSIGNED_LONG_LONG = 3 };
enum { CLOCK_GRAPHICS = 0, CLOCK_SM = 1, CLOCK_MEM = 2, CLOCK_VIDEO = 3 };
enum { SHUTDOWN_C = 92, SLOWDOWN_C = 89 };

#define VIDEO_CLOCK_RATIO 0.85
#define MEMORY_RAIL_IDLE_SHARE 0.3 /* of idle_w; illustrative */

GETTER(nvmlDeviceGetPowerManagementMode, unsigned, 1)
GETTER(nvmlDeviceGetPowerManagementLimit, unsigned, milli(gpu->limit_w))
GETTER(nvmlDeviceGetEnforcedPowerLimit, unsigned, milli(gpu->limit_w))
GETTER(nvmlDeviceGetPowerManagementDefaultLimit, unsigned, milli(gpu->profile.max_limit_w))
GETTER(nvmlDeviceGetPowerUsage, unsigned,
       milli(gpu->profile.power_usage_is_average ? gpu->average_w : sensors_instant_w(gpu)))

static ull energy_mj(const gpu_t *gpu)
{
    return (ull)(gpu->counter_j * 1e3);
}

API int nvmlDeviceGetPowerManagementLimitConstraints(gpu_t *gpu, unsigned *min, unsigned *max)
{
    ENTER(gpu);
    if (!min || !max)
        return leave(INVALID_ARGUMENT);
    *min = milli(gpu->profile.min_limit_w);
    *max = milli(gpu->profile.max_limit_w);
    return leave(OK);
}

API int nvmlDeviceGetTotalEnergyConsumption(gpu_t *gpu, ull *millijoules)
{
    ENTER(gpu);
    if (!gpu->profile.has_energy)
        return leave(NOT_SUPPORTED);
    if (!millijoules)
        return leave(INVALID_ARGUMENT);
    *millijoules = energy_mj(gpu);
    return leave(OK);
}

typedef struct {
    unsigned id, scope;
    int64_t timestamp_us, latency_us;
    unsigned type;
    int result;
    union {
        unsigned u;
        ull ull;
    } value;
} field_value_t;

static int has_power_field(const gpu_t *gpu, const field_value_t *field)
{
    const profile_t *p = &gpu->profile;
    if (field->id == FIELD_POWER_AVERAGE && !p->has_average_field)
        return 0;
    if (field->scope == SCOPE_MEMORY && !p->has_memory_scope)
        return 0;
    return p->has_power_fields && field->scope != SCOPE_MODULE;
}

static double power_field_w(gpu_t *gpu, const field_value_t *field)
{
    const profile_t *p = &gpu->profile;
    switch (field->id) {
    case FIELD_POWER_MIN_LIMIT:
        return p->min_limit_w;
    case FIELD_POWER_MAX_LIMIT:
    case FIELD_POWER_DEFAULT_LIMIT:
        return p->max_limit_w;
    case FIELD_POWER_CURRENT_LIMIT:
    case FIELD_POWER_REQUESTED_LIMIT:
        return gpu->limit_w;
    }
    if (field->scope == SCOPE_MEMORY)
        return p->mem_w * gpu_mem_load(gpu) + MEMORY_RAIL_IDLE_SHARE * p->idle_w;
    return field->id == FIELD_POWER_AVERAGE ? gpu->average_w : sensors_instant_w(gpu);
}

static void read_field(gpu_t *gpu, field_value_t *field)
{
    field->timestamp_us = (int64_t)((now_ns() + shared->epoch_ns) / 1000);
    field->latency_us = 0;
    field->type = VALUE_UNSIGNED_LONG_LONG;
    field->result = OK;
    field->value.ull = 0;

    switch (field->id) {
    case FIELD_TOTAL_ENERGY:
        field->result = gpu->profile.has_energy ? OK : NOT_SUPPORTED;
        field->value.ull = gpu->profile.has_energy ? energy_mj(gpu) : 0;
        break;
    case FIELD_POWER_VIOLATION:
        field->value.ull = gpu->limited_ns;
        break;
    case FIELD_POWER_AVERAGE:
    case FIELD_POWER_INSTANT:
    case FIELD_POWER_MIN_LIMIT:
    case FIELD_POWER_MAX_LIMIT:
    case FIELD_POWER_DEFAULT_LIMIT:
    case FIELD_POWER_CURRENT_LIMIT:
    case FIELD_POWER_REQUESTED_LIMIT:
        field->type = VALUE_UNSIGNED_INT;
        field->result = has_power_field(gpu, field) ? OK : NOT_SUPPORTED;
        field->value.u = field->result == OK ? milli(power_field_w(gpu, field)) : 0;
        break;
    default:
        field->result = NOT_SUPPORTED;
    }
}

API int nvmlDeviceGetFieldValues(gpu_t *gpu, int count, field_value_t *fields)
{
    ENTER(gpu);
    if (!fields)
        return leave(INVALID_ARGUMENT);
    for (int i = 0; i < count; i++)
        read_field(gpu, &fields[i]);
    return leave(OK);
}

typedef struct {
    ull reference_us, violation_ns;
} violation_t;

API int nvmlDeviceGetViolationStatus(gpu_t *gpu, unsigned policy, violation_t *status)
{
    const unsigned policy_power = 0;
    ENTER(gpu);
    if (!status)
        return leave(INVALID_ARGUMENT);
    status->reference_us = (now_ns() + shared->epoch_ns) / 1000;
    status->violation_ns = policy == policy_power ? gpu->limited_ns : 0;
    return leave(OK);
}

GETTER(nvmlDeviceGetCurrentClocksEventReasons, ull, gpu->reasons)
GETTER(nvmlDeviceGetCurrentClocksThrottleReasons, ull, gpu->reasons)
GETTER(nvmlDeviceGetSupportedClocksEventReasons, ull, REASONS_SUPPORTED)
GETTER(nvmlDeviceGetSupportedClocksThrottleReasons, ull, REASONS_SUPPORTED)

/* P0 when awake, P8 when asleep. */
static unsigned performance_state(const gpu_t *gpu)
{
    return gpu_activity(gpu) > 0 || gpu->num_contexts ? 0 : 8;
}

GETTER(nvmlDeviceGetPerformanceState, unsigned, performance_state(gpu))
GETTER(nvmlDeviceGetPowerState, unsigned, performance_state(gpu))

static unsigned current_clock(const gpu_t *gpu, unsigned domain)
{
    if (domain == CLOCK_MEM)
        return gpu->profile.mem_mhz;
    return (unsigned)round(gpu->clock_mhz * (domain == CLOCK_VIDEO ? VIDEO_CLOCK_RATIO : 1));
}

static unsigned largest_clock(const gpu_t *gpu, unsigned domain)
{
    return domain == CLOCK_MEM ? gpu->profile.mem_mhz : gpu->profile.max_mhz;
}

API int nvmlDeviceGetClockInfo(gpu_t *gpu, unsigned domain, unsigned *mhz)
{
    ENTER(gpu);
    if (domain > CLOCK_VIDEO || !mhz)
        return leave(INVALID_ARGUMENT);
    *mhz = current_clock(gpu, domain);
    return leave(OK);
}

API int nvmlDeviceGetMaxClockInfo(gpu_t *gpu, unsigned domain, unsigned *mhz)
{
    ENTER(gpu);
    if (domain > CLOCK_VIDEO || !mhz)
        return leave(INVALID_ARGUMENT);
    *mhz = largest_clock(gpu, domain);
    return leave(OK);
}

API int nvmlDeviceGetClock(gpu_t *gpu, unsigned domain, unsigned id, unsigned *mhz)
{
    const unsigned last_id = 3; /* 0: current; 1 to 3: kinds of maximum */
    ENTER(gpu);
    if (domain > CLOCK_VIDEO || id > last_id || !mhz)
        return leave(INVALID_ARGUMENT);
    *mhz = id ? largest_clock(gpu, domain) : current_clock(gpu, domain);
    return leave(OK);
}

static unsigned celsius(const gpu_t *gpu)
{
    return (unsigned)round(gpu->temp_c);
}

API int nvmlDeviceGetTemperature(gpu_t *gpu, unsigned sensor, unsigned *reading)
{
    ENTER(gpu);
    if (sensor != 0 || !reading)
        return leave(INVALID_ARGUMENT);
    *reading = celsius(gpu);
    return leave(OK);
}

typedef struct {
    unsigned version, sensor;
    int celsius;
} temperature_t;

API int nvmlDeviceGetTemperatureV(gpu_t *gpu, temperature_t *reading)
{
    ENTER(gpu);
    if (!reading)
        return leave(INVALID_ARGUMENT);
    if (reading->version != VERSION(temperature_t, 1))
        return leave(ARGUMENT_VERSION_MISMATCH);
    reading->celsius = (int)celsius(gpu);
    return leave(OK);
}

API int nvmlDeviceGetTemperatureThreshold(gpu_t *gpu, unsigned kind, unsigned *reading)
{
    const unsigned kind_shutdown = 0;
    ENTER(gpu);
    if (!reading)
        return leave(INVALID_ARGUMENT);
    *reading = kind == kind_shutdown ? SHUTDOWN_C : SLOWDOWN_C;
    return leave(OK);
}
