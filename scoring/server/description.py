"""The description of the server: `openapi.yaml` as an object, and as a page that needs nothing from elsewhere."""

import json
from html import escape
from importlib import resources
from typing import Any

import yaml

HEAD = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
body {{font: 16px/1.5 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem}}
pre {{background: #f3f3f3; color: #111; padding: .6rem; overflow-x: auto}}
</style><h1>{title}</h1><p>{description}</p><p>For programs: <a href="openapi.json">openapi.json</a></p>
"""


def description() -> dict[str, Any]:
    """What the server answers, as OpenAPI 3.1."""
    text = resources.files(__package__).joinpath("openapi.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text)


def page(description: dict[str, Any]) -> str:
    """The same to be read, in HTML."""
    info, parts = description["info"], []
    for path, methods in description["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2><code>{method.upper()} {path}</code></h2><p>{escape(operation['summary'])}.")
            parts.append(f"{escape(operation.get('description', ''))}</p>")
            asked, answered = operation.get("requestBody", {}), operation["responses"]["200"]
            parts += [_example("Request", asked), _example(f"Answer: {answered['description']}", answered)]
    refused = description["components"]["responses"]["Refused"]
    parts += ["<h2>Errors</h2>", _example(refused["description"], refused)]
    return HEAD.format(**{key: escape(value) for key, value in info.items()}) + "\n".join(parts)


def _example(title: str, body: dict[str, Any]) -> str:
    example = body.get("content", {}).get("application/json", {}).get("example")
    if example is None:
        return ""
    return f"<p>{escape(title)}</p><pre>{escape(json.dumps(example, indent=1, ensure_ascii=False))}</pre>"
