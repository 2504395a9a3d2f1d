"""Renders chats with a template from somebody else, in a process of its own that the kernel keeps within limits.

Started by [`wildreward.scoring.limited_template`] as `python -P template_child.py CPU_SECONDS MEMORY_BYTES`. A line of JSON in, a
line of JSON out: `{"template", "chat", "options"}` gives `{"text"}` or `{"error"}`. jinja and transformers
only, so that it starts quickly.
"""

import json
import math
import resource
import sys
import time
from pathlib import Path
from typing import Any

from jinja2 import TemplateError

ROOM, TIMES = 1_000_000, 16  # characters of a text: so many, and so many times the chat's


def main() -> None:
    """Answer until the input ends; beyond its limits the process is killed (time) or an error is its answer (memory)."""
    from transformers.utils.chat_template_utils import render_jinja_template

    seconds, memory = map(int, sys.argv[1:])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":  # elsewhere the address space cannot be limited
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        _limit(resource.RLIMIT_AS, taken + memory)
    for line in sys.stdin:
        _limit(resource.RLIMIT_CPU, math.ceil(time.process_time()) + seconds)
        print(json.dumps(_answer(render_jinja_template, json.loads(line), ROOM + TIMES * len(line))), flush=True)


def _answer(render: Any, request: dict[str, Any], longest: int) -> dict[str, str]:
    try:
        (text,), _ = render(conversations=[request["chat"]], chat_template=request["template"], **request["options"])
    except MemoryError:
        return {"error": "it takes too much memory"}
    except TemplateError as error:
        return {"error": str(error)[:300]}
    except Exception as error:  # whatever else a template can do wrong
        return {"error": f"{type(error).__name__}: {error}"[:300]}
    if len(text) > longest:
        return {"error": f"it makes a text of {len(text)} characters of a chat that is far shorter"}
    return {"text": text}


def _limit(kind: int, value: int) -> None:
    most = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (value if most == resource.RLIM_INFINITY else min(value, most), most))


if __name__ == "__main__":
    main()
