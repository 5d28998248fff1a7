"""What the commands of a ledger say while they work."""

from __future__ import annotations

from steppe.run.ledger import AuditProgress


def test_the_progress_of_a_long_audit_is_said_now_and_then() -> None:
    times, said = iter([0.0, 4.0, 6.0, 7.0, 12.0, 20.0]), list[str]()
    progress = AuditProgress(said.append, lambda: next(times))
    for done in (1, 2, 3, 4, 5):
        progress(done, 5)
    assert said == ["2 of 5 entries checked", "4 of 5 entries checked"]
