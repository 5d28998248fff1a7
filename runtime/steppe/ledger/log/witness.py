"""Witnesses: others that saw the head of a log, and that it only grew (`c2sp.org/tlog-witness`).

A log that shows two histories to two readers needs two heads. A witness keeps the last head that it
saw of each log, signs a newer one only with a proof that this begins with the last, and so signs
one history only. Its cosignature (`c2sp.org/tlog-cosignature`, `cosignature/v1`) is one more line
of a checkpoint. Readers ask for those of a few witnesses that the operator does not run.

Nothing here does I/O: what a witness has is a value. Bring the new one to disk before the
cosignature leaves, and decide on one request at a time.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from steppe.errors import SteppeError, UsageError
from steppe.ledger.log.checkpoint import Checkpoint, hash_of, is_number
from steppe.ledger.signing import (
    COSIGNATURE,
    Note,
    NoteSignature,
    PrivateKey,
    PublicKey,
    SignatureError,
)
from steppe.ledger.tree import EMPTY_ROOT, Head, ProofError, check_consistency

MOST_PROOF_LINES = 63
"""Most hashes of a consistency proof in a request."""
SIZE_TYPE = "text/x.tlog.size"
"""Content type of the answer to an `OldSizeError`: the size of the last head and a newline."""
_TIME_BYTES, _LATEST_S = 8, 2**63 - 1


class WitnessRefusedError(SteppeError):
    """A witness does not sign a checkpoint; `status` is that of the HTTP answer."""

    status = 400


class UnknownLogError(WitnessRefusedError):
    """The witness knows no key of this log."""

    status = 404


class NotSignedError(WitnessRefusedError):
    """No known key of the log has signed the checkpoint."""

    status = 403


class OldSizeError(WitnessRefusedError):
    """The proof does not begin at the last head of the witness; `size` is that of this head."""

    status = 409

    def __init__(self, message: str, size: int) -> None:
        """Keep the size from which a proof should begin."""
        super().__init__(message)
        self.size = size


class ForkError(WitnessRefusedError):
    """The log shows another history than before: two roots of one size."""

    status = 409


class NotConsistentError(WitnessRefusedError):
    """The proof does not show that the tree begins with the last one: a fork, or a wrong proof."""

    status = 422


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """The body of a request `add-checkpoint`.

    Attributes:
        old_size: Size of the last checkpoint that the witness signed; 0 for none.
        proof: Proof that the tree begins with that one.
        note: The signed checkpoint.
    """

    old_size: int
    proof: tuple[bytes, ...]
    note: str

    @property
    def text(self) -> str:
        """The body."""
        proof = "".join(base64.b64encode(step).decode() + "\n" for step in self.proof)
        return f"old {self.old_size}\n{proof}\n{self.note}"

    @classmethod
    def read(cls, text: str) -> AddCheckpoint:
        """Return the request of a body.

        Raises:
            RefusedError: It is none.
        """
        head, found, note = text.partition("\n\n")
        first, *lines = head.split("\n")
        word, _, size = first.partition(" ")
        if not found or word != "old" or not is_number(size):
            raise WitnessRefusedError(f"add-checkpoint: asked for `old SIZE`, found {first[:60]!r}")
        if len(lines) > MOST_PROOF_LINES:
            asked = f"asked for at most {MOST_PROOF_LINES} lines of proof"
            raise WitnessRefusedError(f"add-checkpoint: {asked}, found {len(lines)}")
        try:
            proof = tuple(hash_of(line, "add-checkpoint") for line in lines)
        except ProofError as error:
            raise WitnessRefusedError(str(error)) from error
        return cls(int(size), proof, note)


@dataclass(frozen=True, slots=True)
class Witness:
    """What a witness has.

    Attributes:
        key: The key that it signs with, of the algorithm `COSIGNATURE`.
        logs: The keys of each log, by its origin.
        heads: The last head that it signed of each log.
    """

    key: PrivateKey
    logs: Mapping[str, tuple[PublicKey, ...]]
    heads: Mapping[str, Head] = field(default_factory=dict)

    def add(self, request: AddCheckpoint, now_s: int) -> tuple[Witness, NoteSignature]:
        """Return what the witness knows after a checkpoint, and its cosignature.

        The checks and their order are those of `c2sp.org/tlog-witness`.

        Args:
            request: The checkpoint and its proof.
            now_s: The time, s since the Unix epoch.

        Raises:
            RefusedError: The checkpoint is none, is not signed, or does not go on from the last.
        """
        try:
            note = Note.read(request.note)
            checkpoint = Checkpoint.read(note.text)
        except (SignatureError, ProofError) as error:
            raise WitnessRefusedError(str(error)) from error
        origin, new = checkpoint.origin, checkpoint.head
        self._check_signature(origin, note)
        last = self.heads.get(origin, Head(0, EMPTY_ROOT))
        _check_growth(f"witness: {origin}", request, last, new)
        after = replace(self, heads={**self.heads, origin: new})
        return after, cosign(note.text, self.key, now_s)

    def _check_signature(self, origin: str, note: Note) -> None:
        keys = self.logs.get(origin)
        if keys is None:
            known = ", ".join(self.logs) or "none"
            raise UnknownLogError(f"witness: asked for one of the logs {known}, found {origin}")
        try:
            note.check(keys)
        except SignatureError as error:
            raise NotSignedError(f"witness: {error}") from error


def cosign(text: str, key: PrivateKey, now_s: int) -> NoteSignature:
    """Return the cosignature of the text of a checkpoint.

    Args:
        text: The text, without signatures.
        key: A key of the algorithm `COSIGNATURE`.
        now_s: The time, s since the Unix epoch.
    """
    assert key.algorithm == COSIGNATURE, "the key of a witness signs nothing else"
    assert 0 <= now_s <= _LATEST_S, "a time is that of a POSIX clock"
    blob = now_s.to_bytes(_TIME_BYTES, "big") + key.sign(_message(text, now_s))
    return NoteSignature(key.name, key.public.id, blob)


def check_cosignatures(
    note: str, witnesses: Sequence[PublicKey], least: int
) -> dict[PublicKey, int]:
    """Return the witnesses that have signed a checkpoint, and when, s since the Unix epoch.

    A cosignature does not say its witness's name: one key under two names is one witness.

    Raises:
        SignatureError: It is no note, too few have signed, or a signature is wrong.
        UsageError: A key is not that of a witness.
    """
    signed, found = Note.read(note), dict[PublicKey, int]()
    for key in witnesses:
        if key.algorithm != COSIGNATURE:
            asked = f"asked for a key of algorithm {COSIGNATURE}"
            raise UsageError(f"witness {key.name}: {asked}, found {key.algorithm}")
        cosignature = signed.of(key)
        if cosignature is not None:
            time_s = _checked_time(signed.text, cosignature, key)
            if key.raw not in {other.raw for other in found}:
                found[key] = time_s
    if len(found) < least:
        names = ", ".join(key.name for key in found) or "none"
        raise SignatureError(f"witnesses: asked for {least} cosignatures, found {names}")
    return found


def _check_growth(log: str, request: AddCheckpoint, last: Head, new: Head) -> None:
    """Check that a tree goes on from the last one.

    Raises:
        RefusedError: It does not; the line names both heads.
    """
    heads = f"last {_shown(last)}, now {_shown(new)}"
    if request.old_size > new.size:
        raise WitnessRefusedError(f"{log}: asked for a tree that grows: {heads}")
    if request.old_size != last.size:
        asked = f"asked for a proof from size {last.size}, found one from {request.old_size}"
        raise OldSizeError(f"{log}: {asked}: {heads}", last.size)
    if last.size == new.size and last.root != new.root:
        raise ForkError(f"{log}: asked for one history, found a fork: {heads}")
    try:
        check_consistency(last, new, request.proof)
    except ProofError as error:
        raise NotConsistentError(f"{log}: {error}: {heads}") from error


def _checked_time(text: str, cosignature: NoteSignature, key: PublicKey) -> int:
    """Return the time of a cosignature, s since the Unix epoch.

    Raises:
        SignatureError: It does not fit the text.
    """
    time_s = int.from_bytes(cosignature.blob[:_TIME_BYTES], "big")
    message = _message(text, time_s)
    if time_s > _LATEST_S or not key.is_valid(cosignature.blob[_TIME_BYTES:], message):
        raise SignatureError(f"witness {key.name}: its cosignature does not fit the text")
    return time_s


def _message(text: str, now_s: int) -> bytes:
    return f"cosignature/v1\ntime {now_s}\n{text}".encode()


def _shown(head: Head) -> str:
    return f"{head.size} leaves with root {base64.b64encode(head.root).decode()}"
