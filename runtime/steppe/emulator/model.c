/* The physical model of one GPU: clock, voltage, power, temperature. Modelled, not measured. */
#include "nvemu.h"

#include <math.h>

#define MODEL_STEP_NS MS(5)     /* longest integration step */
#define CLOCK_SEARCH_STEPS 24   /* bisection steps: resolves far below 1 MHz */
#define SLOWDOWN_C 87.0
#define SLOWDOWN_FACTOR 0.7
#define HARDWARE_SLOWDOWN_FACTOR 0.5 /* "by a factor of 2 or more", nvml.h */
#define NEAR 1e-9
#define LIMITED_MHZ 0.5         /* a ceiling this far below the wanted clock counts as binding */

/* Share of compute time in use: by the workload and by its neighbours. */
double gpu_core_load(const gpu_t *gpu)
{
    double sum = gpu->core_load;
    for (unsigned i = 0; i < gpu->num_contexts; i++)
        sum += gpu->contexts[i].core_load;
    return fmin(sum, 1);
}

/* Share of memory-bandwidth time in use: by the workload and by its neighbours. */
double gpu_mem_load(const gpu_t *gpu)
{
    double sum = gpu->mem_load;
    for (unsigned i = 0; i < gpu->num_contexts; i++)
        sum += gpu->contexts[i].mem_load;
    return fmin(sum, 1);
}

/* Share of time in which anything at all runs. */
double gpu_activity(const gpu_t *gpu)
{
    return fmax(gpu_core_load(gpu), gpu_mem_load(gpu));
}

/* Voltage as a share of the voltage at the highest clock: flat up to a knee, then linear. */
static double voltage_share(const profile_t *p, double mhz)
{
    if (mhz <= p->knee_mhz)
        return p->knee_v;
    return p->knee_v + (1 - p->knee_v) * (mhz - p->knee_mhz) / (p->max_mhz - p->knee_mhz);
}

/*
 * Power at a clock f with voltage share V:
 *   busy:            idle (1 + leakage) + static V^2 + core load V^2 f/fmax + mem load
 *   idle, context:   idle (1 + leakage) + context V^2
 *   idle:            idle (1 + leakage)
 */
double gpu_power_at(const gpu_t *gpu, double mhz)
{
    const profile_t *p = &gpu->profile;
    double v = voltage_share(p, mhz);
    double idle_w = p->idle_w * (1 + p->leak_per_c * (gpu->temp_c - p->ambient_c));
    if (gpu_activity(gpu) > 0) {
        double core_w = p->core_w * gpu_core_load(gpu) * v * v * mhz / p->max_mhz;
        return idle_w + p->static_w * v * v + core_w + p->mem_w * gpu_mem_load(gpu);
    }
    return gpu->num_contexts ? idle_w + p->context_w * v * v : idle_w;
}

/* What is left of the wanted clock while something slows the GPU down. */
static double slowdown(const gpu_t *gpu)
{
    const uint64_t by_hardware = REASON_HARDWARE | REASON_HARDWARE_THERMAL | REASON_POWER_BRAKE;
    if (gpu->forced_reasons & by_hardware)
        return HARDWARE_SLOWDOWN_FACTOR;
    int is_hot = gpu->temp_c >= SLOWDOWN_C || gpu->forced_reasons & REASON_THERMAL;
    return is_hot ? SLOWDOWN_FACTOR : 1;
}

/* The clock that workload, lock and temperature ask for. */
static double wanted_clock(const gpu_t *gpu)
{
    const profile_t *p = &gpu->profile;
    int awake = gpu_activity(gpu) > 0 || gpu->num_contexts;
    double mhz = awake ? p->max_mhz : p->idle_mhz;
    if (gpu->lock.max_mhz) {
        mhz = fmin(mhz, gpu->lock.max_mhz);
        mhz = fmax(mhz, gpu->lock.min_mhz);
    }
    return fmax(mhz * slowdown(gpu), fmin(mhz, p->min_mhz));
}

/* Highest clock up to `highest_mhz` that stays within the power limit. */
static double clock_within_limit(const gpu_t *gpu, double highest_mhz)
{
    if (gpu_power_at(gpu, highest_mhz) <= gpu->limit_w)
        return gpu->profile.max_mhz;
    double low = gpu->profile.min_mhz, high = highest_mhz;
    for (int i = 0; i < CLOCK_SEARCH_STEPS; i++) {
        double middle = (low + high) / 2;
        if (gpu_power_at(gpu, middle) > gpu->limit_w)
            high = middle;
        else
            low = middle;
    }
    return low;
}

/* First-order approach to a target, which it reaches when it is very near. */
static double approach(double value, double target, double dt_s, double tau_s)
{
    if (fabs(value - target) < NEAR * fabs(target))
        return target;
    return target + (value - target) * exp(-dt_s / tau_s);
}

/* Move the clock by one step; returns the clock that it begins with, for a fall takes no time. */
static double move_clock(gpu_t *gpu, double dt_s)
{
    const profile_t *p = &gpu->profile;
    double wanted = wanted_clock(gpu);
    double begin_mhz = fmin(gpu->clock_mhz, fmin(wanted, gpu->ceiling_mhz));
    double allowed = clock_within_limit(gpu, wanted);
    double tau_s = allowed < gpu->ceiling_mhz ? p->limit_down_tau_s : p->limit_up_tau_s;
    gpu->ceiling_mhz = approach(gpu->ceiling_mhz, allowed, dt_s, tau_s);

    double target = fmin(wanted, gpu->ceiling_mhz);
    if (gpu->clock_mhz < target)
        gpu->clock_mhz = approach(gpu->clock_mhz, target, dt_s, p->ramp_tau_s);
    else
        gpu->clock_mhz = target;

    gpu->reasons = gpu->forced_reasons | (gpu_activity(gpu) > 0 ? 0 : REASON_IDLE);
    if (gpu->temp_c >= SLOWDOWN_C)
        gpu->reasons |= REASON_THERMAL;
    if (gpu->ceiling_mhz < wanted - LIMITED_MHZ) {
        gpu->reasons |= REASON_POWER_LIMIT;
        gpu->limited_ns += (uint64_t)(dt_s * 1e9);
    }
    return begin_mhz;
}

/* One step; returns the energy that it took, J. */
static double integrate(gpu_t *gpu, double dt_s)
{
    const profile_t *p = &gpu->profile;
    double begin_w = gpu_power_at(gpu, move_clock(gpu, dt_s));
    gpu->power_w = gpu_power_at(gpu, gpu->clock_mhz);
    double settled_c = p->ambient_c + p->heat_c_per_w * gpu->power_w;
    gpu->temp_c = approach(gpu->temp_c, settled_c, dt_s, p->heat_tau_s);
    double joules = (begin_w + gpu->power_w) / 2 * dt_s;
    gpu->true_j += joules;
    return joules;
}

/* What happens exactly at t_ns: a load lease ends, a clock lock takes hold. */
static void apply_due_events(gpu_t *gpu)
{
    if (gpu->load_until_ns <= gpu->t_ns) {
        gpu->core_load = 0;
        gpu->mem_load = 0;
        gpu->load_until_ns = FOREVER_NS;
    }
    if (gpu->lock_is_pending && gpu->pending_at_ns <= gpu->t_ns) {
        gpu->lock = gpu->pending_lock;
        gpu->lock_is_pending = 0;
    }
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

/*
 * Bring a GPU to a time. Steps end on every event, and wherever somebody asks: the energy of a
 * step is the mean of both its ends, so that more and shorter ones change it by less than 0.1 %.
 */
void advance(gpu_t *gpu, uint64_t until_ns)
{
    if (gpu->is_replayed)
        gpu->t_ns = until_ns;
    while (gpu->t_ns < until_ns) {
        apply_due_events(gpu);
        uint64_t end = earlier(until_ns, next_multiple(gpu->t_ns, MODEL_STEP_NS));
        end = earlier(end, gpu->load_until_ns);
        if (gpu->lock_is_pending)
            end = earlier(end, gpu->pending_at_ns);
        end = earlier(end, sensors_next_event(gpu));

        double joules = integrate(gpu, (double)(end - gpu->t_ns) * 1e-9);
        sensors_see(gpu, end, joules);
        gpu->t_ns = end;
    }
    apply_due_events(gpu);
}
