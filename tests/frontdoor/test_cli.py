"""The command line: instant help, one clear line for what the user got wrong, YAML under flags."""

import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from wildreward import commands
from wildreward.errors import UserError

HEAVY = ("torch", "transformers", "datasets", "trl", "numpy")


def run(*argv):
    return subprocess.run([sys.executable, "-m", "wildreward", *argv], capture_output=True, text=True)


def test_import_and_help_load_nothing_heavy():
    code = (
        "import sys, wildreward\n"
        "from wildreward.cli import usage\n"
        "usage(); dir(wildreward)\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_usage_lists_every_command():
    done = run("--help")
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in commands.COMMANDS)


@pytest.mark.parametrize("name", sorted(commands.COMMANDS))
def test_every_command_explains_every_option(name):
    done = run(name, "--help")
    assert done.returncode == 0, done.stderr
    assert commands.COMMANDS[name].help in " ".join(done.stdout.split())
    import dataclasses
    import importlib

    module = importlib.import_module(commands.COMMANDS[name].module)
    for config in module.CONFIGS:
        own = [f for f in dataclasses.fields(config) if f.name in config.__annotations__]
        for option in own:
            assert option.metadata.get("help"), f"{config.__name__}.{option.name} has no help"
            assert f"--{option.name}" in done.stdout


def test_unknown_command_is_one_line():
    done = run("train")
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown command 'train'; expected one of: quickstart, ")
    assert done.stderr.count("\n") == 1


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
