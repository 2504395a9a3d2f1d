"""A labeler behind a server, which pulls requests as it has room for them."""

from collections.abc import Generator, Iterable

from wildreward.common.llm.answers import Answer
from wildreward.common.llm.client import EndpointAsker
from wildreward.dataset_builder.labelers.base import Labeler, Request


class EndpointLabeler(EndpointAsker, Labeler):
    """What labelers that ask a server have in common; subclasses say how a question is put and a reply is read."""

    paid = True
    judges_refusals = True

    def label(self, request: Request) -> Answer:
        return next(self.ask_many([request]))

    def label_many(self, requests: Iterable[Request]) -> Generator[Answer, None, None]:
        return self.ask_many(requests)
