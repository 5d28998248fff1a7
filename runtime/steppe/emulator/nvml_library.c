/* NVML: the library as a whole, and how to find a GPU. */
#include "nvemu.h"

#include <string.h>
#include <strings.h>

API int nvmlInitWithFlags(unsigned flags)
{
    (void)flags;
    int error = attach_from_environment();
    if (error)
        return error;
    lock();
    error = apply_fault("nvmlInit", -1);
    unlock();
    if (!error)
        __atomic_add_fetch(&init_count, 1, __ATOMIC_SEQ_CST);
    return error;
}

API int nvmlInit_v2(void)
{
    return nvmlInitWithFlags(0);
}

API int nvmlInit(void)
{
    return nvmlInitWithFlags(0);
}

API int nvmlShutdown(void)
{
    ENTER_LIBRARY();
    __atomic_sub_fetch(&init_count, 1, __ATOMIC_SEQ_CST);
    return OK;
}

API const char *nvmlErrorString(int result)
{
    static const char *const messages[] = {
        "Success",
        "Uninitialized",
        "Invalid Argument",
        "Not Supported",
        "Insufficient Permissions",
        "Already Initialized",
        "Not Found",
        "Insufficient Size",
        "Insufficient External Power",
        "Driver Not Loaded",
        "Timeout",
        "Interrupt Request Issue",
        "NVML Shared Library Not Found",
        "Function Not Found",
        "Corrupted infoROM",
        "GPU is lost",
        "GPU requires reset",
        "Operating system error",
        "RM version mismatch",
        "In use",
        "Insufficient Memory",
        "No data",
    };
    const int count = sizeof messages / sizeof *messages;
    if (result >= 0 && result < count)
        return messages[result];
    return result == ARGUMENT_VERSION_MISMATCH ? "Argument version mismatch" : "Unknown Error";
}

/* The suffix says to everybody who asks that there is no silicon behind this. */
API int nvmlSystemGetDriverVersion(char *buffer, unsigned size)
{
    ENTER_LIBRARY();
    return copy_text(buffer, size, "580.00.EMU");
}

API int nvmlSystemGetNVMLVersion(char *buffer, unsigned size)
{
    ENTER_LIBRARY();
    return copy_text(buffer, size, "13.580.00");
}

API int nvmlSystemGetCudaDriverVersion(int *version)
{
    ENTER_LIBRARY();
    if (!version)
        return INVALID_ARGUMENT;
    *version = 13000;
    return OK;
}

API int nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    return nvmlSystemGetCudaDriverVersion(version);
}

API int nvmlDeviceGetCount_v2(unsigned *count)
{
    ENTER_LIBRARY();
    if (!count)
        return INVALID_ARGUMENT;
    *count = shared->num_gpus;
    return OK;
}

API int nvmlDeviceGetCount(unsigned *count)
{
    return nvmlDeviceGetCount_v2(count);
}

/* Hand out a GPU that was found, unless it is lost or a fault hits the call. */
static int hand_out(const char *function, unsigned index, gpu_t **gpu)
{
    lock();
    int error = apply_fault(function, (int)index);
    int alive = shared->gpus[index].alive != 0;
    unlock();
    *gpu = &shared->gpus[index];
    if (error)
        return error;
    return alive ? OK : GPU_IS_LOST;
}

API int nvmlDeviceGetHandleByIndex_v2(unsigned index, gpu_t **gpu)
{
    if (!init_count || !shared)
        return UNINITIALIZED;
    if (index >= shared->num_gpus || !gpu)
        return INVALID_ARGUMENT;
    return hand_out(__func__, index, gpu);
}

API int nvmlDeviceGetHandleByIndex(unsigned index, gpu_t **gpu)
{
    return nvmlDeviceGetHandleByIndex_v2(index, gpu);
}

API int nvmlDeviceGetHandleByUUID(const char *uuid, gpu_t **gpu)
{
    if (!init_count || !shared)
        return UNINITIALIZED;
    if (!uuid || !gpu)
        return INVALID_ARGUMENT;
    for (unsigned i = 0; i < shared->num_gpus; i++)
        if (strcmp(uuid, shared->gpus[i].uuid) == 0)
            return hand_out(__func__, i, gpu);
    return NOT_FOUND;
}

API int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, gpu_t **gpu)
{
    if (!init_count || !shared)
        return UNINITIALIZED;
    if (!bus_id || !gpu)
        return INVALID_ARGUMENT;
    for (unsigned i = 0; i < shared->num_gpus; i++) {
        const char *full = shared->gpus[i].bus_id;
        const char *short_form = full + 4; /* domain with 4 digits instead of 8 */
        if (strcasecmp(bus_id, full) == 0 || strcasecmp(bus_id, short_form) == 0)
            return hand_out(__func__, i, gpu);
    }
    return NOT_FOUND;
}

API int nvmlDeviceGetHandleByPciBusId(const char *bus_id, gpu_t **gpu)
{
    return nvmlDeviceGetHandleByPciBusId_v2(bus_id, gpu);
}

API int nvmlDeviceGetHandleBySerial(const char *serial, gpu_t **gpu)
{
    if (!init_count || !shared)
        return UNINITIALIZED;
    if (!serial || !gpu)
        return INVALID_ARGUMENT;
    for (unsigned i = 0; i < shared->num_gpus; i++)
        if (strcmp(serial, shared->gpus[i].serial) == 0)
            return hand_out(__func__, i, gpu);
    return NOT_FOUND;
}
