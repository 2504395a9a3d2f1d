"""Cards made of generated, marked blocks around which a person may write: split, seal and merge them.

A card is YAML metadata followed by blocks, each between two comment lines that do not show on the page:

    <!-- wildreward:results -->
    ...generated...
    <!-- /wildreward:results -->

Everything between blocks belongs to the person who edits the card. A sealed card ends with one more comment that holds
a digest of every generated piece, so that the next rendering can tell what a person changed, wrote or took out:

- text outside of blocks is kept;
- a metadata field or a block that was edited stays as edited; one that was deleted stays deleted;
- everything else is replaced by the new rendering.

`configs` and `dataset_info` describe the files next to the card and always follow the new rendering.
"""

import hashlib
import json
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

import yaml

from wildreward.errors import UserError

logger = logging.getLogger(__name__)

FOLLOW_THE_FILES = ("configs", "dataset_info")
_FRONT = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)(?:\r?\n)---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_MARKER = re.compile(r"^[ \t]*<!-- (/?)wildreward:([a-z0-9_-]+) -->[ \t]*$", re.MULTILINE)
_SEAL = re.compile(r"^[ \t]*<!-- wildreward-seal (\{.*\}) -->[ \t]*\n?", re.MULTILINE)


@dataclass
class Card:
    """A card taken apart. `gaps[name]` is the text after block `name`; `gaps[""]` the text before the first block."""

    metadata: dict[str, Any] = field(default_factory=dict)
    blocks: dict[str, str] = field(default_factory=dict)
    gaps: dict[str, str] = field(default_factory=dict)
    generated: dict[str, str] | None = None
    """Digest of each piece (`field:x`, `block:x`, `gap:x`) as generated; None where the card was never sealed."""
    pushed: dict[str, str] = field(default_factory=dict)
    """Digest of each piece when the card last went to the Hub."""

    def pieces(self) -> dict[str, Any]:
        """All parts under one key each: `field:<key>`, `block:<name>`, `gap:<name of the block before>`."""
        return {
            **{f"field:{key}": value for key, value in self.metadata.items()},
            **{f"block:{name}": text for name, text in self.blocks.items()},
            **{f"gap:{name}": text for name, text in self.gaps.items() if text},
        }


def block(name: str, text: str) -> str:
    """Mark `text` as the generated block `name` (lower case letters, digits, `-`, `_`)."""
    return f"<!-- wildreward:{name} -->\n{text.strip()}\n<!-- /wildreward:{name} -->"


def parse_card(text: str) -> Card:
    """Take a card apart.

    Raises:
        UserError: the YAML does not parse, or a block is opened and not closed, closed and not opened, or there twice.
    """
    card = Card()
    text = text.removeprefix("\ufeff").replace("\r\n", "\n")
    seals = _SEAL.findall(text)
    text = _SEAL.sub("", text)
    if seals:
        try:
            record = json.loads(seals[-1])
            card.generated, card.pushed = dict(record["generated"]), dict(record["pushed"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError("the card's last comment (wildreward-seal) is damaged; delete that line") from error
    if front := _FRONT.match(text):
        card.metadata = _parse_yaml(front.group(1))
        text = text[front.end() :]
    open_name, start, previous = None, 0, ""
    for marker in _MARKER.finditer(text):
        closing, name = marker.group(1) == "/", marker.group(2)
        if (
            closing != (open_name is not None)
            or (closing and name != open_name)
            or (not closing and name in card.blocks)
        ):
            raise UserError(
                f"the card's block {open_name or name!r} is broken at {marker.group().strip()!r}; each block needs one "
                f"<!-- wildreward:{open_name or name} --> and one <!-- /wildreward:{open_name or name} --> after it"
            )
        piece = text[start : marker.start()].strip()
        if closing:
            card.blocks[name], previous = piece, name
        else:
            card.gaps[previous] = piece
        open_name, start = (None if closing else name), marker.end()
    if open_name is not None:
        raise UserError(
            f"the card's block {open_name!r} is not closed; add <!-- /wildreward:{open_name} --> at its end"
        )
    card.gaps[previous] = text[start:].strip()
    return card


def render_card(card: Card) -> str:
    """Put a card together again, its seal at the end."""
    from huggingface_hub.utils import yaml_dump

    parts = ["---\n" + yaml_dump(card.metadata, sort_keys=False).strip() + "\n---"] if card.metadata else []
    for name in ("", *card.blocks):
        parts += [block(name, card.blocks[name])] if name else []
        parts += [card.gaps[name]] if card.gaps.get(name) else []
    if card.generated is not None:
        record = json.dumps({"generated": card.generated, "pushed": card.pushed}, sort_keys=True).replace(
            ">", "\\u003e"
        )
        parts.append(f"<!-- wildreward-seal {record} -->")
    return "\n\n".join(parts) + "\n"


def seal(text: str) -> str:
    """Add to a fresh rendering the digests by which later edits are recognised."""
    card = parse_card(text)
    card.generated = _digests(card)
    return render_card(card)


def mark_pushed(text: str) -> str:
    """Note in a sealed card that it goes to the Hub as it is now, the base of the next `reconcile`."""
    card = parse_card(text)
    card.generated = card.generated or {}
    card.pushed = _digests(card)
    return render_card(card)


def unsealed(text: str) -> str:
    """The card without its seal: what a reader sees."""
    return _SEAL.sub("", text)


def set_field(text: str, key: str, value: Any) -> str:
    """Set a metadata field the way a person would: later renderings leave it alone."""
    card = parse_card(text)
    card.metadata[key] = value
    return render_card(card)


def fill_in(text: str, placeholder: str, value: str) -> str:
    """Replace a placeholder in the generated blocks of a card, not in what a person wrote."""
    card = parse_card(text)
    pieces = card.pieces()
    for name, content in card.blocks.items():
        if card.generated is not None and not _edited(card, f"block:{name}", pieces):
            card.blocks[name] = content.replace(placeholder, value)
            card.generated[f"block:{name}"] = _digest(card.blocks[name])
    return render_card(card)


def merge_card(old_text: str, new_text: str) -> str:
    """Carry a person's edits of a card over to a new rendering of it.

    Args:
        old_text: the card as found (sealed, unsealed, written by hand, or empty).
        new_text: the new rendering (sealed here if it is not yet).

    Returns:
        The new card, sealed.

    Raises:
        UserError: `old_text` cannot be taken apart, see `parse_card`.
    """
    new = parse_card(seal(new_text) if not _SEAL.search(new_text) else new_text)
    if not old_text.strip():
        return render_card(new)
    old = parse_card(old_text)
    before, now = old.pieces(), new.pieces()
    known = old.generated or {}
    merged = Card(generated=new.generated, pushed=old.pushed)
    for key in (*new.metadata, *(key for key in old.metadata if key not in new.metadata)):
        keep_old = key not in FOLLOW_THE_FILES and _edited(old, f"field:{key}", before)
        source = old.metadata if keep_old else new.metadata
        if key in source:
            merged.metadata[key] = source[key]
        if (
            old.generated is None
            and isinstance(merged.metadata.get(key), list)
            and isinstance(new.metadata.get(key), list)
        ):
            merged.metadata[key] += [item for item in new.metadata[key] if item not in merged.metadata[key]]
    for name in _order(list(old.blocks), list(new.blocks)):
        key = f"block:{name}"
        removed = name not in old.blocks and key in known
        if removed:
            continue
        if name in old.blocks and old.generated is not None and _edited(old, key, before):
            if key in now and known.get(key) != (new.generated or {}).get(key):
                logger.warning("the card's block %r was edited by hand and stays so; it is no longer updated", name)
            merged.blocks[name] = old.blocks[name]
        elif name in new.blocks:
            merged.blocks[name] = new.blocks[name]
    merged.gaps = _place_gaps(merged, old, new, before)
    return render_card(merged)


def reconcile(hub_text: str, local_text: str) -> str:
    """Join two copies of a card that were edited apart since it was last pushed.

    A piece changed on one side only is taken from that side. Text outside of blocks changed on both sides: the lines of
    both. A block or metadata field changed on both sides: the Hub's, with a warning.
    """
    if not hub_text.strip() or not local_text.strip():
        return local_text if local_text.strip() else hub_text
    hub, local = parse_card(hub_text), parse_card(local_text)
    theirs, ours = hub.pieces(), local.pieces()
    result = Card(generated=hub.generated if hub.generated is not None else local.generated, pushed=hub.pushed)
    chosen: dict[str, Any] = {}
    for key in (*theirs, *(key for key in ours if key not in theirs)):
        there, here = _changed(hub, key, theirs), _changed(local, key, ours)
        value = ours.get(key) if here and not there else theirs.get(key)
        if there and here and theirs.get(key) != ours.get(key):
            if key.startswith("gap:"):
                value = _both_lines(theirs.get(key, ""), ours.get(key, ""))
            else:
                logger.warning("%s of the card was edited here and on the Hub; the Hub's is kept", key)
        if not there and not here and value is None and hub.generated is None:
            value = ours.get(key)  # the Hub's card is not one of ours: it lacks what was never there
        if value is not None:
            chosen[key] = value
    for kind, target in (("field:", result.metadata), ("gap:", result.gaps)):
        target.update({key.removeprefix(kind): value for key, value in chosen.items() if key.startswith(kind)})
    for name in _order(list(hub.blocks), list(local.blocks)):
        if f"block:{name}" in chosen:
            result.blocks[name] = chosen[f"block:{name}"]
    result.gaps = _reattach(result.gaps, result.blocks, list(hub.blocks) + list(local.blocks))
    return render_card(result)


def _parse_yaml(text: str) -> dict[str, Any]:
    try:
        metadata = yaml.safe_load(text)
    except yaml.YAMLError as error:
        place = getattr(error, "problem_mark", None)
        where = f" at line {place.line + 2}" if place else ""
        raise UserError(f"the card's YAML does not parse{where}: {getattr(error, 'problem', error)}") from error
    if metadata is None:
        return {}
    if not isinstance(metadata, dict):
        raise UserError(f"the card's YAML is a {type(metadata).__name__}; expected `key: value` lines")
    return metadata


def _digest(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def _digests(card: Card) -> dict[str, str]:
    return {key: _digest(value) for key, value in card.pieces().items()}


def _edited(card: Card, key: str, pieces: dict[str, Any]) -> bool:
    """Whether a piece differs from what was generated; in a card without a seal, whatever is there was written."""
    base = (card.generated or {}).get(key)
    return base != (_digest(pieces[key]) if key in pieces else None)


def _changed(card: Card, key: str, pieces: dict[str, Any]) -> bool:
    """Whether a person changed a piece since the card was last pushed."""
    digest = _digest(pieces[key]) if key in pieces else None
    if key.startswith("gap:"):
        return digest != card.pushed.get(key)
    return _edited(card, key, pieces) and digest != card.pushed.get(key)


def _order(old: list[str], new: list[str]) -> list[str]:
    """The old order, with each new name put after the one that comes before it in the new order."""
    names = list(old)
    for position, name in enumerate(new):
        if name not in names:
            before = [other for other in new[:position] if other in names]
            names.insert(names.index(before[-1]) + 1 if before else 0, name)
    return names


def _place_gaps(merged: Card, old: Card, new: Card, before: dict[str, Any]) -> dict[str, str]:
    """Text between blocks: the old card's where a person wrote, changed or removed it, else the new rendering's own."""
    texts = {}
    for name in dict.fromkeys(("", *old.gaps, *new.gaps)):
        key, mine = f"gap:{name}", old.gaps.get(name, "")
        generated = key in (old.generated or {})
        touched = _edited(old, key, before) if generated else bool(mine) or key in old.pushed
        texts[name] = mine if touched else new.gaps.get(name, "")
    return _reattach(texts, merged.blocks, list(old.blocks))


def _reattach(gaps: dict[str, str], blocks: dict[str, str], order: list[str]) -> dict[str, str]:
    """Move text that followed a block which is gone to the nearest block before it that is still there."""
    placed: dict[str, str] = {}
    for name, text in _in_order(gaps, order):
        if not text:
            continue
        home = name
        while home and home not in blocks:
            position = order.index(home) if home in order else 0
            home = order[position - 1] if position > 0 else ""
        placed[home] = f"{placed[home]}\n\n{text}" if home in placed else text
    return placed


def _in_order(gaps: dict[str, str], order: list[str]) -> Iterator[tuple[str, str]]:
    place = {name: position for position, name in reversed(list(enumerate(order)))}
    yield from sorted(gaps.items(), key=lambda item: place.get(item[0], -1))


def _both_lines(first: str, second: str) -> str:
    """All lines of both texts, common ones once, the first text's before the second's."""
    a, b = first.splitlines(), second.splitlines()
    lines: list[str] = []
    for tag, a_from, a_to, b_from, b_to in SequenceMatcher(None, a, b, autojunk=False).get_opcodes():
        lines += a[a_from:a_to]
        lines += b[b_from:b_to] if tag != "equal" else []
    return "\n".join(lines)
