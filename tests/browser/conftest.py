"""A browser, a Jupyter server and a loopback API for the tests in this folder.

They end with this folder: while Playwright runs, no other test could start an event loop.
"""

import itertools

import pytest

from o3magic.simulator import Simulator


@pytest.fixture(scope="package")
def server(tmp_path_factory):
    """A Jupyter server with both front ends."""
    from tests.browser.servers import Server, free_port

    with Server(tmp_path_factory.mktemp("jupyter"), free_port()) as running:
        yield running


@pytest.fixture(scope="package")
def browser():
    """Chromium."""
    from tests.browser.page import launch, sync_api

    with sync_api.sync_playwright() as playwright:
        running = launch(playwright)
        yield running
        running.close()


@pytest.fixture(scope="package")
def context(browser):
    """One person's browser: what it has loaded once it keeps."""
    made = browser.new_context(viewport={"width": 1100, "height": 900})
    yield made
    made.close()


@pytest.fixture
def api(server):
    """What the kernels ask; it answers as scripted."""
    with Simulator(port=server.api_port) as running:
        yield running


@pytest.fixture
def open_notebook(server, context, api, request):
    """Opens a notebook of these cells in Lab, or in the app that is named."""
    from tests.browser.page import Notebook

    opened, numbers = [], itertools.count(1)
    title = request.node.name

    def open_(*sources, app="lab", name=None, where=None, kernel=True):
        name = name or server.write(f"{request.node.originalname}-{next(numbers)}.ipynb", *sources)
        opened.append(Notebook(where or context, server, app, name, title))
        return opened[-1].open(kernel=kernel)

    yield open_
    for number, notebook in enumerate(opened):
        if not notebook.page.is_closed():
            notebook.shot("" if len(opened) == 1 else f"{number + 1}")
            notebook.page.close()
    server.end_kernels()
    assert [each.strangers for each in opened if each.strangers] == []
    assert [each.dialogs for each in opened if each.dialogs] == []
