"""The pages an answer cites, as the Responses and the Chat API say them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Citation:
    """A page an answer cites. `start` and `end` are places in its whole text, or None.

    Address and title are the model's words: never trust them.
    """

    url: str
    title: str = ""
    start: int | None = None
    end: int | None = None


def cited_in(items: Iterable[Mapping[str, Any]]) -> Iterator[Citation]:
    """The citations in output items of Responses, at their places in the whole text."""
    before = 0
    for item in items:
        for part in objects(item, "content") if item.get("type") == "message" else ():
            if part.get("type") == "output_text":
                yield from (citation(each, before) for each in of_urls(part))
                text = part.get("text")
                before += len(text) if isinstance(text, str) else 0


def cited_by(message: Mapping[str, Any]) -> Iterator[Citation]:
    """The citations of a message or a delta of Chat."""
    for each in of_urls(message):
        nested = each.get("url_citation")
        yield citation(nested if isinstance(nested, Mapping) else each)


def of_urls(said: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """The annotations that cite a page."""
    return (each for each in objects(said, "annotations") if each.get("type") == "url_citation")


def citation(said: Mapping[str, Any], before: int = 0) -> Citation:
    """One citation, in a part of the text that is `before` characters into the whole."""
    url, title = (said.get(name) for name in ("url", "title"))
    places = (said.get(name) for name in ("start_index", "end_index"))
    start, end = (before + at if type(at) is int and at >= 0 else None for at in places)
    return Citation(
        url if isinstance(url, str) else "", title if isinstance(title, str) else "", start, end
    )


def objects(value: Mapping[str, Any], name: str) -> Iterator[Mapping[str, Any]]:
    """The objects of a list, or nothing."""
    found = value.get(name)
    if isinstance(found, list | tuple):
        yield from (each for each in found if isinstance(each, Mapping))
