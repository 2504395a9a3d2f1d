"""Arrows between rooms point one way, nothing imports a command, there are no cycles, and docs/architecture.md is true."""

import ast
import re
from pathlib import Path

import networkx

import wildreward
from wildreward.commands import COMMANDS

ROOT = Path(__file__).parents[2]
COMMAND_MODULES = {command.module for command in COMMANDS.values()}
# room → what it may import beside itself; commands may import every room
ALLOWED = {
    "common": (),
    "modeling_wildreward": (),
    "dataset_builder": ("common", "modeling_wildreward.loading"),
    "scoring": ("common", "modeling_wildreward"),
    "evaluation": ("common", "modeling_wildreward", "scoring"),
    "demo": ("common", "modeling_wildreward", "scoring", "evaluation"),
    "model_card": ("common", "evaluation"),
    "training": ("common", "modeling_wildreward", "scoring", "evaluation", "model_card", "dataset_builder"),
    "wildreward": ("common",),
}


def module_files():
    """Name → file of every module of the package."""
    for path in (
        *ROOT.glob("wildreward/*.py"),
        *(path for room in ROOT.glob("wildreward/*/") for path in room.rglob("*.py")),
    ):
        parts = path.relative_to(ROOT).with_suffix("").parts
        yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports():
    """(importing module, imported module) wherever in a file the import stands, modules of the package only."""
    files = dict(module_files())
    for name, path in files.items():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                found = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                base = package.rsplit(".", node.level - 1)[0] if node.level else ""
                base = ".".join(filter(None, [base, node.module]))
                found = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in files else base for alias in node.names]
            else:
                continue
            yield from ((name, other) for other in found if other in files and other != name)


EDGES = sorted(set(imports()))


def room(module):
    """The room of a module, and its name in there."""
    parts = module.split(".")
    return (parts[1], ".".join(parts[1:])) if len(parts) > 1 and parts[1] in ALLOWED else ("wildreward", module)


def test_arrows_point_one_way_and_nothing_imports_a_command():
    wrong = set()
    for importer, imported in EDGES:
        home, (other, inside) = room(importer)[0], room(imported)
        allowed = other == home or any(f"{inside}.".startswith(f"{one}.") for one in ALLOWED[home])
        if imported in COMMAND_MODULES or not (allowed or importer in COMMAND_MODULES):
            wrong.add(f"{importer.removeprefix('wildreward.')} -> {imported.removeprefix('wildreward.')}")
    assert wrong == set()


def test_no_import_cycles():
    graph = networkx.DiGraph((one, other) for one, other in EDGES if not one.startswith(f"{other}."))
    groups = [sorted(group) for group in networkx.strongly_connected_components(graph) if len(group) > 1]
    cycles = {", ".join(name.removeprefix("wildreward.") for name in group) for group in groups}
    assert cycles == set()


def test_the_files_named_in_the_map_exist():
    text = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    named = set(re.findall(r"\b\w+(?:/\w+)*\.py\b", text))
    rooms = ("", "dataset_builder/", "modeling_wildreward/")  # a name in a drawing is of the room it is about
    assert len(named) > 40
    assert {name for name in named if not any((ROOT / room / name).is_file() for room in rooms)} == set()
    assert {room for room in ALLOWED if f"{room}/" not in text} == set()


def test_the_stub_has_the_public_names():
    stub = ast.parse((ROOT / "wildreward" / "__init__.pyi").read_text("utf-8"))
    assert {alias.name for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names} == set(
        wildreward.__all__
    )
