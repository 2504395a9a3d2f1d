"""Completions that rules find weak: counted among the chosen, and not chosen where the guard is on."""

import pytest
import torch

from tests.training.dpo_tiny import fixed_trainer, make_policy, make_prompts, settings
from wildreward.training.dpo_report import run_report
from wildreward.training.dpo_weaknesses import choosable_under_guard, is_repeating, weaknesses
from wildreward.training.pairs import Masked

NAN = float("nan")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (True, False, False)),
        ("Not sure, sorry.", (True, False, False)),
        ("It is in Paris.", (False, False, False)),
        ("我不太清楚。", (False, False, False)),  # each character is a word
        ("The cat sat. The cat sat. The cat sat. The cat sat.", (False, True, False)),  # 3 of 9 runs are new
        ("我很好我很好我很好我很好", (False, True, False)),
        ("One, two, three, four, and one, two, three, four again.", (False, False, False)),  # 7 of 8
        ("I'm sorry, but I cannot help with that request.", (False, False, True)),
        ("很抱歉，我无法提供帮助。", (False, False, True)),
        ("I must decline.", (True, False, True)),
    ],
)
def test_what_is_short_repeats_itself_or_refuses(text, expected):
    assert tuple(weaknesses([text], 1)[0, 0].tolist()) == expected
    assert weaknesses([[{"role": "assistant", "content": text}]] * 2, 2).tolist() == [[list(expected)] * 2]


def test_half_of_the_runs_must_be_repeated():
    assert not is_repeating("a b c d a b c")  # 4 runs, all different
    assert is_repeating("a b c d a b c d a b c")  # 8 runs, 4 different
    assert not is_repeating("a b c d a b c d a b")  # 7 runs, 4 different
    assert not is_repeating("a a a")  # no run of four


def test_the_guard_leaves_weak_ones_only_where_there_is_nothing_else():
    rewards = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [3.0, NAN, 1.0], [3.0, 2.0, 1.0]])
    weak = torch.tensor([[True, False, False], [True, True, True], [True, False, True], [True, False, True]])
    assert choosable_under_guard(rewards, weak).tolist() == [
        [False, True, True],
        [True, True, True],  # all are weak
        [True, True, True],  # the other one could not be scored
        [False, True, False],
    ]
    uncut = torch.tensor([[True, False, False], [True, True, False], [True] * 3, [True, False, True]])
    assert choosable_under_guard(rewards, weak, uncut).tolist() == [
        [True, False, False],  # the others were cut off
        [True, True, False],
        [True, True, True],
        [True, False, True],
    ]


def shortest(prompts, completions, **kwargs):
    """A reward that can be fooled: the fewer words, the better."""
    return [-float(len(c[0]["content"].split())) for c in completions]


@pytest.mark.parametrize("guard", [False, True])
def test_a_reward_that_likes_short_answers_shows_and_the_guard_stops_it(tmp_path, guard):
    """Completions of 2 to 5 words, six a prompt: without the guard the shortest is chosen."""
    trainer = fixed_trainer(
        model=make_policy(tmp_path / "policy"),
        reward_funcs=shortest,
        args=settings(
            tmp_path / "out",
            num_generations=6,
            per_device_train_batch_size=12,
            max_steps=3,
            max_completion_length=8,
            reward_guard=guard,
        ),
        train_dataset=make_prompts(8),
    )
    seen = []

    def keep(rollout, *what):
        seen.append((rollout.completions, *(part.tolist() for part in what)))
        return recorded(rollout, *what)

    recorded, trainer._record_pairs = trainer._record_pairs, keep
    trainer.train()
    chosen, passed_over = [], 0
    for completions, rewards, best, _, kept in seen:
        for place in range(len(best)):
            group = [len(c[0]["content"].split()) for c in completions[6 * place : 6 * place + 6]]
            assert [-length for length in group] == rewards[place]
            sound = [length for length in group if length >= 4]
            expected = min(sound) if guard and sound else min(group)
            assert group[best[place]] == expected
            assert kept[place] == (expected < max(group))
            passed_over += guard and bool(sound) and min(group) < 4
            chosen += [group[best[place]]] if kept[place] else []
    short = sum(length < 4 for length in chosen)
    report = run_report(trainer, 8)
    assert report["prompts_with_pair"] == len(chosen)
    assert report["chosen"] == {"short": pytest.approx(short / len(chosen)), "repeating": 0.0, "refusing": 0.0}
    assert short == (0 if guard else len(chosen)) and (passed_over > 0) == guard
    logged = [row["chosen/short"] for row in trainer.state.log_history if "chosen/short" in row]
    assert logged == [0.0 if guard else 1.0] * 3
    if guard:
        assert set(trainer.pair_counts.masked) <= {Masked.GUARDED, Masked.SAME_TEXT, Masked.EQUAL}
    assert trainer.pair_counts.state()["args"]["weak"]["short"] == short
