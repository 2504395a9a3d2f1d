"""`evaluate --judge`: every pair is shown to a chat model in both orders, and its preferences become results.

Where both orders name the same answer, that is the preference; where they contradict each other, or the judge sees no
difference, there is none, which counts one half. A pair with an answer that could not be read, or that did not come, counts as
lost and is reported as failed. Answers are kept in `work/judge/<fingerprint>.sqlite` as they come: none is asked for twice.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from wildreward.common.chat import read_all
from wildreward.common.errors import UserError
from wildreward.common.files import FolderLock
from wildreward.common.llm.answers import Answer, check_share_failed
from wildreward.common.llm.client import RetryPolicy
from wildreward.common.llm.ledger import Ledger, Prices, totals
from wildreward.common.llm.quoting import Budget
from wildreward.common.progress import progress
from wildreward.evaluation import item_scores, wrong
from wildreward.evaluation.benchmarks.items import Benchmark, Item
from wildreward.evaluation.benchmarks.preference import Preference
from wildreward.evaluation.benchmarks.run import BENCHMARKS, preference_results, published_numbers
from wildreward.evaluation.bootstrap import defined_or_none
from wildreward.evaluation.inputs import Inputs, load_inputs
from wildreward.evaluation.judge import Comparison, Judge, Judged
from wildreward.evaluation.metrics import length_bias
from wildreward.evaluation.page import write_page
from wildreward.evaluation.results import empty_results, keep_earlier, write_results
from wildreward.evaluation.settings import EvaluateConfig, JudgeConfig
from wildreward.scoring.protocol import Scored

RULE = " Of a judge: the preference of both orders counts 1, none or a contradiction one half, a failed pair nothing."
SHOW_EVERY = 20  # answers between two looks at what they cost


def evaluate_judge(config: EvaluateConfig, settings: JudgeConfig) -> dict[str, Any]:
    """Evaluate a chat model as a judge into `config.output`: `results.json`, `results.md`, `report.html`, `scores/`.

    Returns:
        What `results.json` holds.
    """
    settings.check(config)
    config.check()
    folder, prices = Path(config.output or ""), Prices(settings.price_prompt, settings.price_completion)
    judge = _open_judge(settings)
    with FolderLock(folder / "work"):
        inputs = load_inputs(replace(config, plots=False))
        sets = _judged_sets(inputs, config.keep_reasoning)
        ledger = folder / "work" / "judge" / f"{judge.fingerprint}.sqlite"
        asked = [one for _, _, questions in sets.values() for item in questions for pair in item for one in pair]
        answers = _ask(judge, asked, ledger, prices)
        check_share_failed(Counter(one.reason for one in answers.values()), len(answers), settings.max_failed)
        results = empty_results(judge, config)
        keep_earlier(folder / "results.json", results)
        for (kind, name), (benchmark, items, questions) in sets.items():
            judged = [[Judged(*(answers[one.key] for one in pair)) for pair in pairs] for pairs in questions]
            results[kind][name] = _results(benchmark, items, judged, config)
            file = f"pairs_{benchmark.name}" if kind == "pairs" else benchmark.name
            item_scores.write_judged(folder, file, benchmark, items, judged)
            wrong.write(folder, file, wrong.of_judged(benchmark, items, judged))
        spent = totals(ledger)
        cost = prices.cost(spent["prompt_tokens"], spent["completion_tokens"])
        results["asked"] = {**spent, "price_prompt": prices.prompt, "price_completion": prices.completion, "cost": cost}
        item_scores.write_card(folder, results)
        write_results(folder, results)
        write_page(folder, results)
    return results


def _open_judge(settings: JudgeConfig) -> Judge:
    return Judge(
        settings.judge or "",
        settings.base_url,
        settings.api_key_env,
        settings.concurrency,
        settings.temperature,
        settings.max_answer_tokens,
        settings.extra_body,
        Budget.of(settings.shown_tokens),
        RetryPolicy.of(settings.timeout),
    )


Questions = list[list[tuple[Comparison, Comparison]]]
"""Of each item, of each of its pairs: the better answer first, and second."""


def _judged_sets(
    inputs: Inputs, keep_reasoning: bool
) -> dict[tuple[str, str], tuple[Benchmark, list[Item], Questions]]:
    """(kind, name) in results.json → the set, its items and what is asked about them.

    Raises:
        UserError: a benchmark's rule needs scores.
    """
    sets = {}
    for kind, group in (("benchmarks", inputs.benchmarks), ("pairs", inputs.pairs)):
        for name, (benchmark, items) in group.items():
            if not benchmark.pairwise:
                able = ", ".join(other for other, cls in BENCHMARKS.items() if cls.pairwise)
                raise UserError(
                    f"{name} needs a score of every answer, which a judge does not give; expected {able} or --pairs"
                )
            sets[kind, name] = benchmark, items, [_questions(benchmark, item, keep_reasoning) for item in items]
    return sets


def _questions(benchmark: Benchmark, item: Item, keep_reasoning: bool) -> list[tuple[Comparison, Comparison]]:
    """Both orders of every pair of an item.

    Raises:
        UserError: an answer cannot be read as a message.
    """
    try:
        read = read_all([chat for group in item.groups for chat in group.conversations], keep_reasoning)
    except ValueError as error:
        raise UserError(f"item {item.id!r} of {benchmark.name} cannot be shown ({error})") from error
    found = []
    for better, worse in benchmark.pairs(item):
        one, other = read[better], read[worse]
        shared = 0
        while shared < min(len(one), len(other)) - 1 and one[shared] == other[shared]:
            shared += 1
        prompt, sides = one[:shared], (one[shared:], other[shared:])
        found.append((Comparison(prompt, *sides), Comparison(prompt, *sides[::-1])))
    return found


def _ask(judge: Judge, asked: Iterable[Comparison], path: Path, prices: Prices) -> dict[str, Answer]:
    """The answer to every question, by its key; only what the ledger does not know is asked, equal questions once."""
    questions = {one.key: one for one in asked}
    with Ledger(path, f"judge:{judge.version}") as ledger:
        known = {key: ledger.find(key) for key in questions}
        answers = {key: answer for key, answer in known.items() if answer is not None and answer.is_final}
        pending = [replace(one, on_ask=ledger.count_attempt) for key, one in questions.items() if key not in answers]
        tokens = np.zeros(2, dtype=np.int64)
        with (
            progress("judging", len(pending), unit="question") as bar,
            closing(judge.ask_many(pending)) as stream,  # an error here ends the asking at once
        ):
            for answer in stream:
                ledger.add(answer)
                answers[answer.key] = answer
                tokens += answer.prompt_tokens, answer.completion_tokens
                bar.update()
                if bar.n and bar.n % SHOW_EVERY == 0:
                    bar.set_postfix_str(prices.spent(*tokens.tolist(), len(pending) / bar.n))
        judge.close()
    return answers


def _results(
    benchmark: Benchmark, items: Sequence[Item], judged: Sequence[Sequence[Judged]], config: EvaluateConfig
) -> dict[str, Any]:
    """What results.json says of a set: its numbers by its own rule, length bias, and how the judge behaved."""
    won = [[one.won for one in pairs] for pairs in judged]
    if isinstance(benchmark, Preference):
        scored = [[Scored(share), Scored(1.0 - share)] for (share,) in won]
        result = preference_results(benchmark, items, scored, config)
        result.pop("calibration", None)  # it states no chance
    else:
        credits = benchmark.collect(items, [benchmark.judged_credit(*one) for one in zip(items, won, strict=True)])
        result = published_numbers(benchmark, items, credits, config)
        result["length_bias"] = _length_bias(benchmark, items, won)
    if "rule" in result:
        result["rule"] += RULE
    return result | {"judge": behaviour([one for pairs in judged for one in pairs]), "figures": []}


def _length_bias(
    benchmark: Benchmark, items: Sequence[Item], won: Sequence[Sequence[float]]
) -> Mapping[str, float | None]:
    shares = np.asarray([share for pairs in won for share in pairs])
    lengths = [[len(item.candidates[k]) for k in pair] for item in items for pair in benchmark.pairs(item)]
    better, worse = np.asarray(lengths).T
    return {name: defined_or_none(value) for name, value in length_bias(shares, 1 - shares, better, worse).items()}


def behaviour(judged: Sequence[Judged]) -> dict[str, Any]:
    """How a judge behaved on pairs.

    Returns:
        `n` pairs and `n_failed` of them, with the `reasons` of their answers; of the others `contradictions` (the share in
        which the same place was preferred in both orders) and `ties` (the share without a preference that are none);
        `first_preferred`: of all answers that name a place, the share that name the first; without position bias one half.
    """
    read = [one for one in judged if not one.failed]
    said = [answer for one in judged for answer in (one.better_first, one.better_second)]
    places = Counter(answer.verdict for answer in said)
    named = places["first"] + places["second"]
    return {
        "n": len(judged),
        "n_failed": len(judged) - len(read),
        "failed": (len(judged) - len(read)) / len(judged),
        "reasons": dict(Counter(answer.reason for answer in said if answer.verdict is None)),
        "contradictions": sum(one.contradicts for one in read) / len(read) if read else None,
        "ties": sum(one.won == 0.5 and not one.contradicts for one in read) / len(read) if read else None,
        "first_preferred": places["first"] / named if named else None,
    }
