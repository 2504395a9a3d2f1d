import pytest

pytest.importorskip("gradio")

from tests.demo.runs import write_run


@pytest.fixture(scope="package")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("demo") / "run")
