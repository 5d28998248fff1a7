"""`steppe ledger`: one line and an exit code for whatever holds or does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tests.ledger.test_tariff import TARIFF
from tests.ledger.verifier.test_verify_receipt import BILLED, KEY, ORIGIN

from steppe.cli import main
from steppe.ledger.log.log import Log
from steppe.ledger.log.witness import cosign
from steppe.ledger.signing import COSIGNATURE, Note, PrivateKey, PublicKey

WITNESS = PrivateKey("grid.example/w1", bytes(range(1, 33)), COSIGNATURE)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(main, ["ledger", *map(str, arguments)], prog_name="steppe")


def fails(result: Result, exit_code: int, said: str) -> None:
    assert (result.exit_code, result.stdout) == (exit_code, "")
    assert result.stderr.startswith("steppe: ")
    assert said in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a log of a tariff, a receipt and an entry of no kind, and their files."""
    log = Log(tmp_path / "log", ORIGIN, [KEY])
    log.add([TARIFF.entry, BILLED.entry, b"another"])
    (tmp_path / "key").write_text(KEY.public.text + "\n")
    for index in range(3):
        result = run("proof", log_of(tmp_path), index, "--key", tmp_path / "key", "--to", tmp_path)
        assert result.exit_code == 0, result.output
    return tmp_path


def log_of(folder: Path) -> Path:
    return folder / "log"


def verified(folder: Path, *more: object, name: str = "receipt-1") -> Result:
    files = (folder / f"{name}.json", folder / f"{name}.proof")
    return run("verify", *files, "--key", folder / "key", *more)


def tariff_options(folder: Path) -> tuple[object, ...]:
    return "--tariff", folder / "tariff-0.json", "--tariff-proof", folder / "tariff-0.proof"


def replaced(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


@pytest.mark.parametrize("more", [(), ("--witness",)])
def test_a_new_key_is_shown_again(tmp_path: Path, more: tuple[str, ...]) -> None:
    path = tmp_path / "a.key"
    made = run("keys", "new", path, "example.org/a", *more)
    key = PublicKey.read(made.stdout)
    assert (key.name, key.algorithm) == ("example.org/a", COSIGNATURE if more else 1)
    assert path.stat().st_mode & 0o777 == 0o600
    assert run("keys", "show", path).stdout == made.stdout
    shown = json.loads(run("keys", "show", path, "--json").stdout)
    kind = "witness" if more else "log"
    assert shown == {"name": key.name, "id": key.id.hex(), "of": kind, "key": key.text}
    fails(run("keys", "new", path, "example.org/a"), 2, "cannot write the key: File exists")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("keys", "new", "x", "a name"), "asked for a key name without spaces"),
        (("keys", "show", "nowhere.key"), "nowhere.key: cannot read the key"),
        (("verify", "a", "b"), "Missing option '--key'"),
        (("verify", "a", "b", "--key", "nowhere.pub"), "nowhere.pub: No such file"),
        (("verify", "a", "b", "--key", "a+b+c"), "asked for a key `name+id+key`"),
        (("verify", "a", "b", "--key", WITNESS.public.text), "found a witness's"),
        (("verify", "a", "b", "--key", KEY.public.text), "a: No such file"),
        (("verify", "a", "b", "--key", "k", "--tariff", "t"), "both of --tariff and"),
        (("verify", "a", "b", "--key", KEY.public.text, "--least", "1"), "asked for 1 witnesses"),
        (("proof", "nowhere", "0", "--key", KEY.public.text), "found no checkpoint"),
        (("audit-log", "nowhere", "--key", KEY.public.text), "found no checkpoint"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    fails(run(*arguments), 2, said)


def test_a_receipt_of_a_log_holds(folder: Path) -> None:
    line = f"{ORIGIN}, 3 entries: the log contains the receipt"
    assert verified(folder).stdout == line + "\n"
    priced = verified(folder, *tariff_options(folder))
    assert priced.stdout == line + "; its price is that of the logged tariff\n"
    row = json.loads(verified(folder, "--json").stdout)
    assert (row["receipt"], row["index"], row["price"]) == (BILLED.id, 1, "not checked")
    assert verified(folder, "--log", "another.example").exit_code == 1


@pytest.mark.parametrize(
    ("file", "before", "after", "said"),
    [
        ("receipt-1.json", '"output_tokens":30', '"output_tokens":31', "the path does not lead"),
        ("receipt-1.proof", "index 1", "index 2", "receipt-1.proof: inclusion"),
        ("receipt-1.proof", "\n3\n", "\n4\n", "signature: that of example.org/steppe does not"),
        ("receipt-1.proof", "@v1", "@v2", "asked for c2sp.org/tlog-proof@v1"),
        ("receipt-1.proof", "— example", "— éxample", "signature: asked for one of"),
        ("tariff-0.json", '"output_nano":400', '"output_nano":401', "tariff-0.proof: inclusion"),
    ],
)
def test_what_was_changed_does_not_hold(
    folder: Path, file: str, before: str, after: str, said: str
) -> None:
    replaced(folder / file, before, after)
    fails(verified(folder, *tariff_options(folder)), 1, said)


def test_a_signature_that_is_not_ascii_is_one_line(folder: Path) -> None:
    proof = folder / "receipt-1.proof"
    proof.write_text(proof.read_text()[:-5] + "é\n")
    fails(verified(folder), 1, "signature: asked for base64")
    proof.write_bytes(b"\xff")
    fails(verified(folder), 2, "receipt-1.proof: asked for text")


def test_a_logged_entry_that_is_no_receipt_is_bad_input(folder: Path) -> None:
    fails(verified(folder, name="tariff-0"), 2, "receipt: asked for version 1 of it")
    fails(verified(folder, name="entry-2"), 2, "receipt: asked for JSON")


def test_a_price_that_is_not_the_tariffs_does_not_hold(tmp_path: Path) -> None:
    log, key = Log(tmp_path / "log", ORIGIN, [KEY]), KEY.public.text
    dear = replace(BILLED, amount_nano=BILLED.amount_nano + 1)
    log.add([TARIFF.entry, dear.entry, replace(BILLED, tariff="other/0").entry])
    (tmp_path / "key").write_text(key)
    for index in range(3):
        run("proof", tmp_path / "log", index, "--key", key, "--to", tmp_path)
    options = tariff_options(tmp_path)
    fails(verified(tmp_path, *options), 1, f"price: asked for {BILLED.amount_nano} x 10^-9 CNY")
    fails(verified(tmp_path, *options, name="receipt-2"), 1, "asked for 'other/0'")


def test_witnesses_are_counted(folder: Path) -> None:
    fails(verified(folder, "--witness", WITNESS.public.text), 1, "asked for 1 cosignatures")
    assert verified(folder, "--witness", WITNESS.public.text, "--least", 0).exit_code == 0
    proof = folder / "receipt-1.proof"
    head, _, note = proof.read_text().partition("\n\n")
    signed = Note.read(note)
    signed = signed.with_signatures([cosign(signed.text, WITNESS, 1_764_000_000)])
    proof.write_text(f"{head}\n\n{signed.whole}")
    found = verified(folder, "--witness", WITNESS.public.text)
    assert found.stdout.endswith("; signed by the witnesses grid.example/w1\n")


def test_a_log_is_audited(folder: Path) -> None:
    arguments = ("audit-log", log_of(folder), "--key", folder / "key")
    root = Log(log_of(folder), ORIGIN, [KEY]).head.root.hex()
    assert root in run(*arguments).stdout
    document = json.loads(run(*arguments, "--json").stdout)
    assert document == {"log": ORIGIN, "entries": 3, "root": root}
    replaced(log_of(folder) / "tile/entries/000.p/3", "another", "anOther")
    fails(run(*arguments), 1, "log: entry 2 is not the one whose hash is in the tree")
    proof = run("proof", log_of(folder), 2, "--key", folder / "key", "--to", folder)
    fails(proof, 1, "inclusion: the path does not lead")
    (log_of(folder) / "checkpoint").write_bytes(b"\xff\xfe")
    fails(run(*arguments), 1, "note: asked for a text")


def test_an_entry_beyond_the_log_is_bad_input(folder: Path) -> None:
    result = run("proof", log_of(folder), 3, "--key", folder / "key")
    fails(result, 2, "asked for entry 3, found 3 entries")
