"""The API's documentation: the OpenAPI document, and one self-contained page rendered from it; no script, no request elsewhere."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from litestar.openapi.plugins import JsonRenderPlugin, OpenAPIRenderPlugin

from services.gateway.front.document import truthful
from services.gateway.wire.problems import AnyRequest

Json = Mapping[str, Any]
STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:0 auto;max-width:62rem;padding:1rem;color:#1b1f24;background:#fff}
code,pre{font:13px/1.45 ui-monospace,monospace}pre{background:#f4f6f8;padding:.6rem;overflow:auto;border-radius:6px}
details{border:1px solid #d5dbe1;border-radius:6px;margin:.4rem 0;padding:.4rem .7rem}summary{cursor:pointer}
.m{display:inline-block;min-width:4rem;font-weight:700;text-transform:uppercase;font-size:12px}
table{border-collapse:collapse}td,th{text-align:left;padding:.15rem .8rem .15rem 0;vertical-align:top}
@media(prefers-color-scheme:dark){body{background:#14181d;color:#dde3ea}pre{background:#1e242b}details{border-color:#333c46}a{color:#7ab7ff}}
"""


class OfflinePage(OpenAPIRenderPlugin):
    """Serves the page at /schema."""

    def __init__(self) -> None:
        super().__init__(path="/", favicon="", style="")

    def render(self, request: AnyRequest, openapi_schema: dict[str, Any]) -> bytes:
        return page(truthful(openapi_schema)).encode()


class Document(JsonRenderPlugin):
    """Serves the document at /schema/openapi.json."""

    def render(self, request: AnyRequest, openapi_schema: dict[str, Any]) -> bytes:
        return self.render_json(request, truthful(openapi_schema))


def page(document: Json) -> str:
    """The whole page for an OpenAPI 3.1 document."""
    info = document["info"]
    return "".join(
        (
            "<!doctype html><html lang='en'><head><meta charset='utf-8'>",
            "<meta name='viewport' content='width=device-width,initial-scale=1'>",
            f"<title>{_text(info['title'])}</title><style>{STYLE}</style></head><body>",
            f"<h1>{_text(info['title'])} <small>{_text(info['version'])}</small></h1>",
            f"<p>{_text(info.get('description', ''))}</p><p><a href='/schema/openapi.json'>openapi.json</a></p>",
            *_operations(document),
            "<h2>Shapes</h2>",
            *_shapes(document),
            "</body></html>",
        )
    )


def _operations(document: Json) -> Iterator[str]:
    for path, item in sorted(document.get("paths", {}).items()):
        for method, operation in item.items():
            yield f"<details><summary><span class='m'>{_text(method)}</span><code>{_text(path)}</code> "
            yield f"{_text(operation.get('summary', ''))}</summary><p>{_text(operation.get('description', ''))}</p>"
            if parameters := operation.get("parameters"):
                rows = "".join(
                    f"<tr><td><code>{_text(p['name'])}</code></td><td>{_text(p['in'])}</td><td>{_text(p.get('description', ''))}</td></tr>"
                    for p in parameters
                )
                yield f"<table><tr><th>parameter</th><th>in</th><th></th></tr>{rows}</table>"
            for media, content in operation.get("requestBody", {}).get("content", {}).items():
                yield f"<h4>request {_text(media)}</h4>{_pre(content.get('schema', {}))}"
            for status, answer in sorted(operation.get("responses", {}).items()):
                answer = _resolved(document, answer)
                yield f"<h4>{_text(status)} {_text(answer.get('description', ''))}</h4>"
                for content in answer.get("content", {}).values():
                    yield _pre(content.get("schema", {}))
            yield "</details>"


def _resolved(document: Json, answer: Json) -> Json:
    name = answer.get("$ref", "").removeprefix("#/components/responses/")
    return document["components"]["responses"][name] if name else answer


def _shapes(document: Json) -> Iterator[str]:
    for name, schema in sorted(document.get("components", {}).get("schemas", {}).items()):
        yield f"<details id='{_text(name)}'><summary><code>{_text(name)}</code></summary>{_pre(schema)}</details>"


def _pre(schema: Json) -> str:
    return f"<pre>{_text(msgspec.json.format(msgspec.json.encode(schema), indent=1).decode())}</pre>"


def _text(value: object) -> str:
    return html.escape(str(value), quote=True)
