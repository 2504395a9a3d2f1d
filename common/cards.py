"""Cards: YAML metadata and a page, of which one section is generated; the rest is a person's.

The section lies between two comments that do not show on the page:

    <!-- wildreward -->
    ...generated...
    <!-- /wildreward 0123456789ab -->

A new rendering replaces the section and the metadata fields of `FOLLOW_THE_FILES`; text before and after it and all other
fields stay as they are. The digest in the second comment is of the person's part when the card was last pushed: it tells
which of two copies, the folder's and the Hub's, was edited since.
"""

import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import Any

import yaml

from wildreward.common.errors import UserError

FOLLOW_THE_FILES = (
    "base_model", "configs", "dataset_info", "datasets", "language", "library_name", "pipeline_tag", "size_categories",
    "task_categories",
)  # fmt: skip
_SECTION = re.compile(r"^<!-- wildreward -->\n(.*)\n<!-- /wildreward ?([0-9a-f]*) -->$", re.MULTILINE | re.DOTALL)
_MARK = re.compile(r"^[ \t]*<!-- ?/?wildreward\b.*$", re.MULTILINE)


@dataclass(frozen=True)
class Card:
    """A card taken apart: metadata, a person's text before and after the generated section, and the section."""

    metadata: dict[str, Any]
    before: str = ""
    section: str = ""
    after: str = ""
    pushed: str = ""
    """Digest of the person's part at the last push."""

    @classmethod
    def parse(cls, text: str) -> "Card":
        """Take a card apart; one without a section is all a person's.

        Raises:
            UserError: the YAML does not parse, or a comment around the section is missing or there twice.
        """
        metadata, page = _split(text.removeprefix("\ufeff").replace("\r\n", "\n"))
        marks, found = _MARK.findall(page), _SECTION.search(page)
        if not marks:
            return cls(metadata, before=page.strip())
        if len(marks) != 2 or not found:
            raise UserError(
                "the card's generated section is broken: it needs one line <!-- wildreward --> and one line "
                "<!-- /wildreward --> after it"
            )
        return cls(metadata, page[: found.start()].strip(), found[1].strip(), page[found.end() :].strip(), found[2])

    def __str__(self) -> str:
        from huggingface_hub.utils import yaml_dump

        parts = [f"---\n{yaml_dump(self.metadata, sort_keys=False).strip()}\n---"] if self.metadata else []
        parts += [self.before, section(self.section, self.pushed) if self.section else "", self.after]
        return "\n\n".join(filter(None, parts)) + "\n"

    def digest(self) -> str:
        """Of the person's part."""
        fields = {key: value for key, value in self.metadata.items() if key not in FOLLOW_THE_FILES}
        text = json.dumps([self.before, self.after, fields], sort_keys=True, default=str)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]

    def edited(self) -> bool:
        """Whether a person changed something since the last push (before the first: wrote something)."""
        return self.digest() != self.pushed if self.pushed else bool(self.before or self.after)


def section(text: str, pushed: str = "") -> str:
    """A generated section with its two comments."""
    end = f"<!-- /wildreward {pushed}".rstrip()
    return f"<!-- wildreward -->\n{text.strip()}\n{end} -->"


def merge_card(old_text: str, new_text: str) -> str:
    """A new rendering of a card, with the person's part of the old one (which may be empty).

    Raises:
        UserError: the old card cannot be taken apart, see `Card.parse`.
    """
    return str(rendered_again(Card.parse(old_text), Card.parse(new_text)))


def rendered_again(old: Card, new: Card) -> Card:
    """The new section and file-bound fields, with all else of the old card. Tags of both; any license for an unknown one."""
    kept = {key: value for key, value in old.metadata.items() if key not in new.metadata or key not in FOLLOW_THE_FILES}
    if kept.get("license") == "unknown":
        del kept["license"]
    before, now = old.metadata.get("tags"), new.metadata.get("tags")
    if isinstance(before, list) and isinstance(now, list):
        kept["tags"] = list(dict.fromkeys(map(str, before + now)))
    return replace(old, metadata=new.metadata | kept, section=new.section)


def joined(hub: Card, local: Card) -> Card:
    """The person's part of two copies of a card: of the only one edited since the last push, or else what both hold."""
    if hub == Card({}) or (local.edited() and not hub.edited()):
        return local
    if not local.edited() and (hub.edited() or not local.pushed):
        return hub
    texts = {name: _both_lines(getattr(hub, name), getattr(local, name)) for name in ("before", "after")}
    return replace(hub, metadata=local.metadata | hub.metadata, **texts)


def _both_lines(first: str, second: str) -> str:
    lines = first.splitlines()
    return "\n".join([*lines, *(line for line in second.splitlines() if line not in lines)])


def _split(text: str) -> tuple[dict[str, Any], str]:
    """Metadata and page of a card."""
    from huggingface_hub import RepoCard

    if not text.lstrip().startswith("---"):
        return {}, text
    try:
        card = RepoCard(text)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f" at line {place.line + 2}" if place else ""
        raise UserError(f"the card's YAML does not parse{where}: {getattr(error, 'problem', error)}") from error
    except (ValueError, TypeError) as error:
        raise UserError(f"the card's YAML is not lines of `key: value` ({error})") from error
    return card.data.to_dict(), card.text
