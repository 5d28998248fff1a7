from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from steppe.config.yaml_file import read_mapping
from steppe.tenants.directory import Directory
from steppe.tenants.key import KeyRefusedError, StoredKey, digest_of, make_key, matches, prefix_of
from steppe.tenants.tenant import KnownTenants, Tenant


def test_a_key_shows_its_prefix_and_hides_its_secret() -> None:
    key = make_key("a", 0.0)
    assert key.text.startswith(f"sk-steppe-{key.stored.prefix}-")
    assert prefix_of(key.text) == key.stored.prefix
    secret = key.text.removeprefix(f"sk-steppe-{key.stored.prefix}-")
    assert len(secret) == 43
    assert secret not in repr(key)
    assert key.stored.digest not in repr(key)


def test_only_the_whole_key_matches_its_digest() -> None:
    key = make_key("a", 0.0)
    assert matches(key.text, key.stored.digest)
    other = make_key("a", 0.0).text
    assert not matches(other, key.stored.digest)
    assert not matches(key.text[:-1], key.stored.digest)


def test_two_keys_differ_in_prefix_and_secret() -> None:
    first, second = make_key("a", 0.0), make_key("a", 0.0)
    assert first.stored.prefix != second.stored.prefix
    assert first.stored.digest != second.stored.digest


def test_prefixes_are_texts_in_a_configuration(tmp_path: Path) -> None:
    prefixes = [make_key("lab", 0.0).stored.prefix for _ in range(1_000)]
    file = tmp_path / "run.yaml"
    file.write_text(yaml.safe_dump({"prefixes": prefixes}))
    assert read_mapping(file) == {"prefixes": prefixes}


@pytest.mark.parametrize("text", ["", "sk-abc", "sk-steppe-xyz-1", "sk-steppe-01234567-short"])
def test_another_text_is_no_key_and_is_not_repeated_in_the_error(text: str) -> None:
    with pytest.raises(KeyRefusedError) as caught:
        prefix_of(text)
    assert not text or text not in str(caught.value)


def directory(*keys: StoredKey) -> Directory:
    return Directory(KnownTenants((Tenant("a"), Tenant("b")), keys))


def test_a_key_finds_its_tenant() -> None:
    first, second = make_key("a", 0.0), make_key("b", 0.0)
    found = directory(first.stored, second.stored)
    assert found.owner(first.text, 1.0).name == "a"
    assert found.owner(second.text, 1.0).name == "b"


def test_an_unknown_a_revoked_and_an_expired_key_are_refused_with_the_reason() -> None:
    revoked, short = make_key("a", 0.0), make_key("a", 0.0, 10.0)
    kept = StoredKey("a", revoked.stored.prefix, revoked.stored.digest, 0.0, None, 5.0)
    found = directory(kept, short.stored)
    for text, why in (
        (make_key("a", 0.0).text, "is unknown"),
        (revoked.text, "is revoked"),
        (short.text, "has expired"),
    ):
        with pytest.raises(KeyRefusedError, match=why):
            found.owner(text, 10.0)
    assert found.owner(short.text, 9.9).name == "a"


def test_a_secret_with_the_prefix_of_another_key_is_refused() -> None:
    key, other = make_key("a", 0.0), make_key("b", 0.0)
    forged = other.text.replace(other.stored.prefix, key.stored.prefix)
    with pytest.raises(KeyRefusedError, match="is unknown"):
        directory(key.stored).owner(forged, 1.0)


def test_the_first_source_that_has_a_name_or_a_prefix_counts() -> None:
    own = make_key("a", 0.0)
    taken = StoredKey("b", own.stored.prefix, digest_of("x"))
    first = KnownTenants((Tenant("a", weight=2.0),), (own.stored,))
    second = KnownTenants(
        (Tenant("a", is_admin=True), Tenant("b")), (taken, make_key("a", 0).stored)
    )
    found = Directory(first, second)
    assert found.names == ("a", "b")
    assert found.owner(own.text, 1.0) == Tenant("a", weight=2.0)


def test_keys_of_a_name_from_another_source_do_not_count() -> None:
    theirs = make_key("a", 0.0)
    found = Directory(KnownTenants((Tenant("a"),)), KnownTenants((Tenant("a"),), (theirs.stored,)))
    with pytest.raises(KeyRefusedError):
        found.owner(theirs.text, 1.0)
