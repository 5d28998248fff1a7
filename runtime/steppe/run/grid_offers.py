"""What a site offers and has promised, from its gateway, or from the folder of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steppe.batch.api_client import ApiClient
from steppe.config import OffersSection
from steppe.errors import UsageError
from steppe.grid.offers.history import Window
from steppe.grid.offers.offer import Call
from steppe.grid.offers.site_offer import site_offers
from steppe.grid.service.offers.kept_history import FILE_NAME, KeptHistory, shown_moments
from steppe.grid.service.offers.promises import FolderPromises, LedgerPromises, Promises
from steppe.grid.service.offers.shown import shown_commitment, shown_offer
from steppe.ledger.service.settings import STORE
from steppe.ledger.store.ledger_store import LedgerStore
from steppe.report.record_folder import GRID_FOLDER, LEDGER_FOLDER
from steppe.run.batch import read_key

Json = dict[str, Any]
_FLEXIBILITY, _COMMITMENTS = "/steppe/v1/flexibility", "/steppe/v1/grid/commitments"


@dataclass(frozen=True, slots=True)
class AskedOffer:
    """What is asked of the history of a run.

    Attributes:
        notice_s: Time from a call to its start, s.
        hold_s: Longest time for which a call holds, s.
        confidence: Share of the futures in which the watts are there.
        windows: How many hours are offered, from the end of the history on.
    """

    notice_s: float
    hold_s: float
    confidence: float
    windows: int = 24


def offers_at(place: str, key_file: Path | None, asked: AskedOffer) -> Json:
    """Return what a site offers: of a running one from its gateway, of a folder from its history.

    Args:
        place: A URL, or the folder of a run or of its grid.
        key_file: File with the key for the gateway.
        asked: What is asked of a folder; a gateway answers by its configuration.

    Raises:
        UsageError: There is none, or it does not answer.
    """
    if is_url(place):
        return ApiClient(place, read_key(key_file)).ask("GET", _FLEXIBILITY)
    folder = _grid_folder(Path(place))
    history = KeptHistory(folder, math.inf).moments
    if not history:
        raise UsageError(f"{folder}: asked for a history ({FILE_NAME}), found none")
    now, length_s = history[-1], OffersSection().window_s
    call = Call(asked.notice_s, asked.hold_s, asked.confidence)
    first = math.ceil((now.at_s + call.notice_s) / length_s)
    windows = [
        Window(n * length_s, (n + 1) * length_s) for n in range(first, first + asked.windows)
    ]
    if call.hold_s > length_s:
        raise UsageError(f"asked for calls of {call.hold_s:g} s, found windows of {length_s:g} s")
    promised = _promised(folder, math.floor(now.at_s))
    found = site_offers("site", history, now, windows, call)
    return {
        "object": "steppe.flexibility",
        "at": now.at_s,
        "history": shown_moments(history),
        "offers": [shown_offer(each, promised) for each in found],
    }


def commitments_at(place: str, key_file: Path | None) -> list[Json]:
    """Return the commitments of a site: a running one shows those that have not ended.

    Args:
        place: A URL, or the folder of a run or of its grid.
        key_file: File with the key for the gateway.

    Raises:
        UsageError: There is none, or it does not answer.
    """
    if is_url(place):
        found: list[Json] = ApiClient(place, read_key(key_file)).ask("GET", _COMMITMENTS)["data"]
        return found
    return [shown_commitment(one) for one in _promised(_grid_folder(Path(place)), 0)]


def commit_at(url: str, key_file: Path | None, asked: Json) -> Json:
    """Promise watts of a running site; return the commitment.

    Args:
        url: Its gateway.
        key_file: File with the key for the gateway.
        asked: The commitment.

    Raises:
        UsageError: The watts are not offered or not free, or it does not answer.
    """
    return ApiClient(url, read_key(key_file)).ask("POST", _COMMITMENTS, asked)


def is_url(place: str) -> bool:
    """Return whether a place is the URL of a gateway."""
    return place.startswith(("http://", "https://"))


def _grid_folder(place: Path) -> Path:
    """Return the folder of the grid of a run.

    Raises:
        UsageError: There is none.
    """
    for folder in (place / GRID_FOLDER, place):
        if folder.is_dir():
            return folder
    raise UsageError(f"{place}: asked for the folder of a run, or a URL, found no folder")


def _promised(folder: Path, from_s: int) -> list[Any]:
    """Return the commitments beside a history: those of the ledger of its run, or of its file."""
    place = folder.parent / LEDGER_FOLDER / STORE
    if not place.is_file():
        promises: Promises = FolderPromises(folder)
        return list(promises.of(from_s))
    store = LedgerStore(str(place))
    try:
        return list(LedgerPromises(store, "site").of(from_s))
    finally:
        store.close()
