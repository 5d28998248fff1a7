"""`steppe ledger`: the books of a site, and what others can check of them."""

from __future__ import annotations

import click

from steppe.cli import LazyGroup

_LOG = "steppe.cli.ledger_log"
PLACES = {
    "audit": (
        "steppe.cli.ledger_audit:audit_command",
        "Check the whole ledger of a record, and print where its energy went.",
    ),
    "explain": (
        "steppe.cli.ledger_explain:explain_command",
        "Show why a receipt has its price and its joules.",
    ),
    "statement": (
        "steppe.cli.ledger_statement:statement_command",
        "Write a tenant's month, with all that is needed to check it.",
    ),
    "close": (
        "steppe.cli.ledger_correct:close_command",
        "Close the hours that are due, after the last run of a site.",
    ),
    "correct": (
        "steppe.cli.ledger_correct:correct_command",
        "Put a receipt right, and give back what it cost too much.",
    ),
    "certificates": (
        "steppe.cli.ledger_green:certificates_group",
        "Certificates of green energy: take in, list, match, cancel.",
    ),
    "score": (
        "steppe.cli.ledger_green:score_command",
        "Print which share of the energy was green in the hour of its use.",
    ),
    "keys": (f"{_LOG}:keys_group", "Make and show the keys that sign a log."),
    "verify": (f"{_LOG}:verify_command", "Check that the log contains a receipt, and its price."),
    "proof": (f"{_LOG}:proof_command", "Write an entry of a log and its proof to files."),
    "audit-log": (f"{_LOG}:audit_log_command", "Check every entry of a log and its signed root."),
    "export": ("steppe.cli.ledger_export:export_command", "Write entries for tools of SCITT."),
    "witness": ("steppe.cli.ledger_witness:witness_command", "Sign the heads of others' logs."),
}


@click.group(
    "ledger",
    cls=LazyGroup,
    places=PLACES,
    epilog="Example: steppe ledger audit runs/one",
)
def ledger_group() -> None:
    """Check the books of a site, and make what others can check.

    Exit code 0: all of it holds; 1: something does not, and the line says what.
    """
