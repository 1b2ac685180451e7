/* A code cell that begins with %%o3 is highlighted as Markdown while it does.

The cell stays a code cell and keeps its MIME type, so completion, the saved notebook and other
extensions see nothing of this: our language only comes first in the editor. */

const HEADER = /^\s*%%o3(?!\S)/;
const MARKDOWN = 'text/x-ipythongfm'; // Lab's own: GitHub's Markdown, formulas, fenced code

/* The factory of the editor extension, for the registry. `cm` are Lab's shared modules. */
export function factory(cm, languages) {
  const { Compartment, EditorState } = cm.state;
  const slot = new Compartment();
  let support = null; // loaded with the first prompt that is seen
  let loading = null;

  const load = () => {
    loading ??= promptSupport(cm, languages).then(loaded => {
      support = loaded;
    });
    return loading;
  };
  const wanted = doc => (support && isPrompt(doc) ? support : []);

  // In the transaction that types the header, so that nothing is drawn twice.
  const follow = EditorState.transactionExtender.of(transaction => {
    if (!transaction.docChanged) {
      return null;
    }
    const next = wanted(transaction.newDoc);
    const same = (slot.get(transaction.startState) === support) === (next === support);
    return support === null || same ? null : { effects: slot.reconfigure(next) };
  });

  const first = cm.view.ViewPlugin.define(view => {
    let gone = false;
    const look = () => {
      if (support === null && isPrompt(view.state.doc)) {
        load().then(() => {
          if (!gone && slot.get(view.state) !== support) {
            view.dispatch({ effects: slot.reconfigure(wanted(view.state.doc)) });
          }
        }, console.error);
      }
    };
    look();
    return {
      update: change => change.docChanged && look(),
      destroy: () => {
        gone = true;
      }
    };
  });

  return ({ model }) => {
    if (model.type !== 'code') {
      return null; // Markdown and raw cells, and the editors of files
    }
    const source = { sliceString: (from, to) => model.sharedModel.source.slice(from, to) };
    return cm.codemirror.EditorExtensionRegistry.createImmutableExtension([
      slot.of(wanted(source)),
      follow,
      first
    ]);
  };
}

/* Reads no more than the beginning: it is asked at every key. */
function isPrompt(doc) {
  return HEADER.test(doc.sliceString(0, 256));
}

async function promptSupport({ language, state, view, highlight }, languages) {
  const { Language } = language;
  const markdown = (await languages.getLanguage(MARKDOWN)).support.language;
  const parser = markdown.parser.configure(headerSyntax(highlight.tags));
  return [
    // Before the language of the kernel, which stays where it is for when the header goes.
    state.Prec.highest(new Language(markdown.data, parser, [], 'markdown').extension),
    templateMarks(view),
    view.EditorView.baseTheme({
      '.o3-Template': {
        color: 'var(--jp-content-font-color0)',
        backgroundColor: 'color-mix(in srgb, var(--jp-brand-color1) 22%, transparent)',
        borderRadius: 'var(--jp-border-radius)'
      }
    })
  ];
}

/* The line of the magic is a block of its own: `---` below it would make it a heading. */
function headerSyntax(tags) {
  const isFirst = cx => cx.lineStart === 0 || !cx.input.read(0, cx.lineStart).trim();
  return {
    defineNodes: [
      { name: 'O3Header', block: true },
      { name: 'O3Magic', style: tags.keyword },
      { name: 'O3Option', style: tags.attributeName }
    ],
    parseBlock: [
      {
        name: 'O3Header',
        before: 'IndentedCode',
        parse: (cx, { text }) => {
          if (!HEADER.test(text) || !isFirst(cx)) {
            return false;
          }
          const start = cx.lineStart;
          const words = [...text.matchAll(/%%o3|(?<=\s)--?[a-z][\w-]*/g)].map(([word], i, all) =>
            cx.elt(i ? 'O3Option' : 'O3Magic', start + all[i].index, start + all[i].index + word.length)
          );
          cx.addElement(cx.elt('O3Header', start, start + text.length, words));
          cx.nextLine();
          return true;
        }
      }
    ]
  };
}

/* What is filled in: `{{ name }}`, strings and one pair of braces within, but no LaTeX: x^{{2}}.
Only what is on the screen is looked at. An expression over several lines stays without a mark. */
const EXPRESSION =
  /(?<!\\)\{\{(?!\s*[\d.]*\s*\}\})(?:"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|\{[^{}\n]*\}|[^{}"'\n])+?\}\}/g;
const NO_TEMPLATE = /^\s*%%o3[^\n]*\s--no-template(?!\S)/;

function templateMarks({ Decoration, MatchDecorator, ViewPlugin }) {
  const mark = Decoration.mark({ class: 'o3-Template' });
  const finder = new MatchDecorator({
    regexp: EXPRESSION,
    decorate: (add, from, to, match, { state }) => {
      if (!HEADER.test(state.doc.lineAt(from).text)) {
        add(from, to, mark);
      }
    }
  });
  const isOff = view => NO_TEMPLATE.test(view.state.doc.sliceString(0, 1024));
  const all = view => (isOff(view) ? Decoration.none : finder.createDeco(view));
  return ViewPlugin.define(
    view => ({
      off: isOff(view),
      marks: all(view),
      update(change) {
        const off = isOff(change.view);
        if (off !== this.off) {
          this.marks = all(change.view);
        } else if (!off) {
          this.marks = finder.updateDeco(change, this.marks);
        }
        this.off = off;
      }
    }),
    { decorations: plugin => plugin.marks }
  );
}
