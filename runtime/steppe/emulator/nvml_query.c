/* NVML: what a GPU is, and constants that clients ask for. */
#include "nvemu.h"

#include <stdio.h>
#include <string.h>

enum { BRAND_NVIDIA = 14, TOPOLOGY_NODE = 40, MOST_MIG_DEVICES = 7 };

TEXT_GETTER(nvmlDeviceGetName, gpu->profile.name)
TEXT_GETTER(nvmlDeviceGetUUID, gpu->uuid)
TEXT_GETTER(nvmlDeviceGetSerial, gpu->serial)
TEXT_GETTER(nvmlDeviceGetVbiosVersion, "96.00.EM.U0.00")

GETTER(nvmlDeviceGetIndex, unsigned, gpu->index)
GETTER(nvmlDeviceGetMinorNumber, unsigned, gpu->index)
GETTER(nvmlDeviceGetBrand, unsigned, BRAND_NVIDIA)
GETTER(nvmlDeviceGetArchitecture, unsigned, gpu->profile.arch)
GETTER(nvmlDeviceGetNumGpuCores, unsigned, gpu->profile.cores)
GETTER(nvmlDeviceGetPersistenceMode, unsigned, gpu->persistence && !gpu->lacks_persistence)
GETTER(nvmlDeviceGetComputeMode, unsigned, 0)
GETTER(nvmlDeviceGetDisplayActive, unsigned, 0)
GETTER(nvmlDeviceGetDisplayMode, unsigned, 0)
GETTER(nvmlDeviceIsMigDeviceHandle, unsigned, 0)
GETTER(nvmlDeviceGetNumaNodeId, unsigned, 0)

API int nvmlDeviceGetCudaComputeCapability(gpu_t *gpu, int *major, int *minor)
{
    ENTER(gpu);
    if (!major || !minor)
        return leave(INVALID_ARGUMENT);
    *major = (int)gpu->profile.cc_major;
    *minor = (int)gpu->profile.cc_minor;
    return leave(OK);
}

typedef struct {
    char legacy_bus_id[16];
    unsigned domain, bus, device, pci_device_id, pci_subsystem_id;
    char bus_id[32];
} pci_info_t;

API int nvmlDeviceGetPciInfo_v3(gpu_t *gpu, pci_info_t *info)
{
    ENTER(gpu);
    if (!info)
        return leave(INVALID_ARGUMENT);
    memset(info, 0, sizeof *info);
    info->bus = 0x10 + gpu->index * 8;
    info->pci_device_id = gpu->profile.pci_device_id;
    snprintf(info->bus_id, sizeof info->bus_id, "%s", gpu->bus_id);
    snprintf(info->legacy_bus_id, sizeof info->legacy_bus_id, "%.12s", gpu->bus_id + 4);
    return leave(OK);
}

static int supports_mig(const gpu_t *gpu)
{
    return gpu->profile.arch == AMPERE || gpu->profile.arch >= HOPPER;
}

API int nvmlDeviceGetMigMode(gpu_t *gpu, unsigned *current, unsigned *pending)
{
    ENTER(gpu);
    if (!current || !pending)
        return leave(INVALID_ARGUMENT);
    *current = gpu->mig_is_on;
    *pending = gpu->mig_is_on;
    return leave(supports_mig(gpu) ? OK : NOT_SUPPORTED);
}

GETTER(nvmlDeviceGetMaxMigDeviceCount, unsigned, supports_mig(gpu) ? MOST_MIG_DEVICES : 0)

static int codec_utilization(unsigned *percent, unsigned *period_us)
{
    if (!percent || !period_us)
        return INVALID_ARGUMENT;
    *percent = 0;
    *period_us = 1000;
    return OK;
}

API int nvmlDeviceGetEncoderUtilization(gpu_t *gpu, unsigned *percent, unsigned *period_us)
{
    ENTER(gpu);
    return leave(codec_utilization(percent, period_us));
}

API int nvmlDeviceGetDecoderUtilization(gpu_t *gpu, unsigned *percent, unsigned *period_us)
{
    ENTER(gpu);
    return leave(codec_utilization(percent, period_us));
}

API int nvmlDeviceGetPcieThroughput(gpu_t *gpu, unsigned counter, unsigned *kib_per_s)
{
    ENTER(gpu);
    (void)counter;
    if (!kib_per_s)
        return leave(INVALID_ARGUMENT);
    *kib_per_s = 0;
    return leave(OK);
}

API int nvmlDeviceGetTopologyCommonAncestor(gpu_t *gpu, gpu_t *other, unsigned *level)
{
    ENTER(gpu);
    (void)other;
    if (!level)
        return leave(INVALID_ARGUMENT);
    *level = TOPOLOGY_NODE;
    return leave(OK);
}

API int nvmlDeviceGetP2PStatus(gpu_t *gpu, gpu_t *other, unsigned kind, unsigned *status)
{
    ENTER(gpu);
    (void)other;
    (void)kind;
    if (!status)
        return leave(INVALID_ARGUMENT);
    *status = 0;
    return leave(OK);
}

UNSUPPORTED(nvmlDeviceGetFanSpeed)
UNSUPPORTED(nvmlDeviceGetC2cModeInfoV)
UNSUPPORTED(nvmlDeviceGetCpuAffinity)
UNSUPPORTED(nvmlDeviceGetMigDeviceHandleByIndex)
UNSUPPORTED(nvmlDeviceGetNvLinkState)
UNSUPPORTED(nvmlDeviceGetCurrentDriverModel)
UNSUPPORTED(nvmlDeviceGetDriverModel_v2)
