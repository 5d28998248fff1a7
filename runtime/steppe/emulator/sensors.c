/*
 * What a GPU says about itself, apart from the truth: an energy counter that is published
 * only now and then, and a power sensor that looks only part of the time.
 */
#include "nvemu.h"

void sensors_start(gpu_t *gpu)
{
    gpu->instant_w = gpu->power_w;
    gpu->average_w = gpu->power_w;
}

static uint64_t window_start(const gpu_t *gpu)
{
    const profile_t *p = &gpu->profile;
    return next_multiple(gpu->t_ns, p->power_period_ns) - p->power_window_ns;
}

/* The next time at which a sensor publishes or starts to look. */
uint64_t sensors_next_event(const gpu_t *gpu)
{
    const profile_t *p = &gpu->profile;
    uint64_t next = next_multiple(gpu->t_ns, p->power_period_ns);
    uint64_t energy = next_multiple(gpu->t_ns, p->energy_period_ns);
    uint64_t window = window_start(gpu);
    if (window > gpu->t_ns && window < next)
        next = window;
    return energy < next ? energy : next;
}

/* Publish the mean of the window that ends, and that of the last second, one window at least. */
static void publish_power(gpu_t *gpu)
{
    if (gpu->window_ns && !gpu->frozen) {
        gpu->instant_w = gpu->window_j / ((double)gpu->window_ns * 1e-9);
        gpu->ring_w[gpu->ring_next % POWER_RING] = gpu->instant_w;
        gpu->ring_next++;

        unsigned n = (unsigned)(NS_PER_S / gpu->profile.power_period_ns);
        n = n < 1 ? 1 : n > POWER_RING ? POWER_RING : n;
        n = n > gpu->ring_next ? gpu->ring_next : n;
        double sum = 0;
        for (unsigned i = 0; i < n; i++)
            sum += gpu->ring_w[(gpu->ring_next - 1 - i) % POWER_RING];
        gpu->average_w = sum / n;
    }
    gpu->window_j = 0;
    gpu->window_ns = 0;
}

/* The GPU used `joules` from t_ns to end_ns; no sensor event lies between the two. */
void sensors_see(gpu_t *gpu, uint64_t end_ns, double joules)
{
    const profile_t *p = &gpu->profile;
    if (gpu->t_ns >= window_start(gpu)) {
        gpu->window_j += joules;
        gpu->window_ns += end_ns - gpu->t_ns;
    }
    if (end_ns % p->power_period_ns == 0)
        publish_power(gpu);
    if (end_ns % p->energy_period_ns == 0 && !gpu->frozen) {
        gpu->counter_j += gpu->counter_scale * (gpu->true_j - gpu->counted_j);
        gpu->counted_j = gpu->true_j;
    }
}

/* One reading of the instant power; uses up one injected spike. */
double sensors_instant_w(gpu_t *gpu)
{
    if (!gpu->spikes_left)
        return gpu->instant_w;
    gpu->spikes_left--;
    return gpu->spike_w;
}
