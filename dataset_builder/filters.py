"""Turns whose quality cannot be seen from the text alone, each with its reason code.

Patterns match whole words. The *request* filters look at the user's query (and at the response where it gives the same
thing away); `first_reason` returns the first filter that applies, in the order of `FILTERS`.
"""

import re
from dataclasses import dataclass

from wildreward.dataset_builder.records import Turn
from wildreward.dataset_builder.words import count_words

MAX_HISTORY = 20
MIN_RESPONSE_WORDS = 10
MIN_QUERY_WORDS = 5

IMAGE_GENERATION = "image_generation"
BROWSING = "browsing"
IDENTITY = "assistant_identity"
FILES_AND_MEDIA = "files_and_media"
LONG_HISTORY = "long_history"
SHORT_RESPONSE = "short_response"
SHORT_QUERY = "short_query"

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
class Limits:
    """Lengths that a turn must keep: messages of history, words of response and query (Chinese: characters)."""

    max_history: int = MAX_HISTORY
    min_response_words: int = MIN_RESPONSE_WORDS
    min_query_words: int = MIN_QUERY_WORDS


def asks_for_image(turn: Turn) -> bool:
    return bool(_IMAGE.search(turn.query))


def needs_browsing(turn: Turn) -> bool:
    return bool(_BROWSING.search(turn.query))


def asks_about_assistant(turn: Turn) -> bool:
    return bool(_IDENTITY.search(turn.query))


def refers_to_files(turn: Turn) -> bool:
    return bool(_FILES.search(turn.query))


FILTERS = (
    (IMAGE_GENERATION, asks_for_image),
    (BROWSING, needs_browsing),
    (IDENTITY, asks_about_assistant),
    (FILES_AND_MEDIA, refers_to_files),
)


def first_reason(turn: Turn, limits: Limits) -> str | None:
    """Why the turn is left out, or None. Cheap checks come first."""
    if len(turn.history) > limits.max_history:
        return LONG_HISTORY
    if count_words(turn.query) < limits.min_query_words:
        return SHORT_QUERY
    if count_words(turn.response) < limits.min_response_words:
        return SHORT_RESPONSE
    for reason, applies in FILTERS:
        if applies(turn):
            return reason
    return None
