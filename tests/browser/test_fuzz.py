"""No document, however hostile, becomes more than text: judged by the renderers themselves.

O3MAGIC_FUZZ=5000 reads so many documents, O3MAGIC_FUZZ_SEED=7 others.
"""

import os

import pytest

from o3magic.events import Answer, ToolUsed
from o3magic.render import answer
from o3magic.render.comparison import final
from o3magic.render.markdown.sanitize import safe_markdown
from tests.browser.hostile import documents
from tests.render.test_hostile_markdown import Page

COUNT = int(os.environ.get("O3MAGIC_FUZZ", "1000"))
SEED = int(os.environ.get("O3MAGIC_FUZZ_SEED", "20261121"))
BATCH = 50

# JupyterLab's own renderer of Markdown, told that the text is trusted, as a kernel's output is.
RENDER = """async ([texts, typeset, more]) => {
  const rendermime = window.notebook().content.rendermime;
  const host = document.createElement('div');
  document.body.append(host);
  const nodes = await Promise.all(texts.map(async (text) => {
    const renderer = rendermime.createRenderer('text/markdown');
    host.append(renderer.node);
    const data = {'text/markdown': text};
    await renderer.renderModel(rendermime.createModel({data, trusted: true}));
    return renderer.node;
  }));
  if (typeset) await rendermime.latexTypesetter.typeset(host);
  await new Promise((done) => setTimeout(done, 50));

  const TAGS = new Set(('P H1 H2 H3 H4 H5 H6 UL OL LI TABLE THEAD TBODY TR TH TD CODE PRE EM ' +
    'STRONG A BLOCKQUOTE HR BR DEL INPUT SPAN DIV MJX-CONTAINER ' + more).split(' '));
  const NAMES = new Set('class rel target type disabled checked start align open'.split(' '));
  const FORBIDDEN = 'script, iframe, object, embed, form, img, video, style, link, a';
  const judge = (node) => {
    const wrong = [];
    for (const each of node.querySelectorAll('*')) {
      const tex = each.closest('mjx-container');
      if (tex ? each.matches(FORBIDDEN) : !TAGS.has(each.tagName)) wrong.push(each.outerHTML);
      for (const {name, value} of each.attributes) {
        const good = name === 'href' || name === 'src' ? /^(https?:\\/\\/|mailto:|#)/.test(value)
          : name.startsWith('on') || name.includes('commandlinker') ? false
          : tex ? !/url\\(|javascript:/i.test(value)
          : name === 'style' ? /^text-align: ?\\w+;?$/.test(value)
          : name === 'id' ? /^H[1-6]$/.test(each.tagName)
          : NAMES.has(name) || name.startsWith('data-jupyter');
        if (!good) wrong.push(`${name}: ${each.outerHTML}`);
      }
    }
    return wrong.map((each) => each.slice(0, 300));
  };
  const found = nodes.map(judge);
  host.remove();
  return found;
}"""


def batches(texts):
    """They, fifty at a time."""
    return [texts[at : at + BATCH] for at in range(0, len(texts), BATCH)]


@pytest.fixture
def lab(open_notebook):
    """JupyterLab, with a notebook open."""
    notebook = open_notebook("", kernel=False)
    notebook.page.set_default_timeout(120_000)
    return notebook


def test_the_judge_sees_what_is_wrong(lab):
    texts = [
        "<img src=x onerror=top.pwn()>",
        "![x](http://evil.test/i.png)",
        "<button data-commandlinker-command=x>x</button>",
        "<p style='background:url(http://evil.test/p)'>x</p>",
        "# A *good* [one](http://a.test) with $x^2$ and `code`\n\n- [ ] a\n\n|a|\n|-:|\n|b|",
    ]
    found = lab.page.evaluate(RENDER, [texts, True, ""])
    assert [bool(wrong) for wrong in found] == [True, True, True, True, False], found
    lab.page.wait_for_function("window.pwned === 1")
    assert {"http://evil.test/i.png", "http://evil.test/p"} <= set(lab.strangers)
    lab.strangers.clear()


def assert_nothing_happens(lab, texts, more=""):
    """They become text, and elements that are harmless. more: elements that we write around it."""
    for number, batch in enumerate(batches(texts)):
        found = lab.page.evaluate(RENDER, [batch, number % 3 == 0, more])
        guilty = [pair for pair in zip(batch, found, strict=True) if pair[1]]
        assert guilty == []
        seen = [lab.page.evaluate("window.pwned"), lab.strangers, lab.dialogs]
        assert seen == [0, [], []], batch


def called(text):
    """A call of a tool in which everything is hostile."""
    return ToolUsed(text, text, text, text[:9] or "ok", text, (text,))


def compared(text):
    """A comparison in which everything is hostile."""
    answer = Answer(text=text, notes=(text,), finish_reason="error")
    return final([text, "high"], [answer, answer], [text, ""])[0].data["text/markdown"]


def test_no_document_does_anything_in_jupyterlab(lab):
    assert_nothing_happens(lab, [safe_markdown(text) for text in documents(COUNT, SEED)])


@pytest.mark.parametrize(
    "made", [lambda text: answer.render_tool_uses([called(text)] * 2), compared]
)
def test_no_tool_and_no_comparison_does_anything_in_jupyterlab(lab, made):
    texts = [made(text) for text in documents(COUNT // 4, SEED + 2)]
    assert_nothing_happens(lab, texts, "DETAILS SUMMARY SMALL")


def test_no_document_does_anything_in_nbconvert_and_safe_is_safe():
    for text in documents(COUNT, SEED + 1):
        shown = safe_markdown(text)
        assert Page(shown).wrong == [], f"{text!r} -> {shown!r}"
        assert safe_markdown(shown) == shown, f"{text!r} -> {shown!r}"
