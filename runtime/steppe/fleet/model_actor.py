"""Gets the model on one node, once for all replicas there."""

from __future__ import annotations

from steppe.models.store import get_model


class ModelActor:
    """Gets one model; `progress` answers meanwhile."""

    def __init__(self) -> None:
        """Begin without a model."""
        self._line = ""

    def get(self, name: str) -> str:
        """Return the folder of the model on this node.

        Raises:
            InstallError: A package that is needed for it is missing.
            ModelError: There is no such model, or it cannot be got.
        """
        return str(get_model(name, progress=self._note))

    def progress(self) -> str:
        """Return what it does now, in one line; empty before the first stage."""
        return self._line

    def _note(self, line: str) -> None:
        self._line = line
