"""With the same labels and similarities: the same turns as the published pipeline, but for its listed defects."""

from collections import Counter

import pytest

from tests.dataset_builder.chats import conversation
from tests.dataset_builder.published import Row, published_ids
from wildreward.dataset_builder.filters import extract
from wildreward.dataset_builder.mining import candidates
from wildreward.dataset_builder.read import examine
from wildreward.dataset_builder.select import select_turns
from wildreward.dataset_builder.settings import BuildSettings

LONG = "This is an answer that has quite enough words to pass the filter for short responses."
QUERY = "Please explain to me how the tides of the sea work"


def chat(name, levels, *, queries=None, response=LONG, source=None):
    """A conversation with the given level for each turn; `queries` replace single user messages."""
    texts = []
    for number in range(len(levels) + 1):
        texts += [(queries or {}).get(number, f"{QUERY} {name} {number}"), f"{response} {number}"]
    made = conversation(*texts[:-1], conversation_id=name, source_id=source or name, num_turns_within_limit=0)
    return made, levels


def both(*chats, similar=lambda first, second: True):
    """(ours: id → level, theirs: id → level, reasons of what we drop)."""
    turns, rows, cosines, counts = [], [], [], Counter()
    for made, levels in chats:
        examine(made, 4096)
        members = list(extract([made], BuildSettings(languages="all"), counts))
        for turn, level in zip(members, levels, strict=True):
            turn.level = level
            history = [message.content for message in turn.history]
            rows.append(
                Row(turn.id, made.source_id, turn.number, history, turn.query, turn.response, turn.feedback, level)
            )
        asked = [turn.level if turn.dropped is None else None for turn in members]
        for number, later in candidates(asked, 2):
            same = similar(members[number].query, members[later].query)
            place = {"conversation_id": made.conversation_id, "turn": number, "later": later}
            cosines.append({**place, "cosine": 1.0 if same else 0.0})
        turns += members
    finished = list(select_turns(turns, cosines, BuildSettings(), counts))
    ours = {turn.id: turn.level for turn in finished if turn.dropped is None}
    theirs = published_ids(rows, lambda first, second: similar(first.query, second.query))
    return ours, theirs, {turn.id: turn.dropped for turn in finished if turn.dropped}


PLAIN = [
    chat("a", [1, 2, 3, 4, 5]),
    chat("b", [3, 3, 3, 3]),
    chat("c", [3, 5, 3, 2, 3, 3, 4]),
    chat("d", [3, 3, 4, 1], queries={1: "too short"}),
    chat("e", [4], queries={0: "please draw me a cat on a mat"}),
    chat("f", [5], queries={0: "write to bob@gmail.com and tell him that I am late"}),
    chat("g", [2], queries={0: "summarise https://example.org/x for me in one line"}),
    chat("h", [4], response="Too short."),
    chat("i", [4] * 13),
    chat("j", [5, 2], queries={0: "word " * 4100}),
]


def test_kept_ids_and_levels_agree_where_no_defect_is_touched():
    ours, theirs, reasons = both(*PLAIN)
    assert set(ours) == set(theirs) and len(ours) > 20
    # One level differs: a_turn2 has two signals, we take the nearest (4) and the published scripts the last (5).
    assert {id_ for id_ in ours if ours[id_] != theirs[id_]} == {"a_turn2"}
    # Every turn that neither keeps has a reason here.
    every = {turn.id for made, _ in PLAIN for turn in made.turns()}
    assert every == set(ours) | set(reasons)


def test_agreement_holds_for_any_similarity():
    for threshold in range(5):
        ours, theirs, _ = both(*PLAIN, similar=lambda a, b, t=threshold: (len(a) + 3 * len(b)) % 5 >= t)
        assert ours.keys() == theirs.keys()


DEFECTS = {
    "substring: 'draw' in 'drawback'": (
        [chat("x", [5], queries={0: "What is the main drawback of this whole approach?"})],
        {"x_turn0"},
        {},
    ),
    "personal data looked for in the last query only": (
        [chat("x", [3, 5], queries={0: "I am bob@gmail.com and I have a question"})],
        set(),
        {"x_turn1": "personal_data"},
    ),
    "word counts never fit Chinese: queries too short": (
        [chat("x", [5], queries={0: "请用简单的话解释一下潮汐是怎么形成的"})],
        {"x_turn0"},
        {},
    ),
    "word counts never fit Chinese: long input passes": (
        [chat("x", [2], queries={0: "潮汐 是 怎么 形成 的 " + "长" * 5000})],
        set(),
        {"x_turn0": "too_long"},
    ),
    "two turns ahead of what survives, not of the conversation": (
        [chat("x", [3, 3, 3, 5], queries={1: "short one", 2: "short too"})],
        set(),
        {"x_turn0": "neutral"},
    ),
    "one hash for two conversations merges them": (
        [chat("x", [3], source="same"), chat("y", [5], source="same")],
        set(),
        {"x_turn0": "neutral"},
    ),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_every_difference_is_a_listed_defect_with_a_reason(defect):
    chats, only_ours, dropped_here = DEFECTS[defect]
    ours, theirs, reasons = both(*chats)
    assert set(ours) - set(theirs) == only_ours
    only_theirs = set(theirs) - set(ours)
    assert {id_: reasons[id_] for id_ in only_theirs} == dropped_here


def test_a_turn_takes_its_nearest_signal_where_the_published_one_takes_the_last():
    ours, theirs, _ = both(chat("x", [3, 4, 5]))
    assert ours["x_turn0"] == 4 and theirs["x_turn0"] == 5
    assert set(ours) == set(theirs)
