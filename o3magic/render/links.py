"""Where a link may lead: the web and mail, by an address that no reader can take for more."""

import re
from typing import NamedTuple
from urllib.parse import quote

from o3magic.render.literal import unescaped

LIMIT = 2000  # characters of an address

_DESTINATION = re.compile(
    r"""\([ \t]*\n?[ \t]*
    (?:<(?P<angled>[^<>\n]{0,2000})>
      |(?P<bare>(?:[^\s()\\<>]++|\\.|\((?:[^\s()\\<>]++|\\.)*+\))*+))
    (?:\s{1,9}(?:"[^"]{0,500}"|'[^']{0,500}'|\([^()]{0,500}\)))?
    \s{0,9}\)""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\([!-/:-@\[-`{-~])")
# JupyterLab takes `http://@/lab` and `http://:/lab` for addresses of its own server.
_ALLOWED = re.compile(
    r"https?://[\w-]+(?:\.[\w-]+)*\.?(?::\d{1,5})?(?=[/?#]|$)|mailto:[^@]+@[^@]+$", re.IGNORECASE
)
_FORBIDDEN = re.compile(r"[\s\x00-\x20\x7f-\x9f]")
_MAIL = re.compile(r"[A-Za-z0-9._+-]{1,64}@[A-Za-z0-9.-]{1,200}\.[A-Za-z]{2,20}")
_TRAILING = ".,;:!?_~&"


class Target(NamedTuple):
    """What a link leads to: the address as Markdown (empty: nowhere), and as it was written."""

    url: str
    written: str
    end: int


def target_at(text: str, start: int) -> Target | None:
    """The `(..)` behind a link's text which begins at `start`, if there is one."""
    match = _DESTINATION.match(text, start)
    if match is None:
        return None
    written = match["angled"] if match["angled"] is not None else match["bare"]
    written = unescaped(_ESCAPE.sub(r"\1", written)).strip()
    return Target(address(written), written, match.end())


def address(written: str) -> str:
    """`written` as a link's destination in Markdown, empty unless it is http, https or mail.

    Percent signs stand for all that could end an attribute or begin mathematics there.
    """
    if len(written) > LIMIT or _FORBIDDEN.search(written) or not _ALLOWED.match(written):
        return ""
    scheme, colon, rest = written.partition(":")
    safe = scheme.lower() + colon + quote(rest, safe="/:?#@!&+,;=%-._~", errors="replace")
    return safe.replace("@@", "%40%40").replace("~~", "%7E%7E").replace("&", "&amp;")


def mail(written: str) -> str:
    """The address of `<someone@example.org>`, if it is one."""
    return address(f"mailto:{written}") if _MAIL.fullmatch(written) else ""


def bare(written: str) -> str:
    """As much of `written` as belongs to an address in running text."""
    written = re.split("&(?:lt|gt|quot);", written, maxsplit=1)[0]
    end, unmatched = len(written), written.count(")") - written.count("(")
    while end and (written[end - 1] in _TRAILING or (written[end - 1] == ")" and unmatched > 0)):
        end -= 1
        unmatched -= written[end] == ")"
    return written[:end]
