"""Values made from the published schemas."""

import json

import jsonschema
import pytest

DEEPEST = 6


class Maker:
    """Makes values of one schema: the least that is valid, or with everything that may be there."""

    def __init__(self, schema):
        self._schema = schema

    def make(self, part, *, full=False, depth=0):
        """A value of a part of the schema."""
        while "$ref" in part:
            part = self._schema["$defs"][part["$ref"].rsplit("/", 1)[1]] | {
                key: value for key, value in part.items() if key != "$ref"
            }
        if "const" in part:
            return part["const"]
        if "enum" in part:
            return part["enum"][0]
        for choice in ("anyOf", "oneOf"):
            if choice in part:
                return self.make(part[choice][0], full=full, depth=depth)
        if "allOf" in part:
            made = [self.make(each, full=full, depth=depth) for each in part["allOf"]]
            own = self._object(part, full=full, depth=depth)
            return {key: value for each in [*made, own] for key, value in each.items()}
        kind = part.get("type", "object" if "properties" in part else "string")
        kind = kind[0] if isinstance(kind, list) else kind
        if kind == "object":
            return self._object(part, full=full, depth=depth)
        if kind == "array":
            least = part.get("minItems", 0)
            wanted = least or int(full and depth < DEEPEST and "items" in part)
            return [self.make(part["items"], full=full, depth=depth + 1) for _ in range(wanted)]
        smallest = part.get("minimum", 1)
        return {"string": "x", "integer": smallest, "number": smallest, "boolean": True}.get(kind)

    def _object(self, part, *, full, depth):
        known, required = part.get("properties", {}), part.get("required", [])
        names = [name for name in known if name in required or (full and depth < DEEPEST)]
        made = {name: self.make(known[name], full=full, depth=depth + 1) for name in names}
        return dict.fromkeys(required, "x") | made


@pytest.fixture
def read_into():
    """Reads a stream into a draft, which keeps what came before an error."""

    def read(draft, reader, *frames):
        for frame in frames:
            data = frame if isinstance(frame, str) else json.dumps(frame)
            for event in reader.read(data.encode()):
                draft.add(event)
            if reader.done:
                break
        reader.close()

    return read


@pytest.fixture
def schema(shared_api):
    """Reads one of the published schemas."""
    return lambda name: json.loads((shared_api / "schemas" / f"{name}.json").read_text("utf-8"))


@pytest.fixture
def faults(schema):
    """What is wrong with a value, by one of the published schemas."""
    validators = {}

    def read(name, value):
        if name not in validators:
            validators[name] = jsonschema.Draft202012Validator(schema(name))
        return [f"{list(e.path)}: {e.message[:200]}" for e in validators[name].iter_errors(value)]

    return read


@pytest.fixture
def maker(schema):
    """Makes values of one of the published schemas."""
    return lambda name: Maker(schema(name))
