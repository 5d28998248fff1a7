from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml
from tests.fixtures.beating_sites import start_site

from steppe.config import SitesSection
from steppe.errors import UsageError
from steppe.ledger.signing import PrivateKey, PublicKey
from steppe.sites.check import check_sites
from steppe.sites.trust.certificates import VALID_S, read_credential
from steppe.sites.trust.init import init_sites, parse_regions, parse_sites, renew_sites
from steppe.sites.trust.tls import SiteTls, TlsFiles

SITES = {"hohhot": "https://10.0.0.1:8443", "shanghai": "https://10.0.0.2:8443"}


def tls_of(folder: Path) -> SiteTls:
    path = folder / "certificate.pem"
    return SiteTls(TlsFiles(path, path, folder / "authority.pem"))


def test_a_new_folder_has_all_that_two_sites_need(tmp_path: Path) -> None:
    folders = init_sites(tmp_path / "sites", SITES, time.time())
    assert [folder.name for folder in folders] == ["hohhot", "shanghai"]
    stub = yaml.safe_load((folders[0] / "sites.yaml").read_text())["sites"]
    ((peer),) = stub["peers"]
    assert (stub["name"], peer["name"], peer["url"]) == ("hohhot", "shanghai", SITES["shanghai"])
    key = PrivateKey.read(folders[1] / "tokens.key")
    assert [PublicKey.read(text) for text in peer["token_keys"]] == [key.public]
    secret = ("certificate.pem", "tokens.key")
    modes = {(folder / name).stat().st_mode & 0o777 for folder in folders for name in secret}
    assert modes == {0o600}
    assert b"PRIVATE" not in (folders[0] / "authority.pem").read_bytes()


async def test_two_sites_of_a_new_folder_beat_to_each_other(tmp_path: Path) -> None:
    hohhot, shanghai = init_sites(tmp_path, SITES, time.time())
    receiver = await start_site("hohhot", ["shanghai"], tls_of(hohhot))
    caller = await start_site("shanghai", ["hohhot"], tls_of(shanghai))
    try:
        sender = await caller.connect([])
        assert await sender.exchange_with(receiver.address)
    finally:
        await caller.stop()
        await receiver.stop()


def test_certificates_that_are_due_are_renewed_and_loaded(tmp_path: Path) -> None:
    now_s = time.time()
    hohhot, _shanghai = init_sites(tmp_path, SITES, now_s)
    tls, before = tls_of(hohhot), read_credential(hohhot / "certificate.pem")
    assert renew_sites(tmp_path, now_s + 3600) == []
    assert not tls.reload()
    assert renew_sites(tmp_path, now_s + 0.8 * VALID_S) == ["hohhot", "shanghai"]
    assert tls.reload()
    assert read_credential(hohhot / "certificate.pem") != before


def test_the_stub_is_a_valid_section(tmp_path: Path) -> None:
    urls = {"hohhot": "https://10.0.0.1:8443", "local": "https://127.0.0.1:9001"}
    regions = {"hohhot": "cn-north", "local": "eu"}
    for folder in init_sites(tmp_path, urls, time.time(), regions):
        values = yaml.safe_load((folder / "sites.yaml").read_text())["sites"]
        section = SitesSection.model_validate(values).resolved(folder)
        check_sites(section, time.time())
        (peer,) = section.peers
        assert (section.region, peer.region) == (regions[section.name], regions[peer.name])
        host = {"hohhot": "0.0.0.0", "local": "127.0.0.1"}[section.name]
        assert (section.host, section.port) == (host, int(urls[section.name][-4:]))


def test_without_regions_all_sites_are_in_one(tmp_path: Path) -> None:
    folder, _ = init_sites(tmp_path, SITES, time.time())
    stub = yaml.safe_load((folder / "sites.yaml").read_text())["sites"]
    assert stub["region"] == stub["peers"][0]["region"]


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (("a",), "asked for NAME=REGION, found 'a'"),
        (("a=c n",), "asked for NAME=REGION"),
        (("c=cn",), "asked for the region of a, b, found 'c'"),
        (("a=cn", "a=eu"), "found that of a twice"),
        (("a=cn",), "asked for the region of each site, found none of b"),
    ],
)
def test_texts_that_are_no_regions_are_refused(texts: tuple[str, ...], found: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_regions(texts, ("a", "b"))
    assert found in str(error.value)


def test_regions_are_read_from_texts() -> None:
    assert parse_regions(("a=cn-north", "b=eu"), ("a", "b")) == {"a": "cn-north", "b": "eu"}


def test_a_folder_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes").touch()
    with pytest.raises(UsageError, match="found one that is not empty"):
        init_sites(tmp_path, SITES, 0.0)


def test_a_folder_without_an_authority_is_not_renewed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        renew_sites(tmp_path, 0.0)


def test_sites_are_read_from_texts() -> None:
    assert parse_sites(("a=https://h:1/", "b=https://[::1]:2", "c=https://h")) == {
        "a": "https://h:1",
        "b": "https://[::1]:2",
        "c": "https://h:443",
    }


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        ((), "asked for two sites or more, found 0"),
        (("a=https://h:1",), "asked for two sites or more, found 1"),
        (("a=https://h:1", "a=https://h:2"), "asked for each site once, found a twice"),
        (("a",), "asked for NAME=https://HOST:PORT, found 'a'"),
        (("A=https://h:1",), "asked for NAME=https"),
        (("../x=https://h:1",), "asked for NAME=https"),
        (("authority=https://h:1",), "asked for NAME=https"),
        (("a=http://h:1",), "a: asked for https://HOST:PORT, found 'http://h:1'"),
        (("a=https://",), "a: asked for https://HOST:PORT"),
        (("a=https://h:99999",), "a: asked for https://HOST:PORT"),
        (("a=https://[::1",), "a: asked for https://HOST:PORT"),
        (("a=https://h:1/v1",), "a: asked for https://HOST:PORT"),
    ],
)
def test_texts_that_are_no_sites_are_refused(texts: tuple[str, ...], found: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_sites(texts)
    assert found in str(error.value)
