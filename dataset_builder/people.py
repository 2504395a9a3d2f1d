"""Names of people, found by Presidio with a spaCy model (extra `names`): a model's guess, in the language of the model."""

import logging
from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING

from wildreward.common.credentials import Span
from wildreward.common.errors import UserError

if TYPE_CHECKING:
    from presidio_analyzer import AnalyzerEngine

_AT_ONCE, _OVERLAP = 50_000, 200  # characters: spaCy's memory grows with the text


def spans(plain: str, model: str) -> Iterator[Span]:
    """Names in a text, by a spaCy model."""
    found = set()
    for start in range(0, len(plain), _AT_ONCE - _OVERLAP):
        piece = plain[start : start + _AT_ONCE]
        for result in analyzer(model).analyze(piece, language=_language(model), entities=["PERSON"]):
            found.add(Span(start + result.start, start + result.end, "person"))
    yield from sorted(found)


@cache
def analyzer(model: str) -> "AnalyzerEngine":
    """Presidio with this model, loaded once in a process. Nothing is downloaded.

    Raises:
        UserError: Presidio or the model is not installed.
    """
    try:
        import spacy.util
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpEngineProvider
    except ImportError as error:
        raise UserError("--names-model needs Presidio; install it with: pip install 'wildreward[names]'") from error
    if not spacy.util.is_package(model):
        raise UserError(
            f"--names-model {model}: no such spaCy model here; install it with: python -m spacy download {model}"
        )
    logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)  # it tells of every language that it does not know
    models = [{"lang_code": _language(model), "model_name": model}]
    engine = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": models}).create_engine()
    return AnalyzerEngine(nlp_engine=engine, supported_languages=[_language(model)])


def _language(model: str) -> str:
    """`en` of `en_core_web_sm`."""
    return model.partition("_")[0]
