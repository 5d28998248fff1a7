/*
 * The GPUs that can be emulated, one table row each.
 *
 * Sources:
 *   [sheet]   NVIDIA's data sheets, and what its driver reports on such a GPU: name, PCI device,
 *             memory, board power limits, clocks.
 *   [counter] ml.energy, "Measuring GPU energy: best practices": the counter is published
 *             about every 100 ms.
 *   [part]    arXiv 2312.02741 (SC24): A100 and H100 look at power 25 % of the time.
 *   [pilot]   GridPilot (CC-BY 4.0), V100: power readings refresh every 20.3 ms. The step
 *             response of its power limit, fitted by bench/fit_profiles.py as first-order lags:
 *             0.028 s down (rms error 7.9 W of an 80 W step), 0.131 s up (rms 5.2 W). Used for
 *             every GPU here.
 *   [V100]    fit to GridPilot's 36 cells of power limit x clock and three plateaus of its step
 *             response: error of the mean power 1.6 % in the median, 4.4 % at most.
 *   [A100]    fit to Emerald's sweep of the power limit (Apache-2.0; 5 loads of training and one
 *             of inference) and one decode point (290 W): power within 2.8 % in the median,
 *             7.5 % at most; throughput within 5.7 %. mem_w is given, and illustrative.
 *   [batch]   fit to the ML.ENERGY benchmark (Apache-2.0), power against batch of dense models in
 *             bfloat16 under vLLM, clocks free. H100: 67 points, error 6.3 % in the median, 19.7 %
 *             at most (models of equal load differ so much). B200: 32 points of models with 30
 *             billion parameters or more, 0.9 % and 8.3 %; most of them lie at the power limit.
 *             Only static_w + mem_w and core_w follow from it: mem_w is given, and illustrative,
 *             and nobody measured power against clock.
 *   [idle]    powertrace-sim: an A100 with a model loaded draws 83 W, an H100 120 W; and pytorch
 *             issue 97459: a bare A100 draws 59 to 62 W. V100s idle at 33 to 45 W (nvidia-pstated
 *             issue 6); the fit took the lower end.
 *   bench/fit_profiles.py makes the fits again.
 *   [nvml.h]  the energy counter and the clock lock need Volta; nvmlDeviceGetPowerUsage is a 1 s
 *             average on Ampere (except GA100) and newer, one sample on the others.
 * Everything else is illustrative: all power constants of the L4, the H200 and the P40, what a
 * row below calls so, the thermal model, the leakage, ramp_tau_s and lock_latency_ns, the smallest
 * limit of the B200, the clock steps of the P40, which GPUs have which power fields and scopes,
 * and the power windows of GPUs other than A100 and H100. Nobody measured them.
 */
#include "nvemu.h"

#include <string.h>

/* [pilot] for the limit loop; illustrative for the rest. */
#define DYNAMICS                                                                           \
    .heat_tau_s = 20, .leak_per_c = 0.002, .ambient_c = 30, .limit_down_tau_s = 0.028,     \
    .limit_up_tau_s = 0.131, .ramp_tau_s = 0.01, .lock_latency_ns = MS(15)

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
     SENSORS_PART_TIME, DYNAMICS, .has_ecc = 1, .has_row_remapper = 1},
    {.key = "v100", .name = "Tesla V100-SXM2-16GB", .arch = VOLTA, .cc_major = 7, .cc_minor = 0,
     .cores = 5120, .pci_device_id = 0x1db110de, .mem_bytes = 17179869184ull,   /* [sheet] */
     .min_mhz = 135, .max_mhz = 1530, .step_mhz = 7.5, .mem_mhz = 877,          /* [sheet] */
     .min_limit_w = 150, .max_limit_w = 300,                                    /* [sheet] */
     .idle_mhz = 135,                                                           /* illustrative */
     .idle_w = 33, .context_w = 48, .static_w = 21.3, .core_w = 216.3,          /* [V100] */
     .mem_w = 39.3, .knee_mhz = 1157, .knee_v = 0.71,
     .heat_c_per_w = 0.12,
     SENSORS_VOLTA, DYNAMICS, .has_ecc = 1},
    {.key = "a100", .name = "NVIDIA A100-SXM4-80GB", .arch = AMPERE, .cc_major = 8, .cc_minor = 0,
     .cores = 6912, .pci_device_id = 0x20b210de, .mem_bytes = 85899345920ull,   /* [sheet] */
     .min_mhz = 210, .max_mhz = 1410, .step_mhz = 15, .mem_mhz = 1593,          /* [sheet] */
     .min_limit_w = 100, .max_limit_w = 400,                                    /* [sheet] */
     .idle_mhz = 210,                                                           /* illustrative */
     .idle_w = 60, .context_w = 22,                                             /* [idle] */
     .static_w = 99.5, .core_w = 288.4, .mem_w = 110,                           /* [A100] */
     .knee_mhz = 417, .knee_v = 0.506,
     .heat_c_per_w = 0.08,
     SENSORS_PART_TIME, DYNAMICS, .has_ecc = 1, .has_row_remapper = 1},
    {.key = "h100", .name = "NVIDIA H100 80GB HBM3", .arch = HOPPER, .cc_major = 9, .cc_minor = 0,
     .cores = 16896, .pci_device_id = 0x233010de, .mem_bytes = 85520809984ull,  /* [sheet] */
     .min_mhz = 210, .max_mhz = 1980, .step_mhz = 15, .mem_mhz = 2619,          /* [sheet] */
     .min_limit_w = 200, .max_limit_w = 700,                                    /* [sheet] */
     .idle_mhz = 345, .knee_mhz = 1200, .knee_v = 0.70,                         /* illustrative */
     .idle_w = 70, .context_w = 50,                                             /* sum: [idle] */
     .static_w = 210.9, .core_w = 417.3, .mem_w = 150,                          /* [batch] */
     .heat_c_per_w = 0.06,
     .power_usage_is_average = 1, .has_average_field = 1, .has_memory_scope = 1, /* [nvml.h] */
     SENSORS_PART_TIME, DYNAMICS, .has_ecc = 1, .has_row_remapper = 1},
    {.key = "h200", .name = "NVIDIA H200", .arch = HOPPER, .cc_major = 9, .cc_minor = 0,
     .cores = 16896, .pci_device_id = 0x233510de, .mem_bytes = 150754820096ull, /* [sheet] */
     .min_mhz = 210, .max_mhz = 1980, .step_mhz = 15, .mem_mhz = 3201,          /* [sheet] */
     .min_limit_w = 200, .max_limit_w = 700,                                    /* [sheet] */
     .idle_mhz = 345, .idle_w = 75, .context_w = 50,                            /* illustrative */
     .static_w = 55, .core_w = 430, .mem_w = 180, .knee_mhz = 1200, .knee_v = 0.70,
     .heat_c_per_w = 0.06,
     .power_usage_is_average = 1, .has_average_field = 1, .has_memory_scope = 1, /* [nvml.h] */
     SENSORS_PART_TIME, DYNAMICS, .has_ecc = 1, .has_row_remapper = 1},
    {.key = "b200", .name = "NVIDIA B200", .arch = BLACKWELL, .cc_major = 10, .cc_minor = 0,
     .cores = 18944, .pci_device_id = 0x290110de, .mem_bytes = 192265846784ull, /* [sheet] */
     .min_mhz = 120, .max_mhz = 1965, .step_mhz = 15, .mem_mhz = 3996,          /* [sheet] */
     .min_limit_w = 200, .max_limit_w = 1000,                      /* illustrative, [sheet] */
     .idle_mhz = 120, .idle_w = 140, .context_w = 60,                           /* illustrative */
     .knee_mhz = 1100, .knee_v = 0.70,
     .static_w = 391.2, .core_w = 794.4, .mem_w = 240,                          /* [batch] */
     .heat_c_per_w = 0.045,
     .power_usage_is_average = 1, .has_average_field = 1, .has_memory_scope = 1, /* [nvml.h] */
     SENSORS_PART_TIME, DYNAMICS, .has_ecc = 1, .has_row_remapper = 1},
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
