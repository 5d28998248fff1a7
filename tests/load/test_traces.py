from __future__ import annotations

import csv
import gzip
from collections.abc import Iterator
from pathlib import Path

import pytest

from steppe.errors import TraceError
from steppe.load.arrivals import Arrival
from steppe.load.traces import read_trace

AZURE_FILE = Path(__file__).parents[3] / "shared/data/requests/AzureLLMInferenceTrace_conv.csv"
AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9805900,396,109
2023-11-16 18:15:51.1805900,879,55"""
BURSTGPT = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,0,1087,Conversation log
118,GPT-4,417,276,693,API log
"""
MOONCAKE = """{"timestamp": 1000, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}
{"timestamp": 4500, "input_length": 7322, "output_length": 490, "hash_ids": [0]}
"""


RECORDED = """{"id": "b", "arrival_s": 2.5, "prompt_tokens": 40, "output_tokens": 9}
{"id": "a", "arrival_s": 1.0, "prompt_tokens": 30, "output_tokens": 7, "finish": "length"}
{"id": "c", "arrival_s": 3.0, "prompt_tokens": null, "output_tokens": null, "finish": "failed"}
"""
LOAD_ROWS = """{"arrival_s": 0.0, "asked_prompt_tokens": 12, "asked_output_tokens": 5, \
"prompt_tokens": 42, "output_tokens": 4}
{"arrival_s": 0.5, "asked_prompt_tokens": 13, "asked_output_tokens": 6, \
"prompt_tokens": null, "output_tokens": null}
"""


@pytest.fixture(autouse=True)
def usual_longest_field() -> Iterator[None]:
    """Python's own limit, which holds for the whole process: readers of batches raise it."""
    before = csv.field_size_limit(131_072)
    yield
    csv.field_size_limit(before)


def written(folder: Path, text: str) -> Path:
    path = folder / "trace.txt"
    path.write_text(text)
    return path


def test_the_azure_format_is_read_as_published(tmp_path: Path) -> None:
    arrivals = read_trace(written(tmp_path, AZURE))
    assert [a.at_s for a in arrivals] == pytest.approx([0.0, 4.3, 4.5])
    assert [(a.prompt_tokens, a.output_tokens) for a in arrivals] == [
        (374, 44),
        (396, 109),
        (879, 55),
    ]


def test_azure_times_with_a_zone_and_windows_line_ends_are_read(tmp_path: Path) -> None:
    text = (
        "\ufeffTIMESTAMP,ContextTokens,GeneratedTokens\r\n"
        "2024-05-10 00:00:00.009930+00:00,10,20\r\n2024-05-10 00:00:01+00:00,11,21\r\n"
    )
    arrivals = read_trace(written(tmp_path, text))
    assert [a.at_s for a in arrivals] == pytest.approx([0.0, 0.99007])


def test_burstgpt_is_read_without_its_failed_requests(tmp_path: Path) -> None:
    path = written(tmp_path, BURSTGPT)
    assert read_trace(path) == (Arrival(0.0, 472, 18), Arrival(113.0, 417, 276))


def test_mooncake_is_read_in_milliseconds(tmp_path: Path) -> None:
    path = written(tmp_path, MOONCAKE)
    first, second = read_trace(path)
    assert first == Arrival(0.0, 6758, 500, hash_ids=(0, 1))
    assert second == Arrival(3.5, 7322, 490, hash_ids=(0,))


def test_hashes_beyond_the_end_of_a_prompt_are_left_out(tmp_path: Path) -> None:
    (first, _) = read_trace(written(tmp_path, MOONCAKE.replace("6758", "512")))
    assert first.hash_ids == (0,)


def test_a_mooncake_trace_without_hashes_has_no_known_prefixes(tmp_path: Path) -> None:
    (first, _) = read_trace(written(tmp_path, MOONCAKE.replace(', "hash_ids": [0, 1]', "")))
    assert first == Arrival(0.0, 6758, 500)


def test_requests_of_a_run_are_read_in_the_order_of_their_arrival_without_failed_ones(
    tmp_path: Path,
) -> None:
    path = written(tmp_path, RECORDED)
    assert read_trace(path) == (Arrival(0.0, 30, 7), Arrival(1.5, 40, 9))


def test_requests_of_a_load_test_that_failed_have_the_lengths_that_were_asked_for(
    tmp_path: Path,
) -> None:
    path = written(tmp_path, LOAD_ROWS)
    assert read_trace(path) == (Arrival(0.0, 42, 4), Arrival(0.5, 13, 6))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty file"),
        ("\n\n", "empty file"),
        ("a,b\n1,2\n", "found 'a,b'"),
        ("TIMESTAMP,ContextTokens,GeneratedTokens\n", "no request in it"),
        ("TIMESTAMP,ContextTokens\n2023-11-16 18:15:46,1\n", "column GeneratedTokens"),
        (AZURE.replace("396", "many"), "line 3: .*many"),
        (AZURE.replace("879,55", "879"), "line 4: "),
        (AZURE.replace("2023-11-16 18:15:50", "yesterday"), "line 3: .*yesterday"),
        (AZURE.replace("396", "-396"), "line 3: .*negative"),
        (AZURE.replace("18:15:51", "18:15:01"), "line 4: .*rising times.*49.8 s before"),
        (BURSTGPT.replace("45,", "nan,"), "line 3: .*found nan"),
        (BURSTGPT.replace("118,", "inf,"), r"line 4: asked for a time within 1e\+12 s, found inf"),
        (BURSTGPT.replace("5,Chat", "-inf,Chat", 1), "line 2: .*found -inf"),
        (BURSTGPT.replace("417", "x" * 200_000), "line 4: .*larger than field limit"),
        (BURSTGPT.replace("118,", "x" * 100_000 + ","), "line 4: .{1,200}$"),
        ("Timestamp," + "x" * 200_000 + "\n", "line 1: .*larger than field limit"),
        (AZURE.replace("396", "1" * 400), "line 3: asked for up to 10,000,000 tokens, found more"),
        (MOONCAKE.replace("7322,", "1.9,"), "line 2: .*1.9, which is not a whole number"),
        (MOONCAKE.replace("7322,", '"7322",'), "line 2: .*'7322', which is not a whole number"),
        (MOONCAKE.replace("4500,", "1e999,"), "line 2: "),
        (MOONCAKE.replace("4500,", "1" * 400 + ","), "line 2: "),
        (MOONCAKE.replace("input_length", "length"), "line 1: .*input_length"),
        (MOONCAKE.replace("7322,", "7322"), "line 2: "),
        ('{"timestamp": 1, "input_length": [], "output_length": 1}', "line 1: "),
    ],
)
def test_a_bad_trace_is_one_line_that_names_the_file(
    tmp_path: Path, text: str, message: str
) -> None:
    path = written(tmp_path, text)
    with pytest.raises(TraceError, match=message) as error:
        read_trace(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def test_a_missing_trace_is_named(tmp_path: Path) -> None:
    with pytest.raises(TraceError, match=r"absent\.csv: .*No such file"):
        read_trace(tmp_path / "absent.csv")


def test_a_trace_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(TraceError, match="not UTF-8"):
        read_trace(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [("trace.csv.gz", AZURE), ("TRACE.CSV.GZ", BURSTGPT), ("m.jsonl.gz", MOONCAKE)],
)
def test_a_trace_may_be_gzipped(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(("\ufeff" + text).replace("\n", "\r\n").encode()))
    assert read_trace(path) == read_trace(written(tmp_path, text))


@pytest.mark.parametrize(
    "content",
    [AZURE.encode(), gzip.compress(AZURE.encode())[:-20], b"\x1f\x8b"],
    ids=["plain", "cut short", "begun"],
)
def test_a_gz_file_that_is_not_gzipped_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(content)
    with pytest.raises(TraceError, match=r"trace\.csv\.gz: asked for a gzipped .*, found: \S"):
        read_trace(path)


@pytest.mark.skipif(
    not AZURE_FILE.exists(), reason=f"{AZURE_FILE.name} is not beside the repository"
)
def test_the_whole_azure_conversation_trace_is_read() -> None:
    arrivals = read_trace(AZURE_FILE)
    assert len(arrivals) == 19_366
    assert [a.at_s for a in arrivals] == sorted(a.at_s for a in arrivals)
    assert sum(a.prompt_tokens for a in arrivals) / len(arrivals) == pytest.approx(1155, abs=1)
    assert sum(a.output_tokens for a in arrivals) / len(arrivals) == pytest.approx(211, abs=1)
