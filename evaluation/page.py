"""`report.html`: one self-contained page with the tables, the figures, and the pairs the model is most wrong about."""

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wildreward.common.files import atomic_path, read_json
from wildreward.evaluation.item_scores import set_names
from wildreward.evaluation.report import markdown

TEMPLATE = Path(__file__).with_name("page.html.jinja")
LINK = re.compile(r"\[([^\]]+)\]\((https://[^)\s]+)\)")
LONGEST = 4000  # characters of a message that are shown


def write_page(folder: Path, results: Mapping[str, Any]) -> None:
    """Write the page from results.json, figures/ and work/wrong. What chats say is escaped: it is text, no markup."""
    import jinja2

    found = {**results["datasets"], **results["benchmarks"], **results["pairs"]}
    figures = [name for result in found.values() for name in result.get("figures", [])]
    wrong = {}
    for name, title in set_names(results).items():
        path = folder / "work" / "wrong" / f"{name}.json"
        if path.exists() and (pairs := read_json(path)):
            wrong[title] = pairs
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"shorten": _shorten, "pieces": _pieces}
    page = environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(
        model=results["model"],
        blocks=blocks(markdown(results)),
        figures={
            name: _embedded(folder / "figures" / name) for name in figures if (folder / "figures" / name).is_file()
        },
        wrong=wrong,
        versions=results["versions"],
    )
    with atomic_path(folder / "report.html") as temporary:
        temporary.write_text(page, encoding="utf-8", errors="replace")


def _shorten(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[:LONGEST]} […{len(text) - LONGEST} characters more]"


def _pieces(text: str) -> list[tuple[str, str]]:
    """A text of our own Markdown as (words, address) of its links, and (words, "") of what is between them."""
    before, *rest = LINK.split(text)
    pieces = [(before, "")]
    for words, address, after in zip(rest[::3], rest[1::3], rest[2::3], strict=True):
        pieces += [(words, address), (after, "")]
    return pieces


def _embedded(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


def blocks(text: str) -> list[dict[str, Any]]:
    """The parts of our own Markdown: headings, paragraphs, tables."""
    found = []
    for block in text.strip().split("\n\n"):
        lines = block.strip().splitlines()
        if lines[0].startswith("|"):
            rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
            found.append({"kind": "table", "head": rows[0], "rows": rows[2:]})
        elif lines[0].startswith("#"):
            level = len(lines[0]) - len(lines[0].lstrip("#"))
            found.append({"kind": f"h{level}", "text": lines[0].lstrip("# ")})
            if len(lines) > 1:
                found += blocks("\n".join(lines[1:]))
        else:
            found.append({"kind": "p", "text": " ".join(lines)})
    return found
