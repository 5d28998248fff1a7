/*
 * The GPUs that can be emulated, one table row each.
 *
 * Sources:
 *   [sheet]   NVIDIA's data sheets, and what its driver reports on such a GPU: name, PCI device,
 *             memory, board power limits, clocks.
 *   [counter] ml.energy, "Measuring GPU energy: best practices": the counter is published
 *             about every 100 ms.
 *   [part]    arXiv 2312.02741 (SC24): A100 and H100 look at power 25 % of the time.
 *   [pilot]   GridPilot (CC-BY 4.0), V100: power readings refresh every 20.3 ms; a power step
 *             down is in its band within 60 ms, a step up of 80 W has 15 W left after 0.35 s.
 *             As first-order lags: 0.03 s down and 0.2 s up, used for every GPU here.
 *   [nvml.h]  the energy counter and the clock lock need Volta; nvmlDeviceGetPowerUsage is a 1 s
 *             average on Ampere (except GA100) and newer, one sample on the others.
 * Everything else is illustrative: idle_w, context_w, static_w, core_w, mem_w, the knee, the
 * thermal model, the leakage, ramp_tau_s and lock_latency_ns, the smallest limit of the B200,
 * the clock steps of the P40, which GPUs have which power fields and scopes, and the power
 * windows of GPUs other than A100 and H100. Nobody measured them.
 */
#include "nvemu.h"

#include <string.h>

/* [pilot] for the limit loop; illustrative for the rest. */
#define DYNAMICS                                                                           \
    .heat_tau_s = 20, .leak_per_c = 0.002, .ambient_c = 30, .limit_down_tau_s = 0.03,      \
    .limit_up_tau_s = 0.2, .ramp_tau_s = 0.01, .lock_latency_ns = MS(15)

/* [counter], [part], [nvml.h]. */
#define SENSORS_PART_TIME                                                                  \
    .energy_period_ns = MS(100), .power_period_ns = MS(100), .power_window_ns = MS(25),    \
    .has_energy = 1, .has_power_fields = 1, .has_clock_lock = 1

/* [counter], [pilot], [nvml.h]. */
#define SENSORS_VOLTA                                                                      \
    .energy_period_ns = MS(100), .power_period_ns = MS(20), .power_window_ns = MS(20),     \
    .has_energy = 1, .has_power_fields = 1, .has_clock_lock = 1

static const profile_t profiles[] = {
    {.key = "l4", .name = "NVIDIA L4", .arch = ADA, .cc_major = 8, .cc_minor = 9,
     .cores = 7424, .pci_device_id = 0x27b810de, .mem_bytes = 24152899584ull,   /* [sheet] */
     .min_mhz = 210, .max_mhz = 2040, .step_mhz = 15, .mem_mhz = 6251,          /* [sheet] */
     .min_limit_w = 40, .max_limit_w = 72,                                      /* [sheet] */
     .idle_mhz = 210, .idle_w = 12, .context_w = 6,                             /* illustrative */
     .static_w = 10, .core_w = 46, .mem_w = 6, .knee_mhz = 1000, .knee_v = 0.70,
     .heat_c_per_w = 0.60,
     .power_usage_is_average = 1, .has_average_field = 1,                       /* [nvml.h] */
     SENSORS_PART_TIME, DYNAMICS},
    {.key = "v100", .name = "Tesla V100-SXM2-16GB", .arch = VOLTA, .cc_major = 7, .cc_minor = 0,
     .cores = 5120, .pci_device_id = 0x1db110de, .mem_bytes = 17179869184ull,   /* [sheet] */
     .min_mhz = 135, .max_mhz = 1530, .step_mhz = 7.5, .mem_mhz = 877,          /* [sheet] */
     .min_limit_w = 150, .max_limit_w = 300,                                    /* [sheet] */
     .idle_mhz = 135, .idle_w = 33, .context_w = 20,                            /* illustrative */
     .static_w = 30, .core_w = 200, .mem_w = 60, .knee_mhz = 900, .knee_v = 0.70,
     .heat_c_per_w = 0.12,
     SENSORS_VOLTA, DYNAMICS},
    {.key = "a100", .name = "NVIDIA A100-SXM4-80GB", .arch = AMPERE, .cc_major = 8, .cc_minor = 0,
     .cores = 6912, .pci_device_id = 0x20b210de, .mem_bytes = 85899345920ull,   /* [sheet] */
     .min_mhz = 210, .max_mhz = 1410, .step_mhz = 15, .mem_mhz = 1593,          /* [sheet] */
     .min_limit_w = 100, .max_limit_w = 400,                                    /* [sheet] */
     .idle_mhz = 210, .idle_w = 60, .context_w = 22,                            /* illustrative */
     .static_w = 40, .core_w = 250, .mem_w = 110, .knee_mhz = 900, .knee_v = 0.70,
     .heat_c_per_w = 0.08,
     SENSORS_PART_TIME, DYNAMICS},
    {.key = "h100", .name = "NVIDIA H100 80GB HBM3", .arch = HOPPER, .cc_major = 9, .cc_minor = 0,
     .cores = 16896, .pci_device_id = 0x233010de, .mem_bytes = 85520809984ull,  /* [sheet] */
     .min_mhz = 210, .max_mhz = 1980, .step_mhz = 15, .mem_mhz = 2619,          /* [sheet] */
     .min_limit_w = 200, .max_limit_w = 700,                                    /* [sheet] */
     .idle_mhz = 345, .idle_w = 70, .context_w = 48,                            /* illustrative */
     .static_w = 55, .core_w = 430, .mem_w = 150, .knee_mhz = 1200, .knee_v = 0.70,
     .heat_c_per_w = 0.06,
     .power_usage_is_average = 1, .has_average_field = 1, .has_memory_scope = 1, /* [nvml.h] */
     SENSORS_PART_TIME, DYNAMICS},
    {.key = "h200", .name = "NVIDIA H200", .arch = HOPPER, .cc_major = 9, .cc_minor = 0,
     .cores = 16896, .pci_device_id = 0x233510de, .mem_bytes = 150754820096ull, /* [sheet] */
     .min_mhz = 210, .max_mhz = 1980, .step_mhz = 15, .mem_mhz = 3201,          /* [sheet] */
     .min_limit_w = 200, .max_limit_w = 700,                                    /* [sheet] */
     .idle_mhz = 345, .idle_w = 75, .context_w = 50,                            /* illustrative */
     .static_w = 55, .core_w = 430, .mem_w = 180, .knee_mhz = 1200, .knee_v = 0.70,
     .heat_c_per_w = 0.06,
     .power_usage_is_average = 1, .has_average_field = 1, .has_memory_scope = 1, /* [nvml.h] */
     SENSORS_PART_TIME, DYNAMICS},
    {.key = "b200", .name = "NVIDIA B200", .arch = BLACKWELL, .cc_major = 10, .cc_minor = 0,
     .cores = 18944, .pci_device_id = 0x290110de, .mem_bytes = 192265846784ull, /* [sheet] */
     .min_mhz = 120, .max_mhz = 1965, .step_mhz = 15, .mem_mhz = 3996,          /* [sheet] */
     .min_limit_w = 200, .max_limit_w = 1000,                      /* illustrative, [sheet] */
     .idle_mhz = 120, .idle_w = 140, .context_w = 60,                           /* illustrative */
     .static_w = 80, .core_w = 640, .mem_w = 240, .knee_mhz = 1100, .knee_v = 0.70,
     .heat_c_per_w = 0.045,
     .power_usage_is_average = 1, .has_average_field = 1, .has_memory_scope = 1, /* [nvml.h] */
     SENSORS_PART_TIME, DYNAMICS},
    /* An old GPU, for tests: no energy counter, no power fields, no clock lock. */
    {.key = "p40", .name = "Tesla P40", .arch = PASCAL, .cc_major = 6, .cc_minor = 1,
     .cores = 3840, .pci_device_id = 0x1b3810de, .mem_bytes = 25769803776ull,   /* [sheet] */
     .min_mhz = 544, .max_mhz = 1531, .mem_mhz = 3615,                             /* [sheet] */
     .step_mhz = 12.6538,
     .min_limit_w = 125, .max_limit_w = 250,                                    /* [sheet] */
     .idle_mhz = 544, .idle_w = 25, .context_w = 25,                            /* illustrative */
     .static_w = 20, .core_w = 140, .mem_w = 60, .knee_mhz = 1000, .knee_v = 0.80,
     .heat_c_per_w = 0.12,
     .energy_period_ns = MS(100), .power_period_ns = MS(20), .power_window_ns = MS(20),
     DYNAMICS},
};

const profile_t *find_profile(const char *key)
{
    for (unsigned i = 0; i < sizeof profiles / sizeof *profiles; i++)
        if (strcmp(profiles[i].key, key) == 0)
            return &profiles[i];
    return NULL;
}
