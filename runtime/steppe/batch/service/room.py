"""How much a tenant may have in the folder of files."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager

from steppe.batch.service.upload import Writer
from steppe.batch.store.job_store import JobStore
from steppe.services.api_error import ApiError


def require_room(store: JobStore, tenant: str, most_bytes: int) -> None:
    """Refuse more files of a tenant whose files take all that they may.

    Raises:
        ApiError: They do.
    """
    taken = store.file_bytes(tenant)
    if taken >= most_bytes:
        raise _full(tenant, most_bytes, taken)


class UploadRoom:
    """Counts the bytes of uploads in progress: together with the files, they keep the limit."""

    def __init__(self, store: JobStore, most_bytes: int) -> None:
        """Count nothing yet.

        Args:
            store: Has the files.
            most_bytes: Most bytes of all files of one tenant.
        """
        self._store, self._most_bytes = store, most_bytes
        self._lock = threading.Lock()
        self._arrived: Counter[str] = Counter()

    @contextmanager
    def upload(self, tenant: str, writer: Writer) -> Generator[Writer]:
        """Yield a writer that counts; let the file be known before the block ends."""
        counting = _CountingWriter(self._take, tenant, writer)
        try:
            yield counting
        finally:
            with self._lock:
                counting.is_open = False
                self._arrived[tenant] -= counting.size
                if not self._arrived[tenant]:
                    del self._arrived[tenant]

    def _take(self, counting: _CountingWriter, size: int) -> None:
        """Count bytes that have arrived.

        Raises:
            ApiError: They are too many for the tenant.
        """
        tenant = counting.tenant
        with self._lock:
            if not counting.is_open:  # its client is gone, and only this thread still writes
                return
            counting.size += size
            self._arrived[tenant] += size
            arrived = self._arrived[tenant]
        # Read afterwards: an upload that ends now counts twice for a moment, but never not at all.
        taken = self._store.file_bytes(tenant) + arrived
        if taken > self._most_bytes:
            raise _full(tenant, self._most_bytes, taken)


class _CountingWriter:
    """Passes on what there is room for."""

    def __init__(
        self, take: Callable[[_CountingWriter, int], None], tenant: str, writer: Writer
    ) -> None:
        self._take, self._writer = take, writer
        self.tenant, self.size, self.is_open = tenant, 0, True

    def write(self, data: bytes) -> None:
        self._take(self, len(data))
        self._writer.write(data)


def _full(tenant: str, most_bytes: int, taken: int) -> ApiError:
    asked = f"{tenant}: asked for files of at most {most_bytes} bytes in all"
    return ApiError(429, "storage_full", f"{asked}, found {taken}; delete some", "file")
