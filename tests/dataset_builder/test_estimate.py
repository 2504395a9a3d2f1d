import json

import pytest
from transformers import AutoTokenizer

from tests.dataset_builder.builds import OFF, build
from wildreward.dataset_builder.estimate import Measured, mean_prompt_tokens, measure, project


def test_projection_by_hand():
    measured = Measured(
        turns=2.5,
        asked=2.0,
        prompt_tokens=1000,
        completion_tokens=50,
        judged=0.0,
        kept=0.2,
        work_bytes=2000,
        dataset_bytes=500,
        seconds=0.001,
    )
    got = project(measured, conversations=1_000_000, prompt_speed=10_000, completion_speed=1_000, gpus=4)
    assert got["turns"] == 2.5e6 and got["requests"] == 2e6 and got["instances"] == 2e5
    assert got["prompt_tokens"] == 2e9 and got["completion_tokens"] == 1e8
    # 2e9 / 1e4 + 1e8 / 1e3 = 3e5 GPU seconds
    assert got["gpu_hours"] == pytest.approx(83.333, rel=1e-4) and got["hours_on_all_gpus"] == pytest.approx(
        20.833, rel=1e-4
    )
    assert got["requests_per_second"] == pytest.approx(2e6 / 75_000)
    assert got["work_gb"] == pytest.approx(2.0 + 0.46) and got["dataset_gb"] == 0.5
    assert got["hours_without_labels"] == pytest.approx(1e3 / 3600)


def test_a_sample_is_counted_by_questions_whatever_their_attempts(log, tmp_path, tiny_encoder):
    folder, tokenizer = tmp_path / "out", AutoTokenizer.from_pretrained(tiny_encoder)
    report = build(log, folder, limit=40, **OFF)
    unasked = measure(folder, tokenizer)
    assert unasked.turns == unasked.asked == 3.0 and unasked.judged == 0
    assert unasked.kept == report["kept"] / 40 and unasked.completion_tokens == 40
    assert unasked.prompt_tokens == mean_prompt_tokens(folder, tokenizer, 400)
    # 120 turns less the 20 in another language, and 5 refusals judged, in 130 attempts
    report |= {"requests": 130, "prompt_tokens": 84_000, "completion_tokens": 2_100}
    report["dropped"] |= {"language": 20}
    report["refusals"] = {"answered": 3, "false_refusal": 2}
    (folder / "build_report.json").write_text(json.dumps(report))
    asked = measure(folder, tokenizer)
    assert (asked.asked, asked.judged) == (2.5, 0.125)
    assert (asked.prompt_tokens, asked.completion_tokens) == (800, 20)
