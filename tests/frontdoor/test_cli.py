"""The command line: instant help, one clear line for what the user got wrong, YAML under flags."""

import os
import subprocess
import sys
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import ClassVar, Literal

import pytest
from transformers import TrainingArguments

from wildreward import cli, commands
from wildreward.common.errors import UserError

HEAVY = ("torch", "transformers", "datasets", "trl", "numpy")


@pytest.fixture
def run(capsys):
    """Run the program in this process; gives its exit status and what it printed."""

    def run_(*argv):
        with pytest.raises(SystemExit) as ended:
            cli.run(argv)
        return SimpleNamespace(returncode=ended.value.code, **capsys.readouterr()._asdict())

    return run_


def test_import_and_help_load_nothing_heavy():
    code = (
        "import sys, wildreward\n"
        "from wildreward.cli import usage\n"
        "usage(); dir(wildreward)\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_usage_lists_every_command(run):
    done = run("--help")
    assert done.returncode == 0
    assert all(f"  {name} " in done.out for name in commands.COMMANDS)


@pytest.mark.parametrize("name", sorted(commands.COMMANDS))
def test_every_command_explains_every_option(name, capsys):
    with pytest.raises(SystemExit, match=r"^0$"):
        commands.execute(name, ["--help"])
    told = capsys.readouterr().out
    assert commands.COMMANDS[name].help in " ".join(told.split())
    import dataclasses
    import importlib

    module = importlib.import_module(commands.COMMANDS[name].module)
    for config in module.CONFIGS:
        own = [f for f in dataclasses.fields(config) if f.name in config.__annotations__]
        for option in own:
            assert option.metadata.get("help"), f"{config.__name__}.{option.name} has no help"
            if option.name not in getattr(config, "hidden_options", ()):
                assert f"--{option.name.replace('_', '-')}" in told


def test_unknown_command_is_one_line(run):
    done = run("train")
    assert done.returncode == 2
    assert done.err.startswith("error: unknown command 'train'; expected one of: quickstart, ")
    assert done.err.count("\n") == 1


@dataclass
class Example:
    name: str = field(default="a", metadata={"help": "A name."})
    size: int = field(default=1, metadata={"help": "A size."})
    items: list[str] | None = field(default=None, metadata={"help": "Some items."})


def test_flags_override_the_file(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("name: from-file\nsize: 7\n")
    (config,) = commands.parse("quickstart", (Example,), ["--config", str(file), "--size", "9"])
    assert (config.name, config.size) == ("from-file", 9)


def test_repeated_flags_add_up():
    (config,) = commands.parse("quickstart", (Example,), ["--items", "a", "--name", "x", "--items", "b", "c"])
    assert (config.items, config.name) == (["a", "b", "c"], "x")


def test_of_a_repeated_flag_with_one_value_the_last_counts():
    (config,) = commands.parse("quickstart", (Example,), ["--name", "x", "--size=3", "--name", "y", "--size=4"])
    assert (config.name, config.size) == ("y", 4)


@pytest.mark.parametrize(
    ("text", "message"),
    [("nmae: x\n", "nmae"), ("- a\n- b\n", "must contain a YAML mapping"), (None, "does not exist")],
)
def test_a_bad_file_is_a_user_error(tmp_path, text, message):
    file = tmp_path / "config.yaml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=message):
        commands.parse("quickstart", (Example,), ["--config", str(file)])


@dataclass
class Typed:
    rate: float = field(default=0.1, metadata={"help": "A number."})
    most: int | None = field(default=None, metadata={"help": "A whole number."})
    fast: bool = field(default=False, metadata={"help": "A switch."})
    mode: Literal["auto", "on", "off"] = field(default="auto", metadata={"help": "A choice."})
    languages: list[str] = field(default_factory=lambda: ["English", "Chinese"], metadata={"help": "Texts."})
    seeds: list[int] | None = field(default=None, metadata={"help": "Whole numbers."})
    extra: dict | str | None = field(default=None, metadata={"help": "A type that is not judged."})


def from_yaml(folder, text):
    file = folder / "config.yaml"
    file.write_text(text)
    (config,) = commands.parse("quickstart", (Typed,), ["--config", str(file)])
    return config


def test_a_file_may_give_one_value_for_a_list_and_numbers_as_texts(tmp_path, monkeypatch):
    monkeypatch.delenv("WILDREWARD_TEST", raising=False)
    config = from_yaml(tmp_path, "languages: English\nseeds: 3\nrate: 1e-4\nmost: '5'\nfast: 'yes'\nmode: 'off'\n")
    assert config == Typed(1e-4, 5, True, "off", ["English"], [3])
    config = from_yaml(tmp_path, "seeds: ['3', 4]\nrate: 2\nmost: null\nextra: {a: 1}\nenv: {WILDREWARD_TEST: 7}\n")
    assert (config.seeds, config.rate, config.most, config.extra) == ([3, 4], 2, None, {"a": 1})
    assert os.environ.pop("WILDREWARD_TEST") == "7"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mode: offf", "mode is 'offf'; expected one of auto, on, off$"),
        ("mode: off", r"mode is false; expected one of auto, on, off \(put it in quotes: YAML takes"),
        ("most: true", "most is true; expected a whole number$"),
        ("most: 2.7", "most is 2.7; expected a whole number$"),
        ("most: 1e1", "most is '1e1'; expected a whole number$"),
        ("rate: null", "rate is null; expected a number$"),
        ("rate: fast", "rate is 'fast'; expected a number$"),
        ("fast: 2", "fast is 2; expected true or false$"),
        ("languages: null", "languages is null; expected one or more, each a text$"),
        ("languages: [5]", r"languages is \[5\]; expected one or more, each a text"),
        ("seeds: []", r"seeds is \[\]; expected one or more, each a whole number$"),
        ("env: 5", "env is 5; expected names with their values$"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(tmp_path, text, message):
    with pytest.raises(UserError, match=rf"config\.yaml: {message}"):
        from_yaml(tmp_path, text)


def test_all_faults_of_a_file_are_told_at_once(tmp_path):
    with pytest.raises(UserError) as caught:
        from_yaml(tmp_path, "languags: x\nzzz: 1\nrate: fast\nmost: 0.5\n")
    assert "unknown: languags (did you mean languages?), zzz; wildreward quickstart --help lists" in str(caught.value)
    assert "rate is 'fast'" in str(caught.value) and "most is 0.5" in str(caught.value)


def test_a_file_that_cannot_be_read_is_a_user_error(tmp_path):
    for text, message in (("a: [b\n", "line 2: not valid YAML"), ("x: 2024-13-45\n", "not valid YAML")):
        with pytest.raises(UserError, match=message):
            from_yaml(tmp_path, text)
    with pytest.raises(UserError, match=r"cannot read the configuration file .*: Is a directory"):
        commands.parse("quickstart", (Typed,), ["--config", str(tmp_path)])
    with pytest.raises(UserError, match=r"--config names no file; expected --config FILE\.yaml"):
        commands.parse("quickstart", (Typed,), ["--config"])


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--labeler", "oracle"], "error: argument --labeler: invalid choice: 'oracle' (choose from"),
        (["--limit", "many"], "error: argument --limit: invalid int value: 'many'"),
    ],
)
def test_a_wrong_flag_is_one_line(run, flags, message):
    done = run("build-dataset", "--source", "a", "--output", "b", *flags)
    assert done.returncode == 2 and done.err.count("\n") == 1
    assert done.err.startswith(message)
    assert done.err.endswith("wildreward build-dataset --help lists the options\n")


def test_an_unknown_flag_is_told_with_the_nearest():
    with pytest.raises(UserError, match=r"unknown: --sead \(did you mean --seeds\?\); wildreward quickstart --help"):
        commands.parse("quickstart", (Typed,), ["--sead", "5"])


@dataclass
class Rates:
    rate: float = field(default=0.1, metadata={"help": "A number."})
    rates: list[float] | None = field(default=None, metadata={"help": "Numbers."})

    def __post_init__(self):
        int(self.rate)  # as configurations do, which for infinity is no ValueError


@pytest.mark.parametrize("number", ["nan", "inf", "-inf"])
def test_numbers_that_are_not_finite_are_refused_wherever_they_come_from(tmp_path, number):
    file = tmp_path / "config.yaml"
    file.write_text(f"rate: {number.replace('inf', '.inf').replace('nan', '.nan')}\n")
    quoted = tmp_path / "quoted.yaml"
    quoted.write_text(f"rate: '{number}'\n")
    flags = [] if number == "-inf" else [["--rate", number], [f"--rate={number}"]]  # to argparse that is a flag itself
    for words in (*flags, ["--config", str(file)], ["--config", str(quoted)]):
        with pytest.raises(UserError, match=f"^--rate is {number}; expected a finite number$"):
            commands.parse("quickstart", (Rates,), words)
    with pytest.raises(UserError, match=r"^--rates is nan; expected a finite number\. --rates is inf; expected"):
        commands.parse("quickstart", (Rates,), ["--rates", "1", "nan", "inf"])


def test_a_learning_rate_that_is_no_number_is_one_line(run):
    flags = ["--dataset", "d", "--base-model", "m", "--output-dir", "out", "--learning-rate", "nan"]
    done = run("train-reward", *flags)
    assert done.returncode == 2 and done.err == "error: --learning_rate is nan; expected a finite number\n"


@dataclass
class Hiding:
    hidden_options: ClassVar[tuple[str, ...]] = ("mode", "fast")
    mode: str = field(default="a", metadata={"help": "Refused elsewhere."})
    fast: bool = field(default=True, metadata={"help": "Refused elsewhere."})
    size: int = field(default=1, metadata={"help": "A size."})


def test_hidden_options_are_not_in_the_help_but_still_understood(capsys):
    with pytest.raises(SystemExit):
        commands.parse("quickstart", (Hiding,), ["--help"])
    told = capsys.readouterr().out
    assert "--size" in told and "mode" not in told and "fast" not in told
    (config,) = commands.parse("quickstart", (Hiding,), ["--mode", "b", "--no-fast"])
    assert (config.mode, config.fast) == ("b", False)
    with pytest.raises(UserError, match=r"^unknown: --modes; wildreward"):
        commands.parse("quickstart", (Hiding,), ["--modes=x"])


@dataclass
class Grouped(TrainingArguments):
    option_groups: ClassVar[dict[str, str]] = {"size_of_it": "shape"}
    kind: str = field(default="a", metadata={"help": "A kind."})
    size_of_it: int = field(default=1, metadata={"help": "A size."})
    learning_rate: float = field(default=0.1, metadata={"help": "Ours."})


def test_help_shows_a_commands_own_options_in_groups_and_help_all_the_libraries_too(capsys):
    def told(flag):
        with pytest.raises(SystemExit):
            commands.parse("quickstart", (Grouped,), [flag])
        return capsys.readouterr().out

    short, long = told("--help"), told("--help-all")
    assert (
        "--size-of-it SIZE_OF_IT" in short
        and "--size_of_it" not in short
        and "--learning-rate" in short
        and "\nshape:" in short
    )
    assert "--warmup-steps" not in short and "--help-all lists" in short
    assert "--warmup-steps" in long and "options of transformers and TRL" in long and "--help-all" not in long


def test_quickstart_checks_its_numbers_before_it_leaves_anything_behind(tmp_path):
    with pytest.raises(UserError, match=r"^--limit is 0; expected at least 1\. --seed is -1; expected at least 0$"):
        commands.execute("quickstart", ["--output", str(tmp_path / "out"), "--limit", "0", "--seed", "-1"])
    assert not list(tmp_path.iterdir())


def test_texts_that_transformers_declares_may_be_switches(tmp_path):
    from wildreward.training.reward_command import CONFIGS

    file = tmp_path / "config.yaml"
    file.write_text("dataset: d\nbase_model: m\noutput_dir: out\nbf16: false\nresume_from_checkpoint: true\n")
    _, config = commands.parse("train-reward", CONFIGS, ["--config", str(file)])
    assert config.resume_from_checkpoint is True
