"""Requests for an app, made from its OpenAPI: for each operation what it asks for, too little, too much and the wrong things. What
`ci/docs-apps --ask` sends to uvicorn and to our server."""

import json
import urllib.parse
from collections.abc import Iterator
from typing import Any

from differential import request

#: By `format`, then by `type`. As path parameters, items of lists and fields of models.
SAMPLES: dict[str, Any] = {
    "uuid": "7f3f1e0a-0b0c-4d0e-8f00-000000000001",
    "date-time": "2026-01-02T03:04:05",
    "date": "2026-01-02",
    "time": "03:04:05",
    "duration": "PT1H",
    "email": "ann@example.com",
    "uri": "https://example.com/",
    "binary": "bytes",
    "integer": 3,
    "number": 1.5,
    "boolean": True,
    "string": "foo",
    "null": None,
}
DEPTH_MAX = 6
CREDENTIALS = ("Bearer johndoe", "Basic c3RhbmxleWpvYnNvbjpzd29yZGZpc2g=")
BOUNDARY = "boundary-of-the-test"


def requests_of(schema: dict[str, Any]) -> list[bytes]:
    """All of an OpenAPI document, in its order, the same for the same document."""
    made = []
    for path, operations in schema.get("paths", {}).items():
        for method, operation in operations.items():
            made += _Operation(schema, path, method.upper(), operation).requests()
    return made


class _Operation:
    def __init__(self, schema: dict[str, Any], path: str, method: str, operation: dict[str, Any]) -> None:
        self._schema, self._path, self._method = schema, path, method
        # But for a Host, of which each request has one, and there may be no second.
        self._parameters = [parameter for parameter in operation.get("parameters", []) if parameter["name"].lower() != "host"]
        content = operation.get("requestBody", {}).get("content", {})
        self._media_type, self._body = next(((kind, entry.get("schema", {})) for kind, entry in content.items()), ("", {}))

    def requests(self) -> Iterator[bytes]:
        good = {index: self._sample(parameter.get("schema", {})) for index, parameter in enumerate(self._parameters)}
        needed = {index: value for index, value in good.items() if self._parameters[index].get("required")}
        body = self._sample(self._body) if self._media_type else None
        yield self._request(needed, body)
        yield self._request(good, body)
        for credentials in CREDENTIALS:
            yield self._request(needed, body, credentials)
        yield self._request({index: value for index, value in needed.items() if self._parameters[index]["in"] == "path"}, None)
        yield self._request(dict.fromkeys(good, "wrong é&="), {"wrong": [1]})
        yield self._request({index: [value, "other"] for index, value in good.items()}, [])
        if self._media_type:
            yield self._request(needed, "", raw=b'{"a": ')
            yield self._request(needed, "", raw=b"", media_type="text/plain")

    def _request(
        self, values: dict[int, Any], body: Any, credentials: str = "", raw: bytes | None = None, media_type: str | None = None
    ) -> bytes:
        path, query, headers = self._path, [], [("Authorization", credentials)] if credentials else []
        for index, value in values.items():
            parameter = self._parameters[index]
            name, texts = parameter["name"], [_text(item) for item in (value if isinstance(value, list) else [value])]
            if parameter["in"] == "path":
                path = path.replace(f"{{{name}}}", urllib.parse.quote(texts[0], safe=""))
            elif parameter["in"] == "query":
                query += [(name, text) for text in texts]
            else:
                field = name if parameter["in"] == "header" else "Cookie"
                headers += [(field, urllib.parse.quote(text) if field == name else f"{name}={urllib.parse.quote(text)}") for text in texts]
        target = path.replace("{", "%7B").replace("}", "%7D") + ("?" + urllib.parse.urlencode(query) if query else "")
        if body is None:
            return request(self._method, target, *headers)
        kind, octets = _encoded(self._media_type or "application/json", body)
        return request(self._method, target, ("Content-Type", media_type or kind), *headers, body=octets if raw is None else raw)

    def _sample(self, schema: dict[str, Any], depth: int = 0) -> Any:
        while "$ref" in schema:
            found: Any = self._schema
            for part in schema["$ref"].removeprefix("#/").split("/"):
                found = found[part.replace("~1", "/")]
            schema = found
        if depth > DEPTH_MAX:
            return None
        for key in ("const", "default"):
            if schema.get(key) is not None:
                return schema[key]
        for key in ("examples", "enum"):
            if isinstance(schema.get(key), list) and schema[key]:
                return schema[key][0]
        if "pattern" in schema:
            return schema["pattern"].strip("^$")
        for key in ("anyOf", "oneOf", "allOf"):
            if schema.get(key):
                return self._sample(schema[key][0], depth + 1)
        kind = schema.get("type", "object")
        if kind == "array":
            item = self._sample(schema.get("items", {}), depth + 1)
            return [item] if "prefixItems" not in schema else [self._sample(each, depth + 1) for each in schema["prefixItems"]]
        if kind == "object":
            return {name: self._sample(field, depth + 1) for name, field in schema.get("properties", {}).items()}
        return SAMPLES.get(schema.get("format", ""), SAMPLES.get(kind, "foo"))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _encoded(media_type: str, body: Any) -> tuple[str, bytes]:
    """Its Content-Type, and the body."""
    fields = list(body.items()) if isinstance(body, dict) else []
    pairs = [(name, _text(item)) for name, value in fields for item in (value if isinstance(value, list) else [value])]
    if media_type == "application/x-www-form-urlencoded":
        return media_type, urllib.parse.urlencode(pairs).encode()
    if media_type == "multipart/form-data":
        parts = [
            f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.txt"\r\n'
            f"Content-Type: text/plain\r\n\r\n{text}\r\n"
            for name, text in pairs
        ]
        return f"{media_type}; boundary={BOUNDARY}", "".join([*parts, f"--{BOUNDARY}--\r\n"]).encode()
    return media_type, json.dumps(body).encode()
