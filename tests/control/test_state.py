from __future__ import annotations

from steppe.control.state import EARLY_S, EXPECTED_OUTPUT_TOKENS, expected_output_tokens


def test_answers_that_ended_early_in_a_run_do_not_tell_how_long_others_are() -> None:
    assert expected_output_tokens(None, 100.0) == EXPECTED_OUTPUT_TOKENS
    assert expected_output_tokens(10.0, 0.9 * EARLY_S) == EXPECTED_OUTPUT_TOKENS
    assert expected_output_tokens(10.0, EARLY_S) == 10.0
