"""How much a tenant may have in the folder of files."""

from __future__ import annotations

from steppe.batch.service.api_error import ApiError
from steppe.batch.store.job_store import JobStore


def require_room(store: JobStore, tenant: str, most_bytes: int) -> None:
    """Refuse more files of a tenant whose files take all that they may.

    Raises:
        ApiError: They do.
    """
    taken = sum(file.size for file in store.files(tenant))
    if taken >= most_bytes:
        asked = f"{tenant}: asked for files of at most {most_bytes} bytes in all"
        raise ApiError(429, "storage_full", f"{asked}, found {taken}; delete some", "file")
