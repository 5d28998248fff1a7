"""The file that customers run: it finds every change, and needs nothing of this package."""

from __future__ import annotations

import ast
import base64
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from tests.ledger.test_receipt import RECEIPT
from tests.ledger.test_tariff import TARIFF

from steppe.ledger.log.log import Log
from steppe.ledger.log.witness import cosign
from steppe.ledger.signing import COSIGNATURE, Note, PrivateKey
from steppe.ledger.tariff import Rate, Tariff
from steppe.ledger.verifier import verify_receipt

FILE = Path(verify_receipt.__file__)
ORIGIN = "example.org/steppe"
KEY = PrivateKey(ORIGIN, bytes(range(32)))
PRICED = replace(RECEIPT, tariff=TARIFF.name_of(2), currency="CNY")
BILLED = replace(PRICED, amount_nano=TARIFF.price_nano(PRICED))


@dataclass(frozen=True, slots=True)
class Papers:
    """What a customer has: the files of a receipt."""

    folder: Path

    def run(self, *changes: str, key: str = KEY.public.text) -> subprocess.CompletedProcess[str]:
        options = [
            f"--tariff={self.folder}/tariff.json",
            f"--tariff-proof={self.folder}/tariff.proof",
        ]
        files = [str(self.folder / "receipt.json"), str(self.folder / "receipt.proof")]
        command = [sys.executable, "-I", str(FILE), *files, *options, "--key", key, *changes]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    def change(self, name: str, before: str, after: str) -> None:
        path = self.folder / name
        text = path.read_text()
        assert before in text
        path.write_text(text.replace(before, after, 1))


def write_papers(folder: Path, log: Log, receipt: int, tariff: int) -> None:
    for name, index in (("receipt", receipt), ("tariff", tariff)):
        (folder / f"{name}.json").write_bytes(log.entry(index))
        (folder / f"{name}.proof").write_text(log.proof(index).text)


@pytest.fixture
def papers(tmp_path: Path) -> Papers:
    log = Log(tmp_path / "log", ORIGIN, [KEY])
    others = [replace(RECEIPT, id=f"{number}", seq=number).entry for number in range(4)]
    log.add([TARIFF.entry, *others])
    (tmp_path / "older").write_text(log.note())
    log.add([BILLED.entry, *others])
    proof = log.consistency(5, 10)
    (tmp_path / "consistency").write_text("\n".join(base64.b64encode(h).decode() for h in proof))
    write_papers(tmp_path, log, 5, 0)
    return Papers(tmp_path)


def test_a_customer_checks_receipt_price_and_history(papers: Papers) -> None:
    folder = papers.folder
    found = papers.run(f"--head={folder}/older", f"--consistency={folder}/consistency")
    assert found.stderr == ""
    assert found.stdout == (
        "example.org/steppe, 10 entries: the log contains the receipt; its price is that of the "
        "logged tariff; nothing that was logged before has changed\n"
    )


@pytest.mark.parametrize(
    ("name", "before", "after", "message"),
    [
        ("receipt.json", '"output_tokens":30', '"output_tokens":31', "proof: the log does not"),
        ("receipt.json", '"amount_nano":12849', '"amount_nano":12850', "proof: the log does not"),
        ("receipt.proof", "index 5", "index 6", "proof: the log does not contain this entry"),
        ("receipt.proof", "index 5", "index 05", "proof: asked for c2sp.org/tlog-proof@v1"),
        ("receipt.proof", "@v1", "@v2", "proof: asked for c2sp.org/tlog-proof@v1"),
        ("receipt.proof", "\n10\n", "\n11\n", "signature: it does not fit the checkpoint"),
        ("receipt.proof", "\u2014 example", "\u2014 sample", "signature: asked for one of example"),
        ("tariff.json", '"output_nano":400', '"output_nano":399', "proof: the log does not"),
        ("tariff.proof", "index 0", "index 1", "proof: the log does not contain this entry"),
    ],
)
def test_a_change_is_found_and_named(
    papers: Papers, name: str, before: str, after: str, message: str
) -> None:
    papers.change(name, before, after)
    found = papers.run()
    assert found.returncode == 1
    assert found.stderr.startswith(f"does not hold: {message}")


def test_a_wrong_key_is_refused(papers: Papers) -> None:
    other = PrivateKey.new(ORIGIN).public
    assert "asked for one of" in papers.run(key=other.text).stderr
    assert "does not fit it" in papers.run(key=f"other{KEY.public.text}").stderr
    assert papers.run(key="nothing").returncode == 1


@pytest.mark.parametrize(
    ("receipt", "message"),
    [
        (replace(BILLED, amount_nano=BILLED.amount_nano + 1), "price: the receipt says"),
        (replace(BILLED, tariff="tou-2/2"), "price: asked for tariff tou-2/2, found tou-1"),
        (replace(BILLED, currency="EUR"), "price: asked for tariff"),
        (replace(BILLED, tariff="tou-1/0"), "price: rate tou-1/0 is not for standard"),
        (replace(BILLED, tariff="tou-1/9"), "list index out of range"),
    ],
)
def test_a_receipt_with_a_wrong_price_is_found_although_it_is_logged(
    tmp_path: Path, receipt: object, message: str
) -> None:
    assert isinstance(receipt, type(BILLED))
    log = Log(tmp_path / "log", ORIGIN, [KEY])
    log.add([TARIFF.entry, receipt.entry])
    write_papers(tmp_path, log, 1, 0)
    found = Papers(tmp_path).run()
    assert found.returncode == 1
    assert message in found.stderr


@pytest.mark.parametrize("currency", ["tokens:large", "energy"])
def test_a_receipt_that_was_paid_with_tokens_or_energy_is_checked_as_one_in_money(
    tmp_path: Path, currency: str
) -> None:
    nano = 10**9
    rates = {
        "tokens:large": Rate(prompt_nano=nano, cached_nano=nano // 2, output_nano=nano),
        "energy": Rate(joule_nano=nano, hold_uj_per_token=5),
    }
    tariff = Tariff("units-1", currency, 0, 0, (rates[currency],))
    priced = replace(RECEIPT, tariff="units-1/0", currency=currency)
    paid = replace(priced, amount_nano=tariff.price_nano(priced))
    assert paid.amount_nano == {"tokens:large": 40 * nano, "energy": 1_234_567_000}[currency]
    log = Log(tmp_path / "log", ORIGIN, [KEY])
    log.add([tariff.entry, paid.entry, replace(paid, amount_nano=1).entry])
    write_papers(tmp_path, log, 1, 0)
    assert Papers(tmp_path).run().stderr == ""
    write_papers(tmp_path, log, 2, 0)
    assert "price: the receipt says 1, the tariff" in Papers(tmp_path).run().stderr


@pytest.mark.parametrize(("old", "new"), [(1, 2), (3, 7), (4, 9), (6, 6), (255, 300), (256, 513)])
def test_a_log_that_grew_is_the_same_log_and_a_changed_one_is_not(
    tmp_path: Path, old: int, new: int
) -> None:
    log = Log(tmp_path / "log", ORIGIN, [KEY])
    other = Log(tmp_path / "other", ORIGIN, [KEY])
    log.add([b"%d" % number for number in range(old)])
    other.add([b"x", *(b"%d" % number for number in range(1, old))])
    before, changed = log.head, other.head
    if new > old:
        log.add([b"%d" % number for number in range(old, new)])
    proof, after = log.consistency(old, new), log.head
    older = (ORIGIN, before.size, before.root)
    newer = (ORIGIN, after.size, after.root)
    verify_receipt.check_same_log(older, newer, proof)
    for wrong in ((ORIGIN, changed.size, changed.root), ("other", *older[1:]), (ORIGIN, 0, b"")):
        with pytest.raises(verify_receipt.WrongError, match="was changed"):
            verify_receipt.check_same_log(wrong, newer, proof)
    if proof:
        with pytest.raises(verify_receipt.WrongError, match="was changed"):
            verify_receipt.check_same_log(older, newer, proof[:-1])


def test_the_file_is_short_and_needs_cryptography_only() -> None:
    source = FILE.read_text()
    modules = set()
    for statement in ast.walk(ast.parse(source)):
        match statement:
            case ast.Import(names=names):
                modules |= {name.name.split(".")[0] for name in names}
            case ast.ImportFrom(module=str(module)):
                modules.add(module.split(".")[0])
    assert modules - sys.stdlib_module_names == {"cryptography"}
    assert source.count("\n") <= 150


def test_a_checkpoint_that_witnesses_have_signed_is_checked_as_before(papers: Papers) -> None:
    proof = papers.folder / "receipt.proof"
    head, _, note = proof.read_text().partition("\n\n")
    signed, witness = Note.read(note), PrivateKey(ORIGIN, KEY.seed, COSIGNATURE)
    cosignature = cosign(signed.text, witness, 1_764_000_000)
    proof.write_text(f"{head}\n\n{signed.with_signatures([cosignature]).whole}")
    assert papers.run().stderr == ""
