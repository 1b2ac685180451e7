"""The pages an answer cites, as a numbered list below it. Titles and addresses are anybody's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from o3magic.citations import Citation
from o3magic.render.markdown.escape import entities, shorten
from o3magic.render.markdown.inline import safe_address

MOST_SHOWN = 50
TITLE_CHARS = 120
WEB = ("http://", "https://")


def markdown(citations: Iterable[Citation]) -> str:
    """A list of links; what leads to no page of the web is words."""
    pages = pages_of(citations)
    if not pages:
        return ""
    rows = [f"{number}. {link(page)}" for number, page in enumerate(pages[:MOST_SHOWN], 1)]
    more = [f"\n{left_out(pages)}"] if len(pages) > MOST_SHOWN else []
    return "\n".join(["Sources:\n", *rows, *more])


def plain(citations: Iterable[Citation]) -> str:
    """The same as lines of text, each with its address."""
    pages = pages_of(citations)
    rows = []
    for number, page in enumerate(pages[:MOST_SHOWN], 1):
        url = web_address(page.url).replace("&amp;", "&")
        rows.append(f"{number}. " + " — ".join(filter(None, [title(page), url])))
    more = [left_out(pages)] if len(pages) > MOST_SHOWN else []
    return "\n".join(["Sources:", *rows, *more]) if pages else ""


def pages_of(citations: Iterable[Citation]) -> Sequence[Citation]:
    """Each page once, in the order in which they are cited first."""
    pages: dict[str, Citation] = {}
    for each in citations:
        pages.setdefault(each.url, each)
    return [*pages.values()]


def link(page: Citation) -> str:
    """A page as a link, or as words."""
    url = web_address(page.url)
    words = entities(
        title(page) or shorten(url.replace("&amp;", "&"), TITLE_CHARS) or "(no address)"
    )
    # In an element, for a dash at the beginning of a line is a list.
    return f"[{words}]({url})" if url else f"<span>{words}</span>"


def title(page: Citation) -> str:
    """What a page is called, on one line; "" where it has no name."""
    return shorten(page.title, TITLE_CHARS)


def web_address(url: str) -> str:
    """An address as a link's destination in Markdown, "" unless it is one of the web."""
    found = safe_address(url.strip())
    return found if found.startswith(WEB) else ""


def left_out(pages: Sequence[Citation]) -> str:
    """What is said of those that are not shown."""
    return f"and {len(pages) - MOST_SHOWN:,} more, in answer.citations"
