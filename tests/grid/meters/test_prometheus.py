"""A meter that a Prometheus server collects."""

from __future__ import annotations

import ssl
import threading
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.certificates import Authority
from tests.grid.meters.conftest import Prometheus, Wait

from steppe.config import PowerSection, SiteSection
from steppe.errors import ConfigError, DeviceError
from steppe.grid.meters.prometheus import PrometheusMeter, PrometheusQuery, PrometheusSettings
from steppe.grid.meters.readings import Measured
from steppe.power.budget import budget_from_config
from steppe.power.signal import Fresh, Missing

SIGNAL = "steppe.grid.meters.prometheus:PrometheusMeter"


def query(server: Prometheus, **settings: Any) -> PrometheusQuery:
    return PrometheusQuery(PrometheusSettings(url=server.url, query="site_w", **settings))


def test_the_value_of_the_query_is_the_reading(prometheus: Prometheus) -> None:
    prometheus.values["site_w"] = 1800.5
    assert query(prometheus).read() == Measured(1800.5, 0.0)


def test_a_second_query_gives_the_age(prometheus: Prometheus) -> None:
    prometheus.values |= {"site_w": 1800.5, "time() - timestamp(site_w)": 42}
    asked = query(prometheus, age_query="time() - timestamp(site_w)")
    assert asked.read() == Measured(1800.5, 42.0)


def test_a_value_that_is_no_number_and_one_that_is_missing_are_faults(
    prometheus: Prometheus,
) -> None:
    with pytest.raises(DeviceError, match="0 values instead of one"):
        query(prometheus).read()
    prometheus.values["site_w"] = "NaN"
    with pytest.raises(DeviceError, match="NaN, which is no number"):
        query(prometheus).read()


def test_a_server_that_does_not_answer_blocks_no_caller(
    prometheus: Prometheus, wait_for: Wait
) -> None:
    prometheus.values["site_w"] = 700
    prometheus.open.clear()
    patient = PrometheusMeter(url=prometheus.url, query="site_w", period_s=0.1, timeout_s=20.0)
    assert isinstance(patient.at(0.0), Missing)  # it returns while the server does not answer
    meter = PrometheusMeter(url=prometheus.url, query="site_w", period_s=0.1, timeout_s=0.3)
    wait_for(lambda: "timed out" in getattr(meter.at(0.0), "reason", ""))
    prometheus.open.set()
    wait_for(lambda: isinstance(meter.at(0.0), Fresh))
    for each in (meter, patient):
        each.stop()


def test_it_can_be_a_limit_of_the_budget(prometheus: Prometheus, wait_for: Wait) -> None:
    prometheus.values["site_w"] = 700
    settings = {"url": prometheus.url, "query": "site_w", "period_s": 0.1}
    power = PowerSection.model_validate(
        {
            "supply": [{"kind": "constant", "watts": 1000}],
            "limits": [{"kind": "custom", "signal": SIGNAL, "settings": settings}],
            "fallback_w": 100,
        }
    )
    budget = budget_from_config(power, SiteSection())
    wait_for(lambda: budget.at(1.0).site_budget_w == 700)
    assert budget.at(1.0).source == SIGNAL


def test_a_wrong_setting_is_one_line() -> None:
    with pytest.raises(ConfigError, match=r"^url: missing$"):
        PrometheusMeter(query="site_w")
    with pytest.raises(ConfigError, match=r"querry: unknown key, did you mean query"):
        PrometheusMeter(url="http://x", querry="site_w")


def test_a_token_is_read_for_each_query(prometheus: Prometheus, tmp_path: Path) -> None:
    prometheus.values["site_w"], prometheus.token = 700, "second"
    file = tmp_path / "token"
    file.write_text("first\n")
    asked = query(prometheus, token_file=file)
    with pytest.raises(DeviceError, match="401"):
        asked.read()
    file.write_text("second\n")
    assert asked.read().watts == 700
    file.unlink()
    with pytest.raises(DeviceError, match=r"token_file: asked for the text of .*token, found: No"):
        asked.read()


def test_a_token_does_not_follow_a_redirect(prometheus: Prometheus, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("secret")
    other = Prometheus()
    other.values["site_w"], other.token = 700, "secret"
    thread = threading.Thread(target=other.serve_forever, args=(0.01,))
    thread.start()
    prometheus.goes_to = other.url
    with pytest.raises(DeviceError, match="401"):
        query(prometheus, token_file=file).read()
    other.shutdown()
    thread.join()
    other.server_close()


def test_a_server_is_trusted_by_the_certificate_that_is_named(
    prometheus: Prometheus, tmp_path: Path
) -> None:
    Authority(tmp_path).issue("server")
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "server.pem", tmp_path / "server.key")
    prometheus.socket = context.wrap_socket(prometheus.socket, server_side=True)
    prometheus.values["site_w"] = 700
    url = prometheus.url.replace("http", "https")
    settings = PrometheusSettings(url=url, query="site_w", ca_file=tmp_path / "ca.pem")
    assert PrometheusQuery(settings).read().watts == 700
    with pytest.raises(DeviceError, match="CERTIFICATE_VERIFY_FAILED"):
        PrometheusQuery(PrometheusSettings(url=url, query="site_w")).read()


def test_files_and_addresses_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    asked = {"url": "https://prometheus:9090", "query": "site_w"}
    missing = str(tmp_path / "missing")
    with pytest.raises(ConfigError, match=r"token_file: asked for the text of .*missing, found"):
        PrometheusMeter(**asked, token_file=missing)
    with pytest.raises(ConfigError, match=r"ca_file: asked for certificates in .*missing, found"):
        PrometheusMeter(**asked, ca_file=missing)
    with pytest.raises(ConfigError, match="url: asked for https, or this host, beside token_file"):
        PrometheusMeter(**asked | {"url": "http://prometheus:9090"}, token_file=missing)
