"""Chat templates that come with a model are programs of whoever made it: rendered in bounded time and memory.

jinja's sandbox keeps a template from reading files, not from running on: loops nest, and `10 ** 10 ** 10` or
`"a" * 10 ** 10` is computed as soon as a template is compiled. Only the kernel stops that, so such a template is rendered in
a process of its own ([`wildreward.scoring.template_child`]). The template of this package is known and needs none.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from typing import Any

from jinja2 import TemplateError
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from wildreward.common.errors import UserError, described
from wildreward.modeling_wildreward.template import is_reward_template
from wildreward.scoring import template_child

CPU_SECONDS = 5  # for one chat; megabytes of text take a fraction of one
MEMORY_BYTES = 1 << 30
TOKENIZING = ("tokenize", "padding", "truncation", "max_length", "return_tensors", "return_dict", "tokenizer_kwargs")
VERBATIM = "{{ messages[0].content }}"


class CannotRender(TemplateError, ValueError):
    """A chat template makes no text of a chat: it refuses it, fails, or goes beyond the limits."""


def load_tokenizer(name: str, trust_remote_code: bool = False, **options: Any) -> PreTrainedTokenizerBase:
    """The tokenizer of a model that somebody else may have made, with its chat template checked and kept within limits.

    Args:
        name: folder or Hub id.
        trust_remote_code: allow code from there.
        **options: passed to `AutoTokenizer.from_pretrained`.

    Raises:
        UserError: its chat template is missing, is no text, or cannot render a message of the user and an answer.
        OSError, ValueError: what transformers raises where there is no tokenizer.
    """
    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=trust_remote_code, **options)
    return limit_template(tokenizer, name)  # pyrefly: ignore[bad-argument-type]


def limit_template(tokenizer: PreTrainedTokenizerBase, name: str) -> PreTrainedTokenizerBase:
    """Have `apply_chat_template` of a tokenizer (in place) render in bounded time and memory; returns it.

    Raises:
        UserError: the chat template is missing, is no text, or cannot render a message of the user and an answer.
    """
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = template.get("default")
    if not template:
        raise UserError(f"the tokenizer of {name} has no chat template; the model's input text cannot be made")
    if not isinstance(template, str):
        raise UserError(f"the chat template of {name} is {described(template)}; expected a text in Jinja")
    if is_reward_template(tokenizer):
        return tokenizer
    tokenizer.apply_chat_template = LimitedTemplate(tokenizer)  # pyrefly: ignore[bad-assignment]
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    try:
        tokenizer.apply_chat_template(chat, tokenize=False)
    except CannotRender as error:
        raise UserError(
            f"the chat template of {name} cannot render a message of the user and an answer: {error}"
        ) from error
    return tokenizer


class LimitedTemplate:
    """`apply_chat_template` of a tokenizer, with the rendering done in a process of its own, which starts when needed.

    Raises:
        CannotRender: on a call, when the template refuses the chat, fails or goes beyond the limits.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = tokenizer
        self._child: subprocess.Popen | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:  # a copy has a process of its own
        return {"tokenizer": self.tokenizer}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["tokenizer"])

    def __call__(
        self, conversation: list, tools: list | None = None, chat_template: str | None = None, **options: Any
    ) -> Any:
        plain = type(self.tokenizer).apply_chat_template
        tokenizing = {name: options.pop(name) for name in TOKENIZING if name in options}
        options = {**self.tokenizer.special_tokens_map, "tools": tools, **options}
        template = self.tokenizer.get_chat_template(chat_template, tools)
        batched = isinstance(conversation[0], list | tuple)
        texts = [self._render(template, chat, options) for chat in (conversation if batched else [conversation])]
        chats = [[{"role": "user", "content": text}] for text in texts]
        return plain(self.tokenizer, chats if batched else chats[0], chat_template=VERBATIM, **tokenizing)

    def _render(self, template: str, chat: list[dict[str, Any]], options: dict[str, Any]) -> str:
        chat = [{key: value for key, value in message.items() if value is not None} for message in chat]
        request = json.dumps({"template": template, "chat": chat, "options": options})
        with self._lock:
            answer = self._ask(request)
        if "error" in answer:
            raise CannotRender(answer["error"])
        return answer["text"]

    def _ask(self, request: str) -> dict[str, str]:
        child, self._child = self._child or _start(), None  # not kept where an interrupt leaves its answer unread
        try:
            print(request, file=child.stdin, flush=True)
            line = child.stdout.readline() if child.stdout else ""
        except BrokenPipeError:
            line = ""
        if line:
            self._child = child
            return json.loads(line)
        with child:  # closes the pipes and waits
            pass
        if child.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
            return {"error": f"it takes more than {CPU_SECONDS} s of processor time"}
        return {"error": f"the process that renders it ended with status {child.returncode}"}


def _start() -> subprocess.Popen:
    command = [sys.executable, "-P", template_child.__file__, str(CPU_SECONDS), str(MEMORY_BYTES)]
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},  # threads take address space
    )
