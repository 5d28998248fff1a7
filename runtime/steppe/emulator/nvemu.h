/*
 * nvemu: an emulated libnvidia-ml.so.1, for runs and tests without a GPU.
 *
 * Every process maps the same state file, so all of them see the same GPUs, as with a real
 * driver. A GPU is a small physical model (clock, voltage, power, temperature); its sensors
 * are modelled apart from that truth. Nothing runs in the background: each call first brings
 * the model up to "now". Every number is modelled; none is measured.
 *
 * The declarations are our own; no vendor header is needed.
 *
 * Environment, read when a process first initialises NVML:
 *   STEPPE_EMULATED_STATE      file that holds the shared state; none: no driver is loaded
 *   STEPPE_EMULATED_GPUS       GPUs to create, such as "l4x2,h100x1"
 *   STEPPE_EMULATED_FAULTS     faults of their hardware, such as "1:ecc=2,0:counter_scale=0.6";
 *                              hardware_faults.c has the names
 *   STEPPE_EMULATED_PRIVILEGE  1: the caller may change limits; 0: it may not; unset: ask the
 *                              kernel for CAP_SYS_ADMIN. Read at each setter call.
 */
#ifndef NVEMU_H
#define NVEMU_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <pthread.h>
#include <stdint.h>

#define API __attribute__((visibility("default")))

/* NVML return codes, with the values of the real library. */
enum {
    OK = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NO_PERMISSION = 4,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    TIMEOUT = 10,
    GPU_IS_LOST = 15,
    INSUFFICIENT_MEMORY = 20,
    ARGUMENT_VERSION_MISMATCH = 25,
};

/* NVML architecture numbers. */
enum { PASCAL = 4, VOLTA = 5, AMPERE = 7, ADA = 8, HOPPER = 9, BLACKWELL = 10 };

/* Bits of the "clocks event reasons" mask. */
enum {
    REASON_IDLE = 0x01,
    REASON_POWER_LIMIT = 0x04,
    REASON_HARDWARE = 0x08,
    REASON_THERMAL = 0x20,
    REASON_HARDWARE_THERMAL = 0x40,
    REASON_POWER_BRAKE = 0x80,
    REASONS_SUPPORTED = 0x1ff,
};

/* Kinds of events; an event of the last kind carries an Xid. */
enum { EVENT_SINGLE_BIT = 0x1, EVENT_DOUBLE_BIT = 0x2, EVENT_XID = 0x8 };

enum { CORRECTED = 0, UNCORRECTED = 1, NUM_ERROR_TYPES = 2 };
enum { SINCE_LOAD = 0, LIFETIME = 1, NUM_ERROR_COUNTERS = 2 };

enum { SCOPE_GPU = 0, SCOPE_MODULE = 1, SCOPE_MEMORY = 2 };

enum {
    MAX_GPUS = 16,
    MAX_CONTEXTS = 16,
    MAX_FAULTS = 64,
    MAX_EVENTS = 64,
    POWER_RING = 64,
    GPU_SPEC_SIZE = 128,
    FUNCTION_NAME_SIZE = 64,
};

#define NS_PER_S 1000000000ull
#define MS(x) ((uint64_t)((x) * 1000000ull))
#define FOREVER_NS UINT64_MAX
#define VERSION(type, v) (sizeof(type) | ((unsigned)(v) << 24))

typedef unsigned long long ull;

/* What a GPU is; fixed when it is created. The table of them is profiles.c. */
typedef struct {
    char key[8], name[48];
    unsigned arch, cc_major, cc_minor, cores, pci_device_id;
    unsigned min_mhz, max_mhz, idle_mhz, mem_mhz;
    double step_mhz;                        /* distance of the supported clocks */
    uint64_t mem_bytes;
    double min_limit_w, max_limit_w;        /* power limit; the default is the largest */

    double idle_w;                          /* no context, at ambient temperature */
    double context_w;                       /* a context is there, nothing runs */
    double static_w, core_w, mem_w;         /* busy: fixed, compute at full clock, memory */
    double knee_mhz, knee_v;                /* below the knee, knee_v of the voltage at max_mhz */
    double ambient_c, heat_c_per_w, heat_tau_s, leak_per_c;
    double limit_down_tau_s, limit_up_tau_s; /* how slowly the power-limit loop acts */
    double ramp_tau_s;                      /* how slowly a clock rises; it falls at once */
    uint64_t lock_latency_ns;               /* a clock lock takes hold this much later */

    uint64_t energy_period_ns;              /* the energy counter is published this often */
    uint64_t power_period_ns, power_window_ns; /* the power sensor sees the end of each period */
    unsigned has_energy, has_power_fields;  /* NVML calls that this GPU supports */
    unsigned has_average_field, has_memory_scope, has_clock_lock;
    unsigned power_usage_is_average;        /* what nvmlDeviceGetPowerUsage reports */
    unsigned has_ecc, has_row_remapper;
} profile_t;

/* A process that holds GPU memory. */
typedef struct {
    unsigned pid;
    ull started;                            /* against reuse of the pid */
    ull mem_bytes;
    double core_load, mem_load;             /* of a neighbour; our own load is the GPU's */
} context_t;

typedef struct {
    unsigned min_mhz, max_mhz;              /* max 0: no lock */
} clock_lock_t;

typedef struct gpu {
    profile_t profile;
    char uuid[48], bus_id[32], serial[24];
    unsigned index, alive, persistence;

    /* controls */
    clock_lock_t lock, pending_lock;
    unsigned lock_is_pending;
    uint64_t pending_at_ns;
    double limit_w;
    uint64_t num_clock_sets, num_limit_sets;

    /* workload: shares of compute and of memory-bandwidth time in use, until the lease ends */
    double core_load, mem_load;
    uint64_t load_until_ns;
    unsigned num_contexts;
    context_t contexts[MAX_CONTEXTS];
    uint64_t contexts_checked_ns;

    /* model state at time t_ns */
    uint64_t t_ns;
    double clock_mhz, ceiling_mhz;          /* the ceiling is the power-limit loop's */
    double temp_c, power_w;
    double true_j;                          /* exact energy: the truth for tests */
    uint64_t reasons, limited_ns;

    /* sensors */
    double counter_j, counted_j;            /* as last published; true energy at that moment */
    double counter_scale;                   /* joules that the counter adds per true joule */
    double window_j;
    uint64_t window_ns;
    double instant_w, average_w, ring_w[POWER_RING];
    unsigned ring_next;
    unsigned frozen, spikes_left;
    double spike_w;
    unsigned is_replayed;                   /* shows a recording; the model stands still */

    /* faults of the hardware */
    uint64_t forced_reasons;                /* reasons that hold whatever the model says */
    unsigned is_forbidden;                  /* no process may change its limits */
    unsigned ecc_is_off, mig_is_on, lacks_persistence;
    ull ecc_errors[NUM_ERROR_TYPES][NUM_ERROR_COUNTERS];
    unsigned remapped_rows[NUM_ERROR_TYPES], remap_is_pending, remap_has_failed;
} gpu_t;

/* Something that happened to a GPU. */
typedef struct {
    unsigned gpu;
    ull kind, data;
} event_t;

typedef struct {
    char function[FUNCTION_NAME_SIZE];      /* "*": any */
    int gpu;                                /* -1: any */
    int error;
    int left;                               /* calls still to hit; negative: for ever */
    double delay_s;
} fault_t;

typedef struct {
    uint64_t magic, size;
    char spec[GPU_SPEC_SIZE];
    pthread_mutex_t mutex;
    unsigned num_gpus, virtual_clock;
    uint64_t virtual_now_ns;
    uint64_t offset_ns;                     /* what real time lags behind, after virtual time */
    uint64_t epoch_ns;                      /* add it for time since 1970 */
    fault_t faults[MAX_FAULTS];
    ull num_events;                         /* ever; the ring keeps the last ones */
    event_t events[MAX_EVENTS];
    gpu_t gpus[MAX_GPUS];
} shared_t;

/* state.c: the shared file, its lock and its clock. */
extern shared_t *shared;
int attach(const char *path, const char *spec);
int attach_from_environment(void);
void lock(void);
void unlock(void);
uint64_t monotonic_ns(void);
uint64_t now_ns(void);
uint64_t next_multiple(uint64_t t, uint64_t period);

/* profiles.c */
const profile_t *find_profile(const char *key);

/* model.c: truth. */
double gpu_core_load(const gpu_t *gpu);
double gpu_mem_load(const gpu_t *gpu);
double gpu_activity(const gpu_t *gpu);
double gpu_power_at(const gpu_t *gpu, double mhz);
void advance(gpu_t *gpu, uint64_t until_ns);

/* sensors.c: what the GPU says about itself. */
void sensors_start(gpu_t *gpu);
uint64_t sensors_next_event(const gpu_t *gpu);
void sensors_see(gpu_t *gpu, uint64_t end_ns, double joules);
double sensors_instant_w(gpu_t *gpu);

/* control.c: lock the state and bring one GPU to "now"; NULL when there is no such GPU. */
gpu_t *control_gpu(unsigned index);

/* contexts.c: processes on a GPU. */
int set_context(gpu_t *gpu, unsigned pid, ull mem_bytes);
int set_context_load(gpu_t *gpu, unsigned pid, double core, double mem);
void clear_context(gpu_t *gpu, unsigned pid);
void drop_dead_contexts(gpu_t *gpu);
ull contexts_bytes(const gpu_t *gpu);

/* faults.c */
int apply_fault(const char *function, int gpu);

/* hardware_faults.c: faults of the hardware; the caller holds the lock. */
int set_hardware_fault(gpu_t *gpu, const char *name, double value);
int set_hardware_faults(shared_t *s, const char *spec);

/* nvml_events.c */
void raise_event(shared_t *s, unsigned gpu, ull kind, ull data);

/* calls.c: checks at the start and end of each NVML call. */
extern int init_count;
int enter_library(const char *function);
int enter(const char *function, const gpu_t *gpu);
int leave(int result);
int may_set_limits(const gpu_t *gpu);
int copy_text(char *buffer, unsigned size, const char *text);
unsigned milli(double x);

/* Start a device call: the lock is held and the GPU is at "now" when the body goes on. */
#define ENTER(gpu)                           \
    do {                                     \
        int error_ = enter(__func__, (gpu)); \
        if (error_)                          \
            return error_;                   \
    } while (0)

#define ENTER_LIBRARY()                       \
    do {                                      \
        int error_ = enter_library(__func__); \
        if (error_)                           \
            return error_;                    \
    } while (0)

#define REQUIRE_PRIVILEGE()              \
    do {                                 \
        if (!may_set_limits(gpu))        \
            return leave(NO_PERMISSION); \
    } while (0)

/* A function that returns one number. */
#define GETTER(name, type, value)           \
    API int name(gpu_t *gpu, type *out)     \
    {                                       \
        ENTER(gpu);                         \
        if (!out)                           \
            return leave(INVALID_ARGUMENT); \
        *out = (type)(value);               \
        return leave(OK);                   \
    }

/* A function that fills a text buffer. */
#define TEXT_GETTER(name, value)                          \
    API int name(gpu_t *gpu, char *buffer, unsigned size) \
    {                                                     \
        ENTER(gpu);                                       \
        return leave(copy_text(buffer, size, value));     \
    }

/* A function that the real library has, but that no GPU here supports. */
#define UNSUPPORTED(name)            \
    API int name(gpu_t *gpu)         \
    {                                \
        ENTER(gpu);                  \
        return leave(NOT_SUPPORTED); \
    }

#endif
