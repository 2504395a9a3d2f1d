"""From users' ratings to levels: the mapping, and the labeler `rating`, which knows nothing else.

Words mean the same everywhere. Numbers do not: 1 is the worst of five stars and the better of two thumbs, so the scale is
found over all ratings of the source, and where they leave it open nothing is guessed.

    | rating                        | level 1 | level 2        | 3, neutral | level 4  | level 5 |
    | up/down, true/false, 1/0      | down    |                |            |          | up      |
    | 1/0/-1                        | -1      |                | 0          |          | 1       |
    | stars                         | 1       | 2              | 3          | 4        | 5       |
    | 1 to 10                       | 1, 2    | 3, 4           | 5, 6       | 7, 8     | 9, 10   |
    | regenerated, edited           |         | both           |            |          |         |
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wildreward.common.errors import UserError
from wildreward.common.llm.answers import Answer
from wildreward.dataset_builder.labelers.base import Labeler, Request
from wildreward.dataset_builder.sources.marks import RATING_KEYS, rating_text

logger = logging.getLogger(__name__)

NOT_RATED = "not_rated"
# Why a rating is not used.
UNKNOWN, SAYS_NOTHING, NOT_ON_AN_ANSWER = "unknown_rating", "says_nothing", "not_on_an_answer"
RATED = "rating"  # label_source, and reason
Levels = Mapping[str, int | None]  # of a rating; None: it says nothing

_WORDS: dict[int | None, str] = {
    1: "down thumbsdown thumbdown dislike disliked downvote downvoted bad poor terrible awful worst negative neg unhelpful "
    "nothelpful incorrect wrong dissatisfied verybad unhappy no false 👎 👎🏻 👎🏼 👎🏽 👎🏾 👎🏿 ☹ 😞 😡 ❌ ✗",
    2: "regenerated regenerate retry retried edited edit",
    3: "neutral mixed fair average 😐",
    5: "up thumbsup thumbup like liked upvote upvoted good great excellent perfect love best positive pos helpful correct "
    "satisfied verygood happy yes true 👍 👍🏻 👍🏼 👍🏽 👍🏾 👍🏿 ❤ ❤️ 🙂 😀 ✅ ✓",
    None: "none null nan na notrated unrated skip skipped",
}
WORDS: dict[str, int | None] = {word: level for level, words in _WORDS.items() for word in words.split()}
_STARS = {
    0: None,
    1: 1,
    1.5: 2,
    2: 2,
    2.5: 2,
    3: 3,
    3.5: 4,
    4: 4,
    4.5: 4,
    5: 5,
}  # half a star counts towards the middle
_TEN = {0: 1, 1: 1, 2: 1, 3: 2, 4: 2, 5: 3, 6: 3, 7: 4, 8: 4, 9: 5, 10: 5}
_FRACTIONS = {f"{n:g}/{of}": level for of, scale in ((5, _STARS), (10, _TEN)) for n, level in scale.items()}
_LEAST_ONES = 0.1  # of 0 and 1; with fewer, 0 is what was not rated
MOST_SHOWN = 5  # ratings in a message


@dataclass(frozen=True)
class RatingMap:
    """What the user says that ratings are worth: `levels` of single ones, `ranges` (least, largest, level) of numbers."""

    levels: dict[str, int | None] = field(default_factory=dict)
    ranges: tuple[tuple[float, float, int | None], ...] = ()

    @property
    def has_numbers(self) -> bool:
        """Whether it says how numbers are to be read: then no scale is looked for."""
        return bool(self.ranges) or any(_number(rating) is not None for rating in self.levels)

    def written(self) -> dict[str, int | None]:
        """As the user could have written it."""
        return self.levels | {f"{least:g}..{largest:g}": level for least, largest, level in self.ranges}


NOTHING_GIVEN = RatingMap()


def read_map(given: str | None) -> RatingMap:
    """A rating map: `up=5,down=1,0..0.4=2` or a JSON file with an object of the same.

    Raises:
        UserError: it is none.
    """
    if not given:
        return RatingMap()
    if "=" in given:
        pairs = [tuple(each.rsplit("=", 1)) for each in given.split(",") if each.strip()]
    else:
        try:
            content = json.loads(Path(given).read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise UserError(f"--rating-map {given!r} is neither RATING=LEVEL,… nor a JSON file ({error})") from error
        pairs = list(content.items()) if isinstance(content, dict) else [(given,)]
    levels: dict[str, int | None] = {}
    ranges = []
    for pair in pairs:
        level = str(pair[-1]).strip().lower()
        if len(pair) != 2 or level not in ("1", "2", "3", "4", "5", "none", "null"):
            raise UserError(
                f"--rating-map has {'='.join(map(str, pair))!r}; expected RATING=LEVEL with a level of 1-5 or none"
            )
        worth = int(level) if level.isdigit() else None
        least, dots, largest = str(pair[0]).partition("..")
        if dots and None not in (bounds := (_number(least.strip()), _number(largest.strip()))):
            ranges.append((*bounds, worth))
        else:
            levels[rating_text(str(pair[0])) or ""] = worth
    return RatingMap(levels, tuple(ranges))


def levels_of(counts: Mapping[str, int], given: RatingMap = NOTHING_GIVEN) -> tuple[dict[str, int | None], str]:
    """What each of the ratings of a source is worth; those of which nobody knows are left out.

    Args:
        counts: how often each rating occurs, as `sources.marks.rating_text` writes it.
        given: goes before all else.

    Returns:
        rating → level (None: it says that there is none), and why the numbers have none ("" where they have, or where there
        are no numbers).
    """
    levels: dict[str, int | None] = {**WORDS, **_FRACTIONS}
    numbers = {number: rating for rating in counts if (number := _number(rating)) is not None}
    doubt = ""
    if given.has_numbers:
        for least, largest, level in reversed(given.ranges):
            levels |= {rating: level for number, rating in numbers.items() if least <= number <= largest}
    elif numbers:
        scale, doubt = _scale({number: counts[rating] for number, rating in numbers.items()})
        levels |= {rating: scale[number] for number, rating in numbers.items() if number in scale}
    levels |= given.levels
    return {rating: levels[rating] for rating in counts if rating in levels}, doubt


def weigh(
    counts: Mapping[str, int],
    elsewhere: Mapping[str, int],
    given: RatingMap,
    key: str | None = None,
    wanted: bool = False,
) -> dict[str, Any]:
    """What the ratings of a source are worth, and how many cannot be used, and why: said, or refused where they were asked for.

    Args:
        counts: how often each rating occurs on an answer.
        elsewhere: the same for other messages.
        given: by the user.
        key: under which they were looked for, where the user said it.
        wanted: the user counts on ratings, so what cannot be read is an error.

    Returns:
        `found`, `used`, `not_used` (reason → count), and `levels`, what each is worth.

    Raises:
        UserError: ratings were asked for, and there are none or none can be read.
    """
    levels, doubt = levels_of(counts, given)
    unknown = {rating: count for rating, count in counts.items() if rating not in levels}
    used = sum(count for rating, count in counts.items() if levels.get(rating))
    not_used = {
        UNKNOWN: sum(unknown.values()),
        SAYS_NOTHING: sum(counts.values()) - used - sum(unknown.values()),
        NOT_ON_AN_ANSWER: sum(elsewhere.values()),
    }
    why = _why_unknown(unknown, doubt)
    if wanted and not used:
        where = f"under {key!r}" if key else f"under {', '.join(RATING_KEYS[:4])}, …"
        raise UserError(why or f"no answer has a rating {where}; name its key (or dotted path) with --rating-key")
    if wanted and doubt:
        raise UserError(why)
    if why:
        logger.warning("%s; they are not used", why)
    return {
        "found": sum(counts.values()) + sum(elsewhere.values()),
        "used": used,
        "not_used": {reason: count for reason, count in not_used.items() if count},
        "levels": levels if used else {},
    }


def _why_unknown(unknown: Mapping[str, int], doubt: str) -> str:
    """Names the most frequent of them; what occurs once may be a person's own words."""
    if not unknown:
        return ""
    shown = [rating for rating, count in unknown.items() if count > 1 or _number(rating) is not None]
    shown = sorted(shown, key=lambda rating: (-unknown[rating], rating))[:MOST_SHOWN] or ["texts"]
    seen = ", ".join(shown) + (", …" if len(unknown) > len(shown) else "")
    what = doubt or f"nobody knows what the ratings {seen} are worth"
    return f"{what}; say it with --rating-map '{shown[0]}=LEVEL,…' (a level of 1-5, or none)"


def _scale(counts: dict[float, int]) -> tuple[dict[float, int | None], str]:
    """The scale of numbers, by which of them occur; or none, and the reason."""
    seen = set(counts)
    if -1 in seen and seen <= {-1, 0, 1}:
        return {-1: 1, 0: 3, 1: 5}, ""
    if seen == {0, 1}:
        if counts[1] < _LEAST_ONES * counts[0]:
            return {}, f"of the ratings {counts[0]:,} are 0 and {counts[1]:,} are 1, so 0 may be what nobody rated"
        return {0: 1, 1: 5}, ""
    if 5 in seen and seen <= _STARS.keys():
        return _STARS, ""
    if seen & {9, 10} and seen <= _TEN.keys():
        return _TEN, ""
    few = ", ".join(f"{number:g}" for number in sorted(seen)[:6]) + (", …" if len(seen) > 6 else "")
    return {}, f"the ratings are {few}, which may be of several scales"


def _number(rating: str) -> float | None:
    try:
        return float(rating)
    except ValueError:
        return None


class RatingLabeler(Labeler):
    """Says nothing about follow-ups: with it, only what users rated has a level."""

    name = "rating"
    version = "1"
    settings: Mapping[str, Any] = {}

    def label(self, request: Request) -> Answer:
        """No level."""
        return Answer(request.key, None, reason=NOT_RATED)
