/* NVML: events of GPUs, such as an Xid. */
#include "nvemu.h"

#include <string.h>
#include <time.h>

enum { MAX_EVENT_SETS = 256, NO_INSTANCE = -1 };

#define POLL_NS 5000000l
#define EVENTS_SUPPORTED (EVENT_SINGLE_BIT | EVENT_DOUBLE_BIT | EVENT_XID)

/* What one process waits for; a set belongs to the process that made it. */
typedef struct {
    unsigned is_used;
    ull kinds[MAX_GPUS];
    ull next; /* number of the first event not seen yet */
} event_set_t;

static event_set_t sets[MAX_EVENT_SETS];

typedef struct {
    gpu_t *gpu;
    ull kind, data;
    unsigned gpu_instance, compute_instance;
} event_data_t;

void raise_event(shared_t *s, unsigned gpu, ull kind, ull data)
{
    s->events[s->num_events % MAX_EVENTS] = (event_t){gpu, kind, data};
    s->num_events++;
}

static int is_set(const event_set_t *set)
{
    for (unsigned i = 0; i < MAX_EVENT_SETS; i++)
        if (set == &sets[i])
            return set->is_used;
    return 0;
}

API int nvmlEventSetCreate(event_set_t **out)
{
    ENTER_LIBRARY();
    if (!out)
        return INVALID_ARGUMENT;
    lock();
    for (unsigned i = 0; i < MAX_EVENT_SETS; i++) {
        if (sets[i].is_used)
            continue;
        memset(&sets[i], 0, sizeof sets[i]);
        sets[i].is_used = 1;
        sets[i].next = shared->num_events;
        *out = &sets[i];
        return leave(OK);
    }
    return leave(INSUFFICIENT_MEMORY);
}

API int nvmlEventSetFree(event_set_t *set)
{
    ENTER_LIBRARY();
    if (!is_set(set))
        return INVALID_ARGUMENT;
    set->is_used = 0;
    return OK;
}

GETTER(nvmlDeviceGetSupportedEventTypes, ull, EVENTS_SUPPORTED)

API int nvmlDeviceRegisterEvents(gpu_t *gpu, ull kinds, event_set_t *set)
{
    ENTER(gpu);
    if (!is_set(set))
        return leave(INVALID_ARGUMENT);
    if (kinds & ~(ull)EVENTS_SUPPORTED)
        return leave(NOT_SUPPORTED);
    set->kinds[gpu->index] |= kinds;
    return leave(OK);
}

/* Take the next event that a set waits for; those that the ring has lost are skipped. */
static int take_event(event_set_t *set, event_data_t *out)
{
    if (set->next + MAX_EVENTS < shared->num_events)
        set->next = shared->num_events - MAX_EVENTS;
    while (set->next < shared->num_events) {
        const event_t *event = &shared->events[set->next++ % MAX_EVENTS];
        if (!(set->kinds[event->gpu] & event->kind))
            continue;
        *out = (event_data_t){&shared->gpus[event->gpu], event->kind, event->data,
                              (unsigned)NO_INSTANCE, (unsigned)NO_INSTANCE};
        return 1;
    }
    return 0;
}

/* Waits in real time, also under the virtual clock. */
API int nvmlEventSetWait_v2(event_set_t *set, event_data_t *out, unsigned timeout_ms)
{
    const struct timespec pause = {0, POLL_NS};
    ENTER_LIBRARY();
    if (!is_set(set) || !out)
        return INVALID_ARGUMENT;
    uint64_t give_up = monotonic_ns() + MS((uint64_t)timeout_ms);
    for (;;) {
        lock();
        int found = take_event(set, out);
        unlock();
        if (found)
            return OK;
        if (monotonic_ns() >= give_up)
            return TIMEOUT;
        nanosleep(&pause, NULL);
    }
}

API int nvmlEventSetWait(event_set_t *set, event_data_t *out, unsigned timeout_ms)
{
    return nvmlEventSetWait_v2(set, out, timeout_ms);
}
