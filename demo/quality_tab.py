"""*Quality*: what `evaluate` measured: the figures that count, its plots, and the pairs that the model is most wrong about."""

import base64
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from wildreward.common.files import read_json
from wildreward.common.names import is_url
from wildreward.common.tables import estimate_text, number_text
from wildreward.demo import markup
from wildreward.evaluation.item_scores import set_names
from wildreward.evaluation.page import blocks
from wildreward.evaluation.report import markdown
from wildreward.evaluation.results import FORMAT

TILES = {
    "roc_auc": ("ROC-AUC", "praise scores above complaint"),
    "mae": ("Mean absolute error", "in levels"),
    "within_one_accuracy": ("Within one level", "share of answers"),
    "qwk": ("Weighted kappa", "agreement of levels"),
}
CAPTIONS = {
    "score_by_label": "Scores of the answers by what their users said of them",
    "reliability": "Is what the model states as a probability what happens?",
    "accuracy_by_margin": "The further apart two scores, the more often the better answer is ahead",
}


def opened(model: str, revision: str | None = None) -> Callable[[], None] | None:
    """The tab of a model that was evaluated, in a folder or on the Hub; None of another, or of a server."""
    if is_url(model):
        return None
    folder = Path(model)
    if not folder.is_dir():
        from huggingface_hub import snapshot_download

        folder = Path(snapshot_download(model, revision=revision, allow_patterns=["results.json", "figures/*.png"]))
    path = folder / "results.json"
    results = read_json(path) if path.is_file() else None
    if not isinstance(results, dict) or results.get("format") != FORMAT:
        return None

    def build() -> None:
        gr.HTML("".join(_measured(name, result) for name, result in results["datasets"].items()))
        gr.HTML(_figures(folder, results))
        with gr.Accordion("All figures", open=False):
            gr.HTML(markup.tables(blocks(markdown(results))))
        for name, title in set_names(results).items():
            wrong = folder / "work" / "wrong" / f"{name}.json"
            if pairs := read_json(wrong) if wrong.is_file() else []:
                gr.HTML(_wrong(title, pairs))

    return build


def _measured(name: str, result: Mapping[str, Any]) -> str:
    figures = [(title, *_value(result[key]), says) for key, (title, says) in TILES.items() if key in result]
    shown = [(title, value, f"{says}{between}") for title, value, between, says in figures]
    ece = result.get("calibration", {}).get("ece")
    shown += [("Calibration error", number_text(ece), "of P(positive), lower is better")] if ece is not None else []
    users = f", {result['users']:,} users" if "users" in result else ""
    return f"<h2>{markup.text(name)}, {markup.text(result['split'])}: {result['n']:,} answers{users}</h2>{markup.tiles(shown)}"


def _value(estimate: Mapping[str, Any]) -> tuple[str, str]:
    """`0.712`, and its interval; of a number that there is not, why."""
    if estimate["value"] is None:
        return number_text(None), f"\n{estimate.get('reason', '')}"
    value, _, interval = estimate_text(estimate).partition(" [")
    return value, f"\n95% {interval.rstrip(']').replace(', ', ' to ')}" if interval else ""


def _figures(folder: Path, results: Mapping[str, Any]) -> str:
    found = {**results["datasets"], **results["benchmarks"], **results["pairs"]}
    shown = ""
    for name in (name for result in found.values() for name in result.get("figures", [])):
        path = folder / "figures" / Path(name).name
        if path.is_file():
            caption = next((text for kind, text in CAPTIONS.items() if Path(name).stem.endswith(kind)), name)
            data = base64.b64encode(path.read_bytes()).decode()
            image = f'<img src="data:image/png;base64,{data}" alt="{markup.text(caption)}">'
            shown += f"<figure>{image}<figcaption>{markup.text(caption)}</figcaption></figure>"
    return f'<div class="wr-figures">{shown}</div>'


def _wrong(title: str, pairs: list[dict[str, Any]]) -> str:
    """The pairs, folded: of each the better answer first, which the model scores lower."""
    rows = ""
    for number, pair in enumerate(pairs, start=1):
        sides = ""
        for answer, name in zip(pair["answers"], ("better", "worse"), strict=True):
            score = f" · score {answer['score']:.2f}" if "score" in answer else ""
            label = f" · {markup.level_word(answer['label'])}" if "label" in answer else ""
            head = f'<div class="wr-side-head">{name.capitalize()} for its user{label}{score}</div>'
            message = {"role": "assistant", "content": answer["answer"]}
            before = answer["before"]
            sides += f"<div>{head}{markup.earlier(before[:-1])}{''.join(map(markup.bubble, before[-1:]))}{markup.bubble(message)}</div>"
        gap = pair["answers"][1].get("score", 0) - pair["answers"][0].get("score", 0)
        shared = "".join(map(markup.bubble, pair["prompt"][-1:]))
        rows += (
            f'<details class="wr-more"><summary>{number}. the worse answer is {gap:.2f} ahead</summary>{shared}'
            f'<div class="wr-beside">{sides}</div></details>'
        )
    return f"<h2>Most wrong on {markup.text(title)}</h2>{rows}"
