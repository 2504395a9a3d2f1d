"""The steps that leave turns out, each for a reason. `select.py` has them in their order.

A filter only decides; `leave_out` goes through the turns, marks those that leave with the reason code, and counts them. A
turn that left is passed on, for every turn is listed in the end. Patterns match whole words of the user's query: what
asks for a picture, a page, a file, or for the assistant itself cannot be judged from the text alone.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from wildreward.common.words import count_words
from wildreward.dataset_builder.records import LEVEL_TO_LABEL, Conversation, Turn
from wildreward.dataset_builder.settings import BuildSettings
from wildreward.dataset_builder.text import language_name

_IMAGE = re.compile(
    r"""\b(?:
        (?:draw|paint|sketch)\s+(?:me\s+|us\s+)?(?:an?|the|some|my|this|it)\b
          (?!\s+(?:\w+\s+)?(?:(?:conclusions?|comparisons?|parallels?|distinctions?|lines?\s+between|analog(?:y|ies)|inferences?|lessons?|attention
            |proofs?|outlines?|arguments?|plots?|charts?|histograms?|samples?)\b|(?:cards?|numbers?|names?)\s+(?:from|out\s+of|between|at\s+random)\b))
      | illustrate\s+(?:me\s+|us\s+)?(?:an?|the|this|my)\s+(?:\w+\s+)?(?:book|story|scene|cover|character|poem)\b
      | (?:generate|create|make|design|produce|render|give|show|send|need|want)\s+
          (?!(?:\w+\s+){0,3}?(?:(?:docker|container|disk|base|boot|iso|vm|system)\s+images?|(?:clear|clearer|big|bigger|full|fuller|better|whole|overall|complete)\s+picture)\b)
          (?:\w+\s+){0,3}?
          (?:image|picture|photo(?:graph)?|drawing|painting|illustration|artwork|portrait|wallpaper|logo)s?\b
          (?!\s+(?:classif|recogni|process|segment|detect|files?|tags?|urls?|formats?|viewer|gallery|upload|slider|carousel|component|datasets?|loader|element|src|path))
      | (?:midjourney|dall[-·\s]?e(?:\s*[23])?|stable\s+diffusion|image\s+prompts?|text[-\s]to[-\s]image)
    )\b
    | (?:画|绘制|绘画)(?:一|个|张|幅|只|出)|生成(?:一)?(?:张|幅|个)?(?:图片|图像|照片|插画)|文生图
    """,
    re.I | re.X,
)
_BROWSING = re.compile(
    r"""(?:https?://|\bwww\.)\S
    | \b(?:browse|google|look\s+up|search)\s+(?:for\s+\w+\s+)?(?:on\s+|in\s+)?(?:the\s+)?(?:web|internet|online|google|bing)\b
    | \b(?:search|browse|surf)\s+(?:the\s+)?(?:web|internet|net)\b
    | \b(?:this|the|following|that|my)\s+(?:link|url|web\s?page)\b(?!\s+(?:between|from|to)\b)
    | \bweb\s+(?:search\s+results|browsing)\b
    | (?:搜索|查询|浏览)(?:一下)?(?:网络|互联网|网页|网上)|(?:上网|联网)(?:搜索|查)|(?:这个|以下)(?:链接|网址|网页)
    """,
    re.I | re.X,
)
_IDENTITY = re.compile(
    r"""\b(?:
        (?:who|what)\s+(?:(?:exactly\s+)?are\s+you(?!\s+(?:\w+ing|up|on)\b)|(?:made|created|built|trained|developed|designed)\s+you)\b
      | are\s+you\s+(?:an?\s+)?(?:chat\s?gpt|gpt\S*|openai|claude|bard|bing|gemini|llama|ai|a\.i\.|robot|bot|human|real|sentient|conscious|alive)\b
      | (?:which|what)\s+(?:(?:language|ai|gpt)\s+)?(?:model|version)\s+(?:\w+\s+){0,2}(?:are\s+you|of\s+(?:chat)?gpt|do\s+you\s+use)\b
      | (?:your|ur)\s+(?:knowledge|training)\s+(?:cut[-\s]?off|data)\b
      | (?:what|which)\s+(?:can|are)\s+(?:you\s+do|your\s+(?:capabilities|limitations))\s*(?:\?|$)
      | what(?:['’]s|\s+is)\s+your\s+(?:real\s+)?name\b
    )
    | 你是(?:谁|什么(?:模型|人工智能|东西)|chatgpt|gpt|机器人|人类)|(?:谁|哪家公司)(?:创造|开发|训练)(?:了)?你|你(?:叫什么|的名字)
    """,
    re.I | re.X,
)
_FILES = re.compile(
    r"""\b(?:
        (?<!feel\ )(?<!felt\ )(?<!very\ )(?<!too\ )(?<!so\ )(?<!get\ )(?<!got\ )(?<!become\ )(?<!emotionally\ )(?<!deeply\ )attached\b
      | (?:uploaded|attaching|uploading)\b
      | (?:this|the|that|my|these|following|above|below)\s+(?:attached\s+|uploaded\s+)?
          (?:pdf|image|picture|photo|screenshot|video|audio|recording|spreadsheet|attachment|attachments|screen\s?shots?|docx?|xlsx?|pptx?)\b
      | (?:watch|listen\s+to|see|open|read|view)\s+(?:this|the|my)\s+(?:file|video|clip|podcast|episode|song|image|photo|pdf|attachment)\b
    )
    | (?<=\w)\.(?:pdf|docx?|xlsx?|pptx?|png|jpe?g|gif|mp[34]|wav|zip|rar)\b
    | (?:这张|这个|这份|附件|上传)(?:的)?(?:图片|照片|图|文件|视频|音频|文档|截图|表格)
    """,
    re.I | re.X,
)


@dataclass(frozen=True)
class Filter:
    """Why turns are left out.

    Attributes:
        reason: its code in the report and in `levels.parquet`.
        rejects: whether a turn is to be left out.
    """

    reason: str
    rejects: Callable[[Turn], bool]


def leave_out(turns: Iterable[Turn], counts: Counter, *, filters: Sequence[Filter]) -> Iterator[Turn]:
    """All turns, each marked that one of the filters rejects, by the first; `dropped.<reason>` is added to `counts`."""
    for turn in turns:
        if turn.dropped is None:
            for each in filters:
                if each.rejects(turn):
                    turn.dropped = each.reason
                    counts[f"dropped.{each.reason}"] += 1
                    break
        yield turn


def filters_before_labels(settings: BuildSettings) -> list[Filter]:
    """What no labeler is asked about. Unknown languages are kept."""
    kept = {(language_name(language) or language).lower() for language in settings.languages}
    return [
        Filter("language", lambda turn: bool(kept and turn.language) and turn.language.lower() not in kept),
        *(
            Filter(
                f"flagged_{flag}",
                lambda turn, flag=flag: turn.conversation.flagged.get(flag, 2**31) <= turn.following,
            )
            for flag in settings.drop_flagged
        ),
        Filter("too_long", lambda turn: turn.number >= turn.conversation.num_turns_within_limit),
    ]


def filters_by_level() -> list[Filter]:
    return [
        Filter("unlabelled", lambda turn: turn.level is None),
        Filter("neutral", lambda turn: turn.level not in LEVEL_TO_LABEL),
    ]


def filters_by_text(settings: BuildSettings) -> list[Filter]:
    """What looks at the text of a turn, whatever its level; cheap ones first."""
    return [
        Filter("long_history", lambda turn: sum(m.role != "tool" for m in turn.history) > settings.max_history),
        Filter("short_query", lambda turn: count_words(turn.query) < settings.min_query_words),
        Filter("short_response", lambda turn: count_words(turn.response) < settings.min_response_words),
        Filter("image_generation", lambda turn: bool(_IMAGE.search(turn.query))),
        Filter("browsing", lambda turn: bool(_BROWSING.search(turn.query))),
        Filter("assistant_identity", lambda turn: bool(_IDENTITY.search(turn.query))),
        Filter("files_and_media", lambda turn: bool(_FILES.search(turn.query))),
    ]


def extract(conversations: Iterable[Conversation], settings: BuildSettings, counts: Counter) -> Iterator[Turn]:
    """Every turn with a follow-up, in order; those that no labeler is asked about are marked as dropped.

    Args:
        conversations: examined, with unique ids.
        settings: for `filters_before_labels`.
        counts: gets `dropped.<reason>`.
    """
    turns = (turn for conversation in conversations for turn in conversation.turns())
    return leave_out(turns, counts, filters=filters_before_labels(settings))
