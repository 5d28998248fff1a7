/* Faults of the hardware: memory errors, a wrong counter, slow-downs, missing permission. */
#include "nvemu.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LARGEST_COUNT 1e9
#define LARGEST_SCALE 1e3
#define XID_DOUBLE_BIT 48
#define FAULTS_SPEC_SIZE 1024
#define NEIGHBOUR_BYTES (1ull << 30)
#define NEIGHBOUR_PID 1 /* in real time a context ends with its process, and this one stays */

static int is_count(double x)
{
    return x >= 0 && x <= LARGEST_COUNT && x == floor(x);
}

static void count_errors(gpu_t *gpu, int type, double count)
{
    for (int counter = 0; counter < NUM_ERROR_COUNTERS; counter++)
        gpu->ecc_errors[type][counter] += (ull)count;
}

/* Errors that ECC cannot correct: an event, an Xid, and where there is a remapper a pending row. */
static int add_uncorrected(shared_t *s, gpu_t *gpu, double count)
{
    if (!gpu->profile.has_ecc || !is_count(count))
        return INVALID_ARGUMENT;
    count_errors(gpu, UNCORRECTED, count);
    if (count > 0) {
        gpu->remapped_rows[UNCORRECTED] += gpu->profile.has_row_remapper != 0;
        gpu->remap_is_pending = 1;
        raise_event(s, gpu->index, EVENT_DOUBLE_BIT, 0);
        raise_event(s, gpu->index, EVENT_XID, XID_DOUBLE_BIT);
    }
    return OK;
}

static int add_corrected(gpu_t *gpu, double count)
{
    if (!gpu->profile.has_ecc || !is_count(count))
        return INVALID_ARGUMENT;
    count_errors(gpu, CORRECTED, count);
    return OK;
}

/* Another process uses this share of compute and of memory bandwidth. */
static int set_neighbour(gpu_t *gpu, double load)
{
    if (!(load >= 0 && load <= 1))
        return INVALID_ARGUMENT;
    if (load == 0) {
        clear_context(gpu, NEIGHBOUR_PID);
        return OK;
    }
    int error = set_context(gpu, NEIGHBOUR_PID, NEIGHBOUR_BYTES);
    return error ? error : set_context_load(gpu, NEIGHBOUR_PID, load, load);
}

static int set_flag(unsigned *flag, double value)
{
    if (value != 0 && value != 1)
        return INVALID_ARGUMENT;
    *flag = value != 0;
    return OK;
}

static int set_fault(shared_t *s, gpu_t *gpu, const char *name, double value)
{
    if (strcmp(name, "ecc") == 0)
        return add_uncorrected(s, gpu, value);
    if (strcmp(name, "ecc_corrected") == 0)
        return add_corrected(gpu, value);
    if (strcmp(name, "ecc_off") == 0)
        return set_flag(&gpu->ecc_is_off, value);
    if (strcmp(name, "remap_failed") == 0)
        return set_flag(&gpu->remap_has_failed, value);
    if (strcmp(name, "neighbour") == 0)
        return set_neighbour(gpu, value);
    if (strcmp(name, "no_permission") == 0)
        return set_flag(&gpu->is_forbidden, value);
    if (strcmp(name, "mig") == 0)
        return set_flag(&gpu->mig_is_on, value);
    if (strcmp(name, "no_persistence") == 0)
        return set_flag(&gpu->lacks_persistence, value);
    /* What a driver or a board reports by itself. */
    if (strcmp(name, "xid") == 0 && is_count(value)) {
        raise_event(s, gpu->index, EVENT_XID, (ull)value);
        return OK;
    }
    if (strcmp(name, "reasons") == 0 && is_count(value) && value <= REASONS_SUPPORTED) {
        gpu->forced_reasons = (uint64_t)value;
        return OK;
    }
    if (strcmp(name, "counter_scale") == 0 && value >= 0 && value <= LARGEST_SCALE) {
        gpu->counter_scale = value;
        return OK;
    }
    return INVALID_ARGUMENT;
}

int set_hardware_fault(gpu_t *gpu, const char *name, double value)
{
    return set_fault(shared, gpu, name, value);
}

/* One item such as "1:ecc=2" or "*:reasons=128". */
static int set_item(shared_t *s, const char *item)
{
    char which[8], name[32], *end;
    double value;
    if (sscanf(item, "%7[^:]:%31[^=]=%lf", which, name, &value) != 3)
        return INVALID_ARGUMENT;
    unsigned long index = strtoul(which, &end, 10);
    int is_any = strcmp(which, "*") == 0;
    if (!is_any && (*end || index >= s->num_gpus))
        return INVALID_ARGUMENT;
    unsigned first = is_any ? 0 : (unsigned)index, last = is_any ? s->num_gpus - 1 : first;
    for (unsigned i = first; i <= last; i++) {
        int error = set_fault(s, &s->gpus[i], name, value);
        if (error)
            return error;
    }
    return OK;
}

/* Faults of new GPUs, such as "1:ecc=2,0:counter_scale=0.6"; NULL or "": none. */
int set_hardware_faults(shared_t *s, const char *spec)
{
    char items[FAULTS_SPEC_SIZE], *rest;
    if (!spec)
        return OK;
    if (strlen(spec) >= sizeof items)
        return INVALID_ARGUMENT;
    strcpy(items, spec);
    for (char *item = strtok_r(items, ",", &rest); item; item = strtok_r(NULL, ",", &rest)) {
        int error = set_item(s, item);
        if (error)
            return error;
    }
    return OK;
}

/* Set one fault of one GPU now. */
API int nvemu_set_fault(unsigned index, const char *name, double value)
{
    gpu_t *gpu = control_gpu(index);
    return gpu ? leave(set_hardware_fault(gpu, name, value)) : NOT_FOUND;
}

/* Let the process `pid`, which is not the workload, use the GPU. */
API int nvemu_set_neighbour(unsigned index, unsigned pid, double core, double mem, ull mem_bytes)
{
    if (!(core >= 0 && core <= 1 && mem >= 0 && mem <= 1))
        return INVALID_ARGUMENT;
    gpu_t *gpu = control_gpu(index);
    if (!gpu)
        return NOT_FOUND;
    int error = set_context(gpu, pid, mem_bytes);
    return leave(error ? error : set_context_load(gpu, pid, core, mem));
}
