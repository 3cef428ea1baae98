"""A Qdrant server as far as one can be had without its binary: every request is held to the server's OpenAPI document, done by
qdrant-client's own engine, and answered in the document's shapes. What the server does beyond its document is not shown.

`qdrant-1.19.json` is that document (Apache-2.0), cut down to what is asked, without its descriptions.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import jsonschema
from qdrant_client import AsyncQdrantClient
from qdrant_client import models as m

DOCUMENT = json.loads(Path(__file__).with_name("qdrant-1.19.json").read_text())
BASE = "https://qdrant.test"
COLLECTION = "/collections/{collection_name}"


def closed(node: Any) -> Any:
    """The document as JSON Schema: OpenAPI 3.0's `nullable` said otherwise, and no property that is not in it."""
    if isinstance(node, list):
        return [closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    new = {key: closed(value) for key, value in node.items() if key != "nullable"}
    if isinstance(node.get("properties"), dict) and "additionalProperties" not in node and node.get("type") == "object":
        new["additionalProperties"] = False
    return {"anyOf": [new, {"type": "null"}]} if node.get("nullable") is True else new


_SCHEMAS = closed(DOCUMENT["components"])


def check(schema: Any, value: Any) -> None:
    """Raises `jsonschema.ValidationError`."""
    jsonschema.Draft202012Validator({**closed(schema), "components": _SCHEMAS}).validate(value)


class QdrantApi(httpx.AsyncBaseTransport):
    """What a client is given in place of the network; `asked` are the operations that were asked."""

    def __init__(self) -> None:
        self._engine = AsyncQdrantClient(":memory:")
        self.asked: set[tuple[str, str]] = set()
        self.key = ""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.key = request.headers.get("api-key", "")
        _, _, collection, *rest = request.url.path.split("/")
        path = "/".join([COLLECTION, *rest])
        method = request.method.lower()
        operation = DOCUMENT["paths"][path][method]
        self.asked.add((method, path))
        known = {p["name"]: p["schema"] for p in operation.get("parameters", ()) if p["in"] == "query"}
        for name, value in request.url.params.items():
            check(known[name], json.loads(value))
        body = json.loads(await request.aread() or b"null")
        if "requestBody" in operation:
            check(operation["requestBody"]["content"]["application/json"]["schema"], body)
        else:
            assert body is None, f"{method} {path} has no body"
        result = await self._do(method, "/".join(rest), collection, body)
        answer = {"result": result, "status": "ok", "time": 0.0}
        check(operation["responses"]["200"]["content"]["application/json"]["schema"], answer)
        return httpx.Response(200, json=answer, request=request)

    async def _do(self, method: str, what: str, name: str, body: Any) -> Any:
        engine = self._engine
        match method, what:
            case "get", "exists":
                return {"exists": await engine.collection_exists(name)}
            case "put", "":
                vectors = m.VectorParams.model_validate(body["vectors"])
                return await engine.create_collection(name, vectors_config=vectors, shard_number=body["shard_number"])
            case "delete", "":
                return await engine.delete_collection(name)
            case "put", "index":
                field = m.PayloadSchemaType(body["field_schema"])
                return plain(await engine.create_payload_index(name, body["field_name"], field))
            case "put", "points":
                points = [m.PointStruct.model_validate(point) for point in body["points"]]
                return plain(await engine.upsert(name, points))
            case "post", "points/delete":
                kind = m.FilterSelector if "filter" in body else m.PointIdsList
                return plain(await engine.delete(name, kind.model_validate(body)))
            case "post", "points":
                wanted = {"with_payload": body["with_payload"], "with_vectors": body["with_vector"]}
                return [plain(record) for record in await engine.retrieve(name, body["ids"], **wanted)]
            case "post", "points/scroll":
                asked = m.ScrollRequest.model_validate(body)
                records, offset = await engine.scroll(
                    name, scroll_filter=asked.filter, limit=asked.limit or 10, offset=asked.offset, with_payload=True
                )
                return {"points": [plain(record) for record in records], "next_page_offset": offset}
            case "post", "points/count":
                counted = m.CountRequest.model_validate(body)
                return plain(await engine.count(name, count_filter=counted.filter, exact=counted.exact or False))
            case "post", "points/query/batch":
                requests = [m.QueryRequest.model_validate(each) for each in body["searches"]]
                return [plain(answer) for answer in await engine.query_batch_points(name, requests)]
        raise AssertionError(f"{method} {what} is not asked by the index")


def plain(value: Any) -> Any:
    return json.loads(value.model_dump_json(exclude_none=True))
