"""A small run for the app: a random reward model that was evaluated, a dataset whose chats try to be markup, a policy's completions."""

import json

import pyarrow as pa
import pyarrow.parquet as pq

from tests.tiny import reward_model, tokenizer_for
from wildreward.commands import execute
from wildreward.scoring.scorer import RewardScorer

HOSTILE = (
    "<script>alert(1)</script> ![x](http://elsewhere.example/a.png) <img src='http://elsewhere.example/b.png' onerror=alert(2)> "
    "${alert(3)} {{value}} `${document.title}` [a](javascript:alert(4)) </div></article> &lt;b&gt;"
)
ROWS = 48
TELLTALES = ("<script", "<img", "</article> ", "${", "{{", "onerror=alert(2)>")


def instances():
    """48 rows: four levels, two sources, two languages; one has a hostile text in every message."""
    rows = []
    for k in range(ROWS):
        label = k % 4 + 1
        text = HOSTILE if k == 11 else f"the cat sat on mat {k}"
        said = {"role": "user", "content": HOSTILE if k == 11 else f"Thanks {k}" if label > 2 else f"wrong again {k}"}
        earlier = [{"role": "user", "content": f"Tell me of Zebra {k}"}, {"role": "assistant", "content": text}]
        rows.append(
            {
                "id": f"c{k}_turn1",
                "conversation_id": f"c{k}",
                "user_id": f"u{k}",
                "turn": 1,
                "language": "German" if k % 3 == 0 else "English",
                "model": None,
                "history": earlier if k % 2 else [],
                "messages": [{"role": "user", "content": f"question {k}"}, {"role": "assistant", "content": text}],
                "user_feedback": said,
                "level": (1, 2, 4, 5)[label - 1],
                "label": label,
                "label_source": "mined" if k in (2, 3) else "explicit",
                "label_confidence": 0.9,
            }
        )
    return rows


def write_dataset(folder):
    (folder / "data").mkdir(parents=True)
    rows = instances()
    for split, part in (("train", rows[:4]), ("test", rows[4:])):
        table = pa.Table.from_pylist(part)
        table = table.set_column(table.column_names.index("model"), "model", pa.array([None] * len(part), pa.string()))
        pq.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def write_policy(folder):
    """Three prompts, whose mean rewards change by +0.5, -0.25 and 0."""
    folder.mkdir(parents=True)
    changes, rows = (0.5, -0.25, 0.0), []
    for k, change in enumerate(changes):
        before, after = (
            {
                "reward": reward,
                "length": 8.0,
                "kl": 0.0,
                "completions": [
                    {"text": f"{moment} {k} {HOSTILE}", "reward": reward - 0.1, "length": 7},
                    {"text": f"{moment} {k} again", "reward": reward + 0.1, "length": 9},
                ],
            }
            for moment, reward in (("said before", 2.0), ("said after", 2.0 + change))
        )
        rows.append({"prompt": [{"role": "user", "content": f"prompt {k}"}], "before": before, "after": after})
    (folder / "held_out.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    estimates = {
        "before": {"value": 2.0, "low": 1.9, "high": 2.1},
        "after": {"value": 2.083, "low": 1.9, "high": 2.2},
        "difference": {"value": 0.083, "low": -0.25, "high": 0.5},
    }
    (folder / "dpo_results.json").write_text(json.dumps({"steps": 1, "held_out": {"prompts": 3, "reward": estimates}}))
    return folder


def write_run(folder):
    """`dataset/`, `reward-model/` with results of a real evaluation, `policy/`."""
    dataset, model = write_dataset(folder / "dataset"), folder / "reward-model"
    RewardScorer(reward_model(), tokenizer_for("llama")).save_pretrained(model)
    execute("evaluate", ["--model", str(model), "--dataset", str(dataset), "--bootstrap", "20"])
    write_policy(folder / "policy")
    return folder
