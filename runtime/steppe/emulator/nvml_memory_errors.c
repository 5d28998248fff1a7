/* NVML: errors of the memory, and the rows and pages that are out of use because of them. */
#include "nvemu.h"

enum { LOCATION_DRAM = 2, LOCATION_SRAM = 7 };

API int nvmlDeviceGetEccMode(gpu_t *gpu, unsigned *current, unsigned *pending)
{
    ENTER(gpu);
    if (!current || !pending)
        return leave(INVALID_ARGUMENT);
    if (!gpu->profile.has_ecc)
        return leave(NOT_SUPPORTED);
    *current = *pending = !gpu->ecc_is_off;
    return leave(OK);
}

static int read_errors(const gpu_t *gpu, unsigned type, unsigned counter, ull *count)
{
    if (type >= NUM_ERROR_TYPES || counter >= NUM_ERROR_COUNTERS || !count)
        return INVALID_ARGUMENT;
    if (!gpu->profile.has_ecc || gpu->ecc_is_off)
        return NOT_SUPPORTED;
    *count = gpu->ecc_errors[type][counter];
    return OK;
}

API int nvmlDeviceGetTotalEccErrors(gpu_t *gpu, unsigned type, unsigned counter, ull *count)
{
    ENTER(gpu);
    return leave(read_errors(gpu, type, counter, count));
}

/* All of them are in the device's memory. */
API int nvmlDeviceGetMemoryErrorCounter(gpu_t *gpu, unsigned type, unsigned counter,
                                        unsigned location, ull *count)
{
    ENTER(gpu);
    int error = read_errors(gpu, type, counter, count);
    if (error)
        return leave(error);
    if (location > LOCATION_SRAM)
        return leave(INVALID_ARGUMENT);
    if (location != LOCATION_DRAM)
        *count = 0;
    return leave(OK);
}

API int nvmlDeviceGetRemappedRows(gpu_t *gpu, unsigned *corrected, unsigned *uncorrected,
                                  unsigned *is_pending, unsigned *has_failed)
{
    ENTER(gpu);
    if (!corrected || !uncorrected || !is_pending || !has_failed)
        return leave(INVALID_ARGUMENT);
    if (!gpu->profile.has_row_remapper)
        return leave(NOT_SUPPORTED);
    *corrected = gpu->remapped_rows[CORRECTED];
    *uncorrected = gpu->remapped_rows[UNCORRECTED];
    *is_pending = gpu->remap_is_pending;
    *has_failed = gpu->remap_has_failed;
    return leave(OK);
}

/* Before the row remapper, pages were retired. */
API int nvmlDeviceGetRetiredPagesPendingStatus(gpu_t *gpu, unsigned *is_pending)
{
    ENTER(gpu);
    if (!is_pending)
        return leave(INVALID_ARGUMENT);
    if (!gpu->profile.has_ecc || gpu->profile.has_row_remapper)
        return leave(NOT_SUPPORTED);
    *is_pending = gpu->remap_is_pending;
    return leave(OK);
}
