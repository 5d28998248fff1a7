/* What a recording of another GPU says: its constants and its readings. recorded.py wraps it. */
#include "nvemu.h"

#include <math.h>
#include <stddef.h>
#include <string.h>

#define SHORTEST_PERIOD_NS MS(1)
#define LARGEST 1e6
#define LARGEST_COUNTER_J 1e15

/* The constants of a profile that a recording may tell; times that end in _ns are given in s. */
static const struct {
    const char *name;
    size_t offset;
    int is_ns;
} constants[] = {
    {"idle_w", offsetof(profile_t, idle_w), 0},
    {"lock_latency_s", offsetof(profile_t, lock_latency_ns), 1},
    {"limit_down_tau_s", offsetof(profile_t, limit_down_tau_s), 0},
    {"limit_up_tau_s", offsetof(profile_t, limit_up_tau_s), 0},
    {"energy_period_s", offsetof(profile_t, energy_period_ns), 1},
    {"power_period_s", offsetof(profile_t, power_period_ns), 1},
    {"power_window_s", offsetof(profile_t, power_window_ns), 1},
};

static void write_constant(profile_t *profile, unsigned which, double value)
{
    char *place = (char *)profile + constants[which].offset;
    if (constants[which].is_ns)
        *(uint64_t *)place = (uint64_t)llround(value * 1e9);
    else
        *(double *)place = value;
}

static int is_usable(const profile_t *p)
{
    return p->energy_period_ns >= SHORTEST_PERIOD_NS && p->power_period_ns >= SHORTEST_PERIOD_NS
           && p->power_window_ns > 0;
}

/* Replace one constant; a power window longer than its period is cut to it. */
API int nvemu_set_constant(unsigned index, const char *name, double value)
{
    gpu_t *gpu = control_gpu(index);
    if (!gpu)
        return NOT_FOUND;
    if (!(value > 0 && value <= LARGEST))
        return leave(INVALID_ARGUMENT);
    for (unsigned i = 0; i < sizeof constants / sizeof *constants; i++) {
        if (strcmp(constants[i].name, name) != 0)
            continue;
        profile_t changed = gpu->profile;
        write_constant(&changed, i, value);
        if (changed.power_window_ns > changed.power_period_ns)
            changed.power_window_ns = changed.power_period_ns;
        if (!is_usable(&changed))
            return leave(INVALID_ARGUMENT);
        gpu->profile = changed;
        return leave(OK);
    }
    return leave(INVALID_ARGUMENT);
}

/* Show these readings until the next ones; the model stands still, and the counter is the truth. */
API int nvemu_show(unsigned index, double counter_j, double instant_w, double average_w, double mhz)
{
    gpu_t *gpu = control_gpu(index);
    if (!gpu)
        return NOT_FOUND;
    int is_shown = counter_j <= LARGEST_COUNTER_J && mhz <= LARGEST;
    if (!(is_shown && counter_j >= 0 && instant_w >= 0 && average_w >= 0 && mhz >= 0))
        return leave(INVALID_ARGUMENT);
    gpu->is_replayed = 1;
    gpu->true_j = gpu->counter_j = counter_j;
    gpu->power_w = gpu->instant_w = instant_w;
    gpu->average_w = average_w;
    gpu->clock_mhz = mhz;
    return leave(OK);
}
