"""A value that is valid against a JSON Schema: always the same one for the same seed."""

import hashlib
import math
from collections.abc import Iterator
from typing import Any

from o3magic.simulator import leaves

Json = dict[str, Any]
MAX_LEVELS = 40
MOST_ITEMS = 1000  # even if the schema asks for more
KINDS = ("object", "array", "string", "integer", "number", "boolean", "null")


def of_schema(schema: Json, seed: str) -> Any:
    """A value for `schema`; it differs from place to place, so that a table looks alive."""
    return _Sampler(schema, seed).value(schema, "", ())


class _Sampler:
    """Walks a schema; `refs` are the definitions it stands in."""

    def __init__(self, root: Json, seed: str) -> None:
        self._root = root
        self._seed = seed

    def value(self, node: Any, path: str, refs: tuple[str, ...]) -> Any:
        """A value for the part of the schema that is reached by `path`."""
        if not isinstance(node, dict) or len(refs) > MAX_LEVELS:
            return {}  # no finite value exists, or anything will do
        node, refs = self._resolved(node, refs)
        if "const" in node:
            return node["const"]
        if node.get("enum"):
            return node["enum"][self._pick(path) % len(node["enum"])]
        for union in ("anyOf", "oneOf"):
            if node.get(union):
                return self.value(self._option(node[union], refs), path, refs)
        match _kind(node):
            case "object":
                return self._object(node, path, refs)
            case "array":
                return self._array(node, path, refs)
            case "string":
                return leaves.string(node, path, self._pick(path))
            case "integer" | "number" as kind:
                return leaves.number(node, self._pick(path), whole=kind == "integer")
            case "boolean":
                return self._pick(path) % 2 == 0
        return None

    def _resolved(self, node: Json, refs: tuple[str, ...]) -> tuple[Json, tuple[str, ...]]:
        """The node with what it points at and what it must fulfil besides."""
        while "$ref" in node and len(refs) <= MAX_LEVELS:
            ref = str(node["$ref"])
            rest = {key: value for key, value in node.items() if key != "$ref"}
            node, refs = {**self._target(ref), **rest}, (*refs, ref)
        for part in node.get("allOf", []):
            more, refs = self._resolved(part, refs)
            both = {**node.get("properties", {}), **more.get("properties", {})}
            node = {**node, **more, **({"properties": both} if both else {})}
        return node, refs

    def _target(self, ref: str) -> Json:
        found: Any = self._root
        for step in ref.removeprefix("#").split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            found = found.get(step, {}) if isinstance(found, dict) else {}
        return found if isinstance(found, dict) else {}

    def _object(self, node: Json, path: str, refs: tuple[str, ...]) -> Json:
        properties, required = node.get("properties", {}), node.get("required", [])
        made = {
            name: self.value(child, f"{path}/{name}", refs)
            for name, child in properties.items()
            if name in required or self._height(child, refs) < math.inf
        }
        extra = node.get("additionalProperties")
        if isinstance(extra, dict) and not properties:
            keys = ("simulated_a", "simulated_b")
            made |= {key: self.value(extra, f"{path}/{key}", refs) for key in keys}
        return made

    def _array(self, node: Json, path: str, refs: tuple[str, ...]) -> list[Any]:
        first = [
            self.value(child, f"{path}/{i}", refs)
            for i, child in enumerate(node.get("prefixItems", []))
        ]
        items = node.get("items", {} if first else {"type": "string"})
        least, most = node.get("minItems", 0), node.get("maxItems", 10**6)
        usual = 2 + self._pick(path) % 2 if path.count("/") < 6 else 1
        if self._height(items, refs) == math.inf or items is False:
            usual = 0  # the way on leads back to where we are
        count = min(max(least, min(most, usual + len(first))), MOST_ITEMS)
        made = first + list(self._items(items, path, refs, count - len(first)))
        if not node.get("uniqueItems"):
            return made
        more = self._items(items, f"{path}/more", refs, 50)
        unique: list[Any] = []
        for item in [*made, *more]:
            if item not in unique and len(unique) < count:
                unique.append(item)
        return unique

    def _items(self, items: Any, path: str, refs: tuple[str, ...], count: int) -> Iterator[Any]:
        for index in range(count):
            yield self.value(items, f"{path}/{index}", refs)

    def _option(self, options: list[Any], refs: tuple[str, ...]) -> Any:
        """The first that is not null; where we have been before, the one that ends soonest."""
        reachable = [option for option in options if self._height(option, refs) < math.inf]
        heights = {id(option): self._height(option, refs) for option in options}
        real = [o for o in reachable if not (isinstance(o, dict) and _kind(o) == "null")]
        if refs and len(refs) > len(set(refs)):
            return min(options, key=lambda option: heights[id(option)])
        return (real or reachable or sorted(options, key=lambda o: _kind(o) != "null"))[0]

    def _height(self, node: Any, refs: tuple[str, ...], level: int = 0) -> float:
        """How many levels a smallest value has; infinite when it leads into a definition twice."""
        if not isinstance(node, dict) or "const" in node or "enum" in node:
            return 0
        if level > MAX_LEVELS:
            return math.inf
        if "$ref" in node:
            ref = str(node["$ref"])
            if refs.count(ref) > 1:
                return math.inf
            return 1 + self._height(self._target(ref), (*refs, ref), level + 1)
        for union in ("anyOf", "oneOf"):
            if node.get(union):
                return min(self._height(option, refs, level + 1) for option in node[union])
        if _kind(node) == "array":
            least = node.get("minItems", 0)
            return 1 + self._height(node.get("items"), refs, level + 1) if least else 0
        properties = node.get("properties", {})
        children = [properties[name] for name in node.get("required", []) if name in properties]
        return 1 + max((self._height(child, refs, level + 1) for child in children), default=0)

    def _pick(self, path: str) -> int:
        """A number for a place in the value."""
        digest = hashlib.sha256(f"{self._seed}{path}".encode("utf-8", "surrogatepass")).digest()
        return int.from_bytes(digest[:6], "big")


def _kind(node: Json) -> str:
    kind = node.get("type")
    if isinstance(kind, list):
        return next((str(name) for name in kind if name != "null"), "null")
    if kind in KINDS:
        return str(kind)
    if "properties" in node or "additionalProperties" in node:
        return "object"
    if "items" in node:
        return "array"
    return "number" if {"minimum", "maximum", "multipleOf"} & set(node) else "string"
