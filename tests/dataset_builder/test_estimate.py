import pytest

from wildreward.dataset_builder.estimate import Measured, project


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
