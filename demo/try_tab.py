"""*Try it*: a conversation and answers to it, scored as they stand, with what the model could not read of them."""

import json
import re
from collections.abc import Callable, Sequence

import gradio as gr
import numpy as np

from wildreward.common.chat import Message, read_all, read_messages
from wildreward.common.errors import UserError
from wildreward.demo import markup
from wildreward.evaluation.pairs import chances
from wildreward.modeling_wildreward.template import encode
from wildreward.scoring.local import WildRewardScorer
from wildreward.scoring.protocol import Scored, Scorer

MOST_CHARACTERS = 20_000  # of the conversation, and of each answer
LETTERS = "ABCD"
SHOWN = 2  # answers that there is room for at first
EXAMPLE = "How many legs does a spider have?"
EXAMPLE_ANSWERS = ("A spider has eight legs.", "Spiders are insects, so six.", "", "")
SPEAKER = re.compile(r"^(user|assistant|system)\s*:[ \t]*", re.IGNORECASE | re.MULTILINE)
SAID = (
    "Score: the expected level, from 1 to {levels}. P(A better than B): each answer's level is drawn from its own distribution, "
    "P(level A > level B) + ½ P(level A = level B)."
)
SAID_OF_SCORES = (
    "This model has scores and no levels. P(A better than B) = 1 / (1 + exp(score B − score A)), as Bradley-Terry."
)


def opened(scorer: Scorer) -> Callable[[], None]:
    """The tab of a model."""

    def build() -> None:
        gr.HTML(
            markup.note(
                "Write what a user asked and one answer, or several to compare. An earlier conversation goes before the question, "
                "with User: and Assistant: at the beginning of a line, or as a JSON list of messages."
            )
        )
        prompt = gr.Textbox(EXAMPLE, label="Conversation, up to the user's question", lines=3, max_lines=12)
        answers = []
        with gr.Row():
            for letter, example in zip(LETTERS, EXAMPLE_ANSWERS, strict=True):
                visible = len(answers) < SHOWN
                answers.append(
                    gr.Textbox(example, label=f"Answer {letter}", lines=4, max_lines=12, visible=visible, min_width=280)
                )
        with gr.Row(elem_classes="wr-buttons"):
            run = gr.Button("Score", variant="primary", min_width=120, scale=0)
            more = gr.Button("More answers", min_width=140, scale=0)
        first = "" if scorer.kind == "remote" else shown(scorer, EXAMPLE, *EXAMPLE_ANSWERS)
        result = gr.HTML(first, elem_id="wr-scores")
        quiet = {"api_visibility": "private", "show_progress": "minimal", "concurrency_id": "model"}
        for event in (run.click, prompt.submit, *(answer.submit for answer in answers)):
            event(lambda *texts: shown(scorer, *texts), [prompt, *answers], result, **quiet)
        more.click(
            lambda: [gr.update(visible=True)] * 2 + [gr.update(visible=False)],
            None,
            [*answers[SHOWN:], more],
            api_visibility="private",
        )

    return build


def shown(scorer: Scorer, prompt: str, *answers: str) -> str:
    """The scores as HTML, or one line that says why there are none."""
    try:
        return _scores(scorer, prompt, answers)
    except (UserError, ValueError) as error:
        return markup.error(re.sub(r"^conversation \d+: ", "", str(error)))


def read_prompt(text: str) -> list[Message]:
    """A conversation as people write it: the question alone, lines that begin with who speaks, or JSON.

    >>> read_prompt("User: hi\\nAssistant: hello\\nUser: 2 + 2?")[1]
    {'role': 'assistant', 'content': 'hello'}

    Raises:
        UserError: it cannot be read, or ends with the assistant.
    """
    text = text.strip()
    before, *turns = SPEAKER.split(text)
    if text.startswith("[{"):
        try:
            messages = read_messages(json.loads(text), "the conversation")
        except (ValueError, RecursionError) as error:
            raise UserError(f"the conversation begins like JSON and cannot be read: {error}") from error
    elif turns and not before.strip():
        pairs = zip(turns[::2], turns[1::2], strict=True)
        messages = read_messages(
            [{"role": role.lower(), "content": said.strip()} for role, said in pairs], "the conversation"
        )
    else:
        messages = [{"role": "user", "content": text}] if text else []
    if not messages or messages[-1]["role"] != "user":
        raise UserError("the conversation does not end with a user's question; write what the user asked last")
    return messages


def _scores(scorer: Scorer, prompt: str, answers: Sequence[str]) -> str:
    given = {letter: answer.strip() for letter, answer in zip(LETTERS, answers, strict=False) if answer.strip()}
    for name, text in {
        "the conversation": prompt,
        **{f"answer {letter}": text for letter, text in given.items()},
    }.items():
        if len(text) > MOST_CHARACTERS:
            raise UserError(f"{name} has {len(text):,} characters; expected at most {MOST_CHARACTERS:,}")
    messages = read_prompt(prompt)
    if not given:
        raise UserError("there is no answer to score; write one under Answer A")
    conversations = [[*messages, {"role": "assistant", "content": text}] for text in given.values()]
    scored: list[Scored] = []
    for letter, one in zip(given, scorer.score(conversations), strict=True):
        if one is None:
            raise UserError(f"the model's server cannot score answer {letter}")
        scored.append(one)
    best = max(one.score for one in scored)
    cards = [
        _card(letter, one, len(given) > 1 and one.score == best, _cut(scorer, conversation))
        for letter, one, conversation in zip(given, scored, conversations, strict=True)
    ]
    levels = scored[0].level_probs and len(scored[0].level_probs)
    how = SAID.format(levels=levels) if levels else SAID_OF_SCORES
    return f'<div class="wr-cards">{"".join(cards)}</div>{_compared(list(given), scored)}{markup.note(how)}'


def _card(letter: str, one: Scored, best: bool, cut: str) -> str:
    badge = markup.chip("highest", "wr-best") if best else ""
    bars = markup.level_bars(one.level_probs) if one.level_probs else ""
    return (
        f'<article class="wr-card"><div class="wr-card-head"><h3>Answer {letter}</h3>{badge}{markup.score(one.score)}</div>'
        f"{bars}{cut}</article>"
    )


def _compared(letters: Sequence[str], scored: Sequence[Scored]) -> str:
    """P(one better than another) of all pairs."""
    probs = np.array([one.level_probs for one in scored]) if all(one.level_probs for one in scored) else None
    scores = np.array([one.score for one in scored])
    first, second = np.triu_indices(len(letters), k=1)
    rows = "".join(
        f'<div class="wr-versus"><span>P({letters[a]} better than {letters[b]})</span>'
        f'<span class="wr-track"><span class="wr-fill wr-l4" style="width:{100 * chance:.1f}%"></span></span>'
        f"<strong>{100 * chance:.0f}%</strong></div>"
        for a, b, chance in zip(first, second, chances(scores, probs, first, second) if len(first) else [], strict=True)
    )
    return f'<div class="wr-pairs">{rows}</div>' if rows else ""


def _cut(scorer: Scorer, conversation: list[Message]) -> str:
    """What `max_length` left out, and what the model read in the end; known of a WildReward model on this machine."""
    if not isinstance(scorer, WildRewardScorer):
        return ""
    inner = scorer.scorer
    read = encode(inner.tokenizer, read_all([conversation], inner.keep_reasoning)[0], scorer.max_length)
    gone = [f"the oldest {read.dropped_messages} earlier messages"] if read.dropped_messages > 1 else []
    gone += ["the oldest earlier message"] if read.dropped_messages == 1 else []
    gone += [f"the middle of the {part}" for part in ("query", "response") if getattr(read, f"cut_{part}")]
    told = " and ".join(gone).replace("query", "question").replace("response", "answer")
    count = f"{len(read.input_ids)} of at most {scorer.max_length} tokens"
    line = f"Cut off: {told}" if gone else "Nothing cut off"
    text = inner.tokenizer.decode(read.input_ids, skip_special_tokens=True)
    kind = "wr-cut" if gone else ""
    return (
        f'<details class="wr-more {kind}"><summary>{line} ({count})</summary>'
        f'<div class="wr-text wr-read">{markup.text(text, 20_000)}</div></details>'
    )
