"""The card of a model folder: its facts → pure rendering → README.md, with a person's edits carried over."""

import logging
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from wildreward.common.cards import Card, rendered_again
from wildreward.common.errors import UserError
from wildreward.common.files import atomic_path
from wildreward.model_card.eval_results import result_entries
from wildreward.model_card.facts import LABELER, POLICY, ModelFacts, read_model_facts

logger = logging.getLogger(__name__)

TEMPLATE = Path(__file__).with_name("model_card.md.jinja")
LABELER_TEMPLATE = Path(__file__).with_name("labeler_card.md.jinja")
ARXIV = "2602.08829"
PAPER = "WildReward: Learning Reward Models from In-the-Wild Human Interactions"
EVAL_RESULTS = Path(".eval_results") / "wildreward.yaml"


def write_model_card(
    folder: str | os.PathLike, repo_id: str | None = None, license: str | None = None, log: bool = True
) -> Path:
    """Write `README.md` and `.eval_results/wildreward.yaml` of a model folder from the files in it.

    What a person wrote around the generated section of a README.md that is there already stays, see `wildreward.common.cards`.

    Args:
        folder: a model folder; config.json, training_summary.json, results.json and figures/ are read.
        repo_id: id on the Hub, shown in the usage examples; the folder's name stands in for it.
        license: license of the model, kept from then on; by default the base model's, where its card is at hand.
        log: say where the card went.

    Returns:
        The path of README.md.

    Raises:
        UserError: no model in the folder, or a file of it (the old README.md included) cannot be read.
    """
    folder = Path(folder)
    facts = read_model_facts(folder, repo_id)
    readme = folder / "README.md"
    old = readme.read_text(encoding="utf-8") if readme.exists() else ""
    card = rendered_again(Card.parse(old), model_card(facts))
    if license:
        card = replace(card, metadata=card.metadata | {"license": license})
    with atomic_path(readme) as temporary:
        temporary.write_text(str(card), encoding="utf-8")
    entries = render_eval_results(facts.results)
    if entries:
        with atomic_path(folder / EVAL_RESULTS) as temporary:
            temporary.write_text(entries, encoding="utf-8")
    else:
        (folder / EVAL_RESULTS).unlink(missing_ok=True)
    if log:
        logger.info("model card: %s", readme)
    return readme


def render_model_card(facts: ModelFacts) -> str:
    """The card's text. The same facts give the same text."""
    return str(model_card(facts))


def model_card(facts: ModelFacts) -> Card:
    """The card, with nothing in it that a person wrote."""
    import jinja2

    environment = jinja2.Environment(undefined=jinja2.ChainableUndefined, autoescape=False, keep_trailing_newline=True)
    environment.filters["figure_title"] = _figure_title
    template = LABELER_TEMPLATE if facts.role == LABELER else TEMPLATE
    body = environment.from_string(template.read_text(encoding="utf-8")).render(
        facts=facts,
        arxiv=ARXIV,
        paper=PAPER,
        results=render_results(facts.results),
        held_out=_held_out_rows(facts.training.get("held_out") or {}),
        versions=facts.training.get("versions") or facts.results.get("versions") or {},
    )
    return Card(card_metadata(facts), section=re.sub(r"\n{3,}", "\n\n", body).strip())


def card_metadata(facts: ModelFacts) -> dict[str, Any]:
    """The card's YAML block, without fields that are not known."""
    policy = facts.role == POLICY
    tags = ["wildreward", "trl", *(["dpo"] if policy else ["reward-model", "ordinal-regression"])]
    if facts.role == LABELER:
        tags = ["wildreward", "user-feedback"]
    fields = {
        "license": facts.license or "unknown",
        "language": list(facts.languages),
        "library_name": "peft" if facts.peft else "transformers",
        "pipeline_tag": "text-generation" if policy else "text-classification",
        "base_model": facts.base_model,
        "datasets": list(facts.datasets),
        "tags": [*tags, f"arxiv:{ARXIV}"],
    }
    return {key: value for key, value in fields.items() if value}


def render_results(results: Mapping[str, Any]) -> str:
    """The tables of results.json as Markdown, under a heading of level 3 or more.

    Raises:
        UserError: results.json is not what `wildreward evaluate` writes.
    """
    if not results:
        return ""
    from wildreward.evaluation.report import markdown

    try:
        text = markdown(results)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"results.json cannot be shown on a card ({type(error).__name__}: {error}); "
            "run `wildreward evaluate` again on this model"
        ) from error
    return re.sub(r"\A## .*\n+", "", text).strip()


def render_eval_results(results: Mapping[str, Any]) -> str:
    """`.eval_results/wildreward.yaml`, or an empty string where nothing has a place on the Hub."""
    from huggingface_hub.utils import yaml_dump

    entries = result_entries(results)
    return yaml_dump(entries, sort_keys=False) if entries else ""


def _held_out_rows(report: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    """Of a policy: reward and length on held-out prompts before and after training, with intervals."""
    rows = []
    for name in ("reward", "length"):
        if report.get(name):
            shown = [_estimate(report[name][key]) for key in ("before", "after", "difference")]
            rows.append((name, shown[0], shown[1], shown[2]))
    return rows


def _estimate(estimate: Mapping[str, float | None]) -> str:
    value, low, high = (estimate.get(key) for key in ("value", "low", "high"))
    if value is None:
        return "–"
    return f"{value:.3f}" + (f" [{low:.3f}, {high:.3f}]" if low is not None and high is not None else "")


def _figure_title(path: str) -> str:
    return Path(path).stem.replace("_", " ")
