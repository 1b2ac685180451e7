/* What JupyterLab and Notebook 7 load: a module-federation container, written by hand.

They run this script, call init() with the modules that all extensions share, and get() for our
plugins. No bundler stands between, so what is read here is what runs. */

(() => {
  // Known only while this script runs for the first time.
  const home = new URL('.', document.currentScript.src);
  let scope;

  /* A module of the application's own. What it has loaded already is taken before a newer one of
  another extension: two CodeMirrors do not know each other's classes. */
  async function shared(name) {
    const offers = Object.entries(scope[name] ?? {});
    if (offers.length === 0) {
      throw new Error(`o3magic: this JupyterLab does not share ${name}`);
    }
    const newest = (a, b) => b[0].localeCompare(a[0], 'en', { numeric: true });
    const [, offer] = offers.find(([, each]) => each.loaded) ?? offers.sort(newest)[0];
    return (await offer.get())();
  }

  async function plugins() {
    const names = [
      '@codemirror/language',
      '@codemirror/state',
      '@codemirror/view',
      '@lezer/highlight',
      '@jupyterlab/codemirror',
      '@jupyterlab/notebook'
    ];
    const [prompt, stop, language, state, view, highlight, codemirror, notebook] =
      await Promise.all([
        import(new URL('prompt.js', home)),
        import(new URL('stop.js', home)),
        ...names.map(shared)
      ]);
    // All optional: Notebook 7 has pages without notebooks, where that is no error.
    return [
      {
        id: 'o3magic:prompt',
        description: 'Highlights the prompt of a %%o3 cell as Markdown.',
        autoStart: true,
        optional: [codemirror.IEditorExtensionRegistry, codemirror.IEditorLanguageRegistry],
        activate: (app, extensions, languages) => {
          if (extensions && languages) {
            extensions.addExtension({
              name: 'o3magic:prompt',
              factory: prompt.factory({ language, state, view, highlight, codemirror }, languages)
            });
          }
        }
      },
      {
        id: 'o3magic:stop',
        description: 'Shows a button that stops the answer in the cell that is running.',
        autoStart: true,
        optional: [notebook.INotebookTracker],
        activate: (app, tracker) => {
          if (tracker) {
            stop.watch(tracker);
          }
        }
      }
    ];
  }

  window._JUPYTERLAB = window._JUPYTERLAB ?? {};
  window._JUPYTERLAB.o3magic = {
    init: sharedScope => {
      scope = sharedScope;
    },
    get: async () => {
      const exported = { __esModule: true, default: await plugins() };
      return () => exported;
    }
  };
})();
