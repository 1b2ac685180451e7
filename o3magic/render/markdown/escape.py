"""Characters that stay characters: terminal codes out, and no character a markup.

Two readers have to be kept from finding markup: the Markdown parser, which gets entities, and
MathJax, which reads the finished page and so sees what the entities stood for.
"""

import html
import re
from html.entities import html5

LINE_CHARS = 80  # of a text that is shown on one line
JOINER = "\u2060"  # no width, no meaning: keeps two characters from being read as one delimiter

# Written for a dollar sign until the whole text is known; the input holds no control characters.
DOLLAR = "\x00"
MATH_DOLLAR = "\x01"

_TEXT = r"[^\x00-\x1f\x7f-\x9f]"
_SEQUENCE = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~]"  # CSI: colours, cursor
    rf"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f]){_TEXT}*+(?:\x07|\x1b\\|\x9c)"  # OSC, DCS
    r"|\x1b[ -/]*+[0-~]"
)
_NEWLINE = re.compile("\r\n?")
_BIDI = [*range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_CONTROLS = [code for code in [*range(0x20), *range(0x7F, 0xA0)] if chr(code) not in "\n\t"]
_DROPPED = dict.fromkeys([*_CONTROLS, *_BIDI])
_SURROGATE = re.compile("[\ud800-\udfff]")
# What a plain or a page's text has none of; most texts have none to begin with.
_ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_LINE_END = str.maketrans({"\u2028": "\n", "\u2029": "\n"})
_ONE_LINE = str.maketrans("\n\t", "  ")
# What MathJax would take for a delimiter, an environment or an escape after a backslash.
_TEX_AFTER_BACKSLASH = re.compile(r"[\\(\[$]|begin\{|ref\{|eqref\{")
_ENTITY = re.compile(r"&(?:#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6}|([A-Za-z][A-Za-z0-9]{1,31}));")
_PLAIN_PUNCTUATION = frozenset(" .,:;/()-–—·…?!")
_ADDRESS = re.compile(r"://|www\.", re.IGNORECASE)
_NAMED = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}


def plain_text(text: str) -> str:
    """`text` fit for a terminal: no escape sequences, no control or direction characters."""
    if not _ODD.search(text):
        return text
    text = _NEWLINE.sub("\n", _SEQUENCE.sub("", text))
    return _SURROGATE.sub("\ufffd", text.translate(_DROPPED))


def page_text(text: str) -> str:
    """`plain_text` whose only line end is a newline, in JavaScript's opinion too."""
    return plain_text(text).translate(_LINE_END) if _ODD.search(text) else text


def unescaped(text: str) -> str:
    """`text` with its entities as characters; an entity without a semicolon is none."""

    def char(match: re.Match[str]) -> str:
        name = match[1]
        return html5.get(f"{name};", match[0]) if name else html.unescape(match[0])

    return _ENTITY.sub(char, text) if "&" in text else text


def as_entity(char: str, following: str = "") -> str:
    """`char` as an entity; `following` is what comes after it."""
    if char == "$":
        return DOLLAR
    if char == "\\":
        return "&#92;" + (JOINER if _TEX_AFTER_BACKSLASH.match(following) else "")
    return _NAMED.get(char) or f"&#{ord(char)};"


_MARKUP = re.compile(r"\\\$|[\\`*_\[\]<>&|~$]|@(?=@)|:(?=//)|(?<=[wW]{3})\.")


def literal(text: str) -> str:
    """Markdown which shows the characters of `text` within a line."""

    def shown(match: re.Match[str]) -> str:
        return as_entity(match[0][-1], text[match.end() : match.end() + 6])

    text = page_text(text).translate(_ONE_LINE)
    return _MARKUP.sub(shown, text)


def character(text: str, following: str) -> str:
    """The decoded entity or escape `text`, as an entity again so that it stays no markup."""
    text = page_text(text).translate(_ONE_LINE)
    return as_entity(text, following) if len(text) == 1 and "!" <= text <= "~" else text


def with_dollars(text: str) -> str:
    """`text` with its dollar signs written out.

    MathJax reads the page, where `&#36;` is a dollar again: two of them would be mathematics.
    The backslash it knows as an escape; a single dollar does without.
    """
    lone = text.count(DOLLAR) == 1 and MATH_DOLLAR not in text
    return text.replace(DOLLAR, "&#36;" if lone else "&#92;&#36;").replace(MATH_DOLLAR, "$")


def entities(text: str) -> str:
    """Text that is nothing but text, in Markdown, HTML and TeX: all punctuation as entities.

    MathJax reads the finished page, where an entity is a dollar or a backslash again; in an element
    of its own it finds no partner.
    """
    written = "".join(c if c.isalnum() or c in _PLAIN_PUNCTUATION else entity(c) for c in text)
    # What looks like an address would be made a link.
    return _ADDRESS.sub(lambda match: match[0].replace(":", "&#58;").replace(".", "&#46;"), written)


def entity(char: str) -> str:
    """One character as an entity."""
    return f"<span>&#{ord(char)};</span>" if char in "$\\" else f"&#{ord(char)};"


def shorten(text: str, most_chars: int = LINE_CHARS) -> str:
    """The beginning of a text, on one line."""
    one = " ".join(plain_text(text[: 4 * most_chars]).split())
    return one if len(one) <= most_chars else f"{one[: most_chars - 1]}…"
