"""What the site's pages take from the code when it is built, in place of `<!-- site -->`; on GitHub they read without it.

index.md gets the README's beginning, commands.md every command's own options, python.md the public names with docstrings.
"""

import importlib
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from wildreward.commands import COMMANDS
from wildreward.config_file import is_foreign

README = Path(__file__).parents[1] / "README.md"
ROOMS = ("dataset_builder", "scoring", "training", "evaluation", "model_card")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """MkDocs calls this with every page's text."""
    made = {"index.md": beginning, "commands.md": options, "python.md": names}.get(page.file.src_uri)
    return markdown.replace("<!-- site -->", made()) if made else markdown


def beginning() -> str:
    """The README up to its first long section, without its title; links are those of a page in docs/."""
    text = README.read_text("utf-8").partition("\n## A real run")[0]
    return text.removeprefix("# WildReward\n").replace("(docs/", "(").replace('"docs/', '"')


def options() -> str:
    """A section for each command, with a table for each group of its options."""
    return "\n".join(line for name, command in COMMANDS.items() for line in _command(name, command))


def _command(name: str, command: Any) -> Iterator[str]:
    yield f"\n## {name}\n\n{command.help[0].upper()}{command.help[1:]}."
    for config in importlib.import_module(command.module).CONFIGS:
        types, titles = get_type_hints(config), getattr(config, "option_groups", {})
        hidden = getattr(config, "hidden_options", ())
        head = "\n| option | default | |\n|---|---|---|"
        for field in fields(config):
            if field.name in hidden or not field.init or is_foreign(config, field.name):
                continue  # those of transformers and TRL: --help-all
            if field.name in titles:
                head = f"\n{titles[field.name].capitalize()}:\n\n| option | default | |\n|---|---|---|"
            if head:
                yield head
                head = ""
            yield _row(field, types[field.name])


def _row(field: Field, kind: Any) -> str:
    default = field.default if field.default_factory is MISSING else field.default_factory()
    shown = "required" if default is MISSING else "" if default in (None, "") else f"`{_text(default)}`"
    parts = [kind, *get_args(kind)]
    choices = [f"`{choice}`" for part in parts if get_origin(part) is Literal for choice in get_args(part)]
    told = " ".join([field.metadata["help"], *([f"One of {', '.join(choices)}."] if choices else [])])
    return f"| `--{field.name.replace('_', '-')}` | {shown} | {told.replace('|', '&#124;').replace('<', '&lt;')} |"


def _text(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def names() -> str:
    """mkdocstrings' directives for what `wildreward` and its rooms export."""
    lines, seen = [], set()
    for package in ("wildreward", *(f"wildreward.{room}" for room in ROOMS)):
        lines.append(f"\n## {package}")
        module = importlib.import_module(package)
        for found in (getattr(module, name) for name in getattr(module, "__all__", dir(module))):
            path = f"{found.__module__}.{found.__qualname__}"  # names are imported on first use: where is it defined?
            if path not in seen:
                lines.append(f"\n::: {path}")
                seen.add(path)
    return "\n".join(lines)
