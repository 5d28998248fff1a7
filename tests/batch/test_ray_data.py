"""Ray Data pipelines on a fake gateway, with a real Ray."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.fixtures.batch_gateway import FakeGateway, answer_with, refusal

import steppe
from steppe.errors import UsageError

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore"),  # of Ray and its dependencies
]


@pytest.fixture(scope="module")
def ray_data() -> Iterator[Any]:
    """The public module, on a Ray of its own."""
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield steppe.ray_data
    ray.shutdown()


def test_a_pipeline_reads_generates_and_writes(
    ray_data: Any, gateway: FakeGateway, tmp_path: Path
) -> None:
    lines = [json.dumps({"text": f"text {number}"}) for number in range(40)]
    (tmp_path / "in.jsonl").write_text("\n".join([*lines, '{"text": "to', '{"text": "bad"}']))
    gateway.answers["bad"] = [answer_with(lambda: refusal(400, "too_long"))]
    rows = ray_data.read_rows(tmp_path / "in.jsonl", model="m", column="text")
    generate = ray_data.Generate(gateway.url)
    ray_data.write_results(rows.map_batches(generate, batch_size=16), tmp_path / "out")

    found = [line for path in (tmp_path / "out").glob("part-*") for line in read(path)]
    failed = [line for path in (tmp_path / "out").glob("errors-*") for line in read(path)]
    assert {line["custom_id"] for line in found} == {f"row-{number}" for number in range(40)}
    assert {line["custom_id"] for line in failed} == {"row-40", "row-41"}
    assert {line["response"]["body"]["model"] for line in found} == {"m"}
    assert gateway.seen.total() == 41


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("batch_format", ["numpy", "pandas", "pyarrow"])
def test_actors_answer_batches_of_any_format(
    ray_data: Any, gateway: FakeGateway, batch_format: str
) -> None:
    import ray

    items = [{"key": number, "text": f"text {number}"} for number in range(20)]
    answered = ray.data.from_items(items, override_num_blocks=2).map_batches(
        ray_data.Generate,
        fn_constructor_args=(gateway.url,),
        fn_constructor_kwargs={"model": "m", "column": "text"},
        concurrency=2,
        batch_size=10,
        batch_format=batch_format,
    )
    rows = sorted(answered.take_all(), key=lambda row: row["key"])
    assert [row["key"] for row in rows] == list(range(20))
    assert {(row["generated_text"], row["energy_j"]) for row in rows} == {("aaa", 2.0)}


def test_a_pipeline_that_runs_again_sends_nothing_again(
    ray_data: Any, gateway: FakeGateway, tmp_path: Path
) -> None:
    import ray

    items = [{"text": f"again {number}"} for number in range(20)]
    generate = ray_data.Generate(
        gateway.url, model="m", column="text", job_folder=str(tmp_path / "jobs")
    )
    for _ in range(2):
        pipeline = ray.data.from_items(items, override_num_blocks=2)
        assert pipeline.map_batches(generate, batch_size=10).count() == 20
    assert gateway.seen.total() == 20


def test_an_unknown_option_is_one_clear_line(ray_data: Any) -> None:
    with pytest.raises(UsageError, match=r"asked for option colum, found only endpoint, .*"):
        ray_data.Generate("http://x", colum="text")
    with pytest.raises(UsageError, match="asked for when='later', found only now, deadline"):
        ray_data.Generate("http://x", when="later")


def test_a_missing_file_is_one_clear_line(ray_data: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"none.jsonl: asked for an input, found no such file"):
        ray_data.read_rows(tmp_path / "none.jsonl")
