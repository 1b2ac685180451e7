"""Hostile documents, written from a seed: Markdown of all kinds, nested, full of traps, broken.

Every trap that springs calls `pwn` of the top window, or asks http://evil.test.
"""

import json
import random
from pathlib import Path

PWN = "top.pwn()"
EVIL = "http://evil.test"
KNOWN = json.loads((Path(__file__).parents[1] / "data/hostile_markdown.json").read_text("utf-8"))
KNOWN = [text.replace("alert(1)", PWN) for text in KNOWN.values()]

TARGETS = [
    *(f"javascript:{PWN}", f"JaVaScRiPt:{PWN}", f"java\tscript:{PWN}", f"&#106;avascript:{PWN}"),
    *(f"javascript&colon;{PWN}", f"\x01javascript:{PWN}", f"<javascript:{PWN}>"),
    *("data:text/html,<script>top.pwn()</script>", "vbscript:x", "file:///etc/passwd"),
    *("//evil.test/x", "/lab/api", "blob:x", "attachment:x.png", "command:x", "#top", "?x", "./x"),
    *(f"{EVIL}/x", f'{EVIL}/"onmouseover={PWN}', f"{EVIL}/$x$", "mailto:a@evil.test", f"{EVIL}/("),
    *('http://x$" onmouseover="top.pwn()$', "https://[x]/", "http://a@b:c/", "ftp://evil.test"),
]
TAGS = [
    *(f"<script>{PWN}</script>", f"<img src=x onerror={PWN}>", f"<img src={EVIL}/i.png>"),
    *(f"<svg onload={PWN}>", f"<svg><script>{PWN}</script></svg>", f"<svg><use href={EVIL}/u#x>"),
    *(f"<iframe srcdoc='<script>{PWN}</script>'></iframe>", f"<iframe src=javascript:{PWN}>"),
    *(f"<details open ontoggle={PWN}>", f"<video src={EVIL}/v onerror={PWN}>", "<input autofocus>"),
    *(
        f"<object data={EVIL}/o>",
        f"<embed src={EVIL}/e>",
        f"<form action={EVIL}><button>x</button>",
    ),
    *(f"<style>*{{background:url({EVIL}/s)}}</style>", f"<link rel=stylesheet href={EVIL}/l>"),
    *(f"<meta http-equiv=refresh content='0;url={EVIL}'>", f"<base href={EVIL}/>", "<plaintext>"),
    *("<button data-commandlinker-command='terminal:create-new'>x</button>", "<div id=main>"),
    *(f"<p style='background:url({EVIL}/p)'>", f"<a href=javascript:{PWN}>x</a>", "<b", "</div>"),
    *("<!--", "-->", "<![CDATA[", "]]>", "<?php", "<!DOCTYPE x>", "<title>", "<textarea>", "<xmp>"),
    *(f"<input onfocus={PWN} autofocus>", f"<body onload={PWN}>", f"<marquee onstart={PWN}>"),
    *("<template>", "<select>", "<noscript>", f"<table background={EVIL}/t>", "<math><mtext>"),
    *("<x/", "<details>", "<small>", "<br>", "<small><img src=x ", "onerror=top.pwn()>"),
]
TEX = [
    *("x^2", "\\frac{1}{2}", f"\\href{{javascript:{PWN}}}{{x}}", f"\\url{{javascript:{PWN}}}"),
    *("\\unicode{x22}", "\\class{jp-x}{y}", "\\cssId{main}{y}", "\\style{color:red}{y}"),
    *(
        "\\def\\x{\\href}\\x",
        "\\let\\y\\href",
        "\\newcommand\\z{\\url}",
        "\\require{html}",
        "\\%",
        "%",
    ),
    *(f"\\data{{onclick={PWN}}}{{x}}", "\\begin{align}a&b\\end{align}", "\\begin{a}", "\\end{a}"),
    *(f"\\text{{<img src=x onerror={PWN}>}}", "\\mathchoice{}{}{}{}", "\\$", "{", "}", "\\\\", "`"),
    *(
        "\\def\\a{\\a\\a}\\a",
        f"\\includegraphics{{{EVIL}/g.png}}",
        "\\text{$y$}",
        "^^68ref",
        "\\bbox[x]{y}",
    ),
]
INFOS = [
    *("python", "mermaid", "Mermaid {a}", "math", "svg", "html", "{=html}", "js .x", "$x$", "vega"),
    *('"><img src=x onerror=top.pwn()>', "`", "a\\`b", "&#109;ermaid", "dot", "geojson", ""),
]
ODD = [
    *("\u2028", "\u2029", "\u202e", "\u2066", "\u200b", "\u00a0", "\ufeff", "\x00", "\x0b", "\x0c"),
    *(
        "\x1b[31m",
        "\x1b]8;;javascript:x\x07",
        "\x7f",
        "\x85",
        "\ud800",
        "\U0001f600",
        "e\u0301",
        "＜",
    ),
    *("&lt;", "&#60;script&#62;", "&amp;lt;", "&#x24;", "&dollar;", "&#0;", "&colon;", "&NewLine;"),
    *(
        "\\<",
        "\\`",
        "\\$",
        "\\\\(",
        "\\\\)",
        "\\[",
        "\\]",
        "@@0@@",
        "\r\n",
        "\r",
        "\t",
        "\\\n",
        "  \n",
    ),
]
WORDS = ["word", "a_b_c", "5 $ and $10", "www.evil.test", f"{EVIL}/w", "a@evil.test", "1*2*3", "x"]
MARKS = [
    "*",
    "**",
    "_",
    "__",
    "~~",
    "~",
    "***",
    "==",
    "^",
    "|",
    "||",
    "[",
    "]",
    "(",
    ")",
    "!",
    "<",
    ">",
]
MOST_DEEP = 4


class Author:
    """Writes documents, the same ones for the same seed."""

    def __init__(self, seed):
        self._chance = random.Random(seed)

    def document(self):
        """One document, a few hundred characters long."""
        many = self._chance.randint(1, 4)
        text = "\n\n".join(self._block(0) for _ in range(many))
        for _ in range(self._chance.choice([0, 0, 1, 2, 4])):
            text = self._broken(text)
        return text

    def _of(self, *ways):
        return self._chance.choice(ways)

    def _inline(self, deep):
        """A few constructs of one line, one inside the other."""
        return "".join(self._one(deep + 1) for _ in range(self._chance.randint(1, 3)))

    def _one(self, deep):
        pick = self._chance.choice
        if deep > MOST_DEEP or self._chance.random() < 0.35:
            return pick(pick([TAGS, TEX, ODD, WORDS, MARKS, TARGETS]))
        inner, target, ticks = self._inline(deep), pick(TARGETS), "`" * self._chance.randint(1, 3)
        mark = pick(MARKS[:8])
        return self._of(
            f"{mark}{inner}{mark}",
            f"{ticks}{inner}{ticks}",
            f"{ticks} {inner} {ticks}{pick(['', '`'])}",
            f"[{inner}]({target})",
            f'[{inner}]({target} "{self._inline(deep)}")',
            f"![{inner}]({target})",
            f"[![{inner}]({target})]({pick(TARGETS)})",
            f"[{inner}][r]",
            f"<{target}>",
            f"${pick(TEX)}{inner}$",
            f"$${pick(TEX)}{inner}$$",
            f"\\({pick(TEX)}{inner}\\)",
            f"\\[{pick(TEX)}{inner}\\]",
            f"{pick(TAGS)}{inner}{pick(TAGS)}",
        )

    def _block(self, deep):
        """One block; in lists and quotations there are others."""
        pick, inline = self._chance.choice, self._inline(0)
        if deep > 2:
            return inline
        inner, fence = self._block(deep + 1), pick(["```", "````", "~~~", "``` "])
        margin = pick(["  ", "    ", "\t", " ", ""])
        below = inner.replace("\n", "\n" + margin)
        return self._of(
            f"{inline}\n{self._inline(0)}",
            f"{'#' * self._chance.randint(1, 7)} {inline}",
            f"{inline}\n{pick(['===', '---', '- - -'])}",
            f"{pick(['-', '*', '+', '1.', '7)', '- [ ]', '- -'])} {below}",
            f"- {inline}\n\n{margin}{below}",
            "> " + inner.replace("\n", pick(["\n> ", "\n", "\n>"])),
            f"{fence}{pick(INFOS)}\n{inner}\n{pick([fence, fence, '```', ''])}",
            f"| {inline} | b |\n|:--|--:|\n| {self._inline(0)} | {pick(TAGS)} |",
            f"a | b\n--|--\n{inline} | {inner}",
            f"$$\n{pick(TEX)}\n{inner}\n$$",
            f"\\begin{{align}}\n{inline}\n\\end{{align}}",
            f"\\[\n{inner}\n\\]",
            f"    {inline}\n\n\t{pick(TAGS)}",
            f"[r]: {pick(TARGETS)} '{inline}'",
            f"{pick(TAGS)}\n{inner}\n{pick(TAGS)}",
            pick(KNOWN),
        )

    def _broken(self, text):
        """The same with a slip somewhere."""
        chance = self._chance
        at, end = sorted(chance.choices(range(len(text) + 1), k=2))
        end = min(end, at + 12)
        sign = text[at : at + 1]
        return self._of(
            text[:at] + text[end:],
            text[:end] + text[at:],
            text[:at] + chance.choice(ODD) + text[at:],
            text[:at] + chance.choice(MARKS) + text[at:],
            text[:at] + "\n" + text[at:],
            text[:at] + text[at:end].swapcase() + text[end:],
            text[:at] + (f"&#{ord(sign)};" if sign else "&#36;") + text[at + 1 :],
            text[:at] + chance.choice(TAGS) + text[at:],
            text.replace("\n", "\r\n") if chance.random() < 0.2 else text + chance.choice(TAGS),
        )


def documents(count, seed):
    """So many documents."""
    author = Author(seed)
    return [author.document() for _ in range(count)]
