"""One Jupyter server with JupyterLab and Notebook on it, away from everybody's own files."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook

pytest.importorskip("jupyterlab", reason="the browser tests need jupyterlab: '.[browser]'")
pytest.importorskip("notebook", reason="the browser tests need notebook: '.[browser]'")

ROOT = Path(__file__).parents[2]
KEY = "sk-test-0123456789abcdefSECRET"
PATHS = {"lab": "doc/tree", "notebook": "notebooks"}
OPTIONS = [
    "--no-browser",
    "--allow-root",
    "--expose-app-in-browser",
    "--JupyterNotebookApp.expose_app_in_browser=True",
    "--IdentityProvider.token=",
    "--ServerApp.password=",
    "--LabApp.news_url=",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
]
NEWS = "@jupyterlab/apputils-extension/notification.jupyterlab-settings"
FOLDERS = ["HOME", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"]


def free_port():
    """A port nobody listens on now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Server:
    """The server; its kernels ask the API on loopback at `api_port`."""

    def __init__(self, folder, api_port):
        self.folder, self.root, self.api_port = folder, folder / "root", api_port
        self.port = free_port()
        self._process = None

    def __enter__(self):
        self.root.mkdir()
        settings = self.folder / "jupyter_config_dir/lab/user-settings" / NEWS
        settings.parent.mkdir(parents=True)
        settings.write_text('{"fetchNews": "false", "checkForUpdates": false}', "utf-8")
        command = [sys.executable, "-m", "jupyterlab", *OPTIONS, f"--port={self.port}"]
        with (self.folder / "server.log").open("w") as log:
            self._process = subprocess.Popen(
                [*command, "--ServerApp.port_retries=0", f"--ServerApp.root_dir={self.root}"],
                env=self._environment(),
                cwd=self.root,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        until = time.monotonic() + 60
        while True:
            try:
                self.get("api")
                return self
            except OSError:
                if time.monotonic() > until or self._process.poll() is not None:
                    self.__exit__()
                    raise RuntimeError((self.folder / "server.log").read_text("utf-8")) from None
                time.sleep(0.1)

    def __exit__(self, *_):
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            # Its loop has ended, but Python waits for a worker of AnyIO that nobody stops.
            self._process.kill()
            self._process.wait(20)

    def _environment(self):
        ours = ("O3MAGIC_", "OPENAI_", "XDG_")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        said = {name: str(self.folder / name.lower()) for name in FOLDERS}
        return (
            kept
            | said
            | {
                "OPENAI_API_KEY": KEY,
                "OPENAI_BASE_URL": f"http://127.0.0.1:{self.api_port}/v1",
                "O3MAGIC_MODEL": "o3-mini",
                "O3MAGIC_LEDGER": str(self.folder / "ledger.sqlite3"),
                "O3MAGIC_CONFIG": str(self.folder / "none.toml"),
                "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), kept.get("PYTHONPATH")])),
            }
        )

    @property
    def url(self):
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    def address(self, app, name):
        """Where a notebook is shown by an app."""
        return f"{self.url}/{PATHS[app]}/{name}"

    def get(self, path, method="GET"):
        """What the server's API says."""
        # A page shows by this pair that it is the server's own.
        said = {"Cookie": "_xsrf=00ff", "X-XSRFToken": "00ff"}
        request = urllib.request.Request(f"{self.url}/{path}", headers=said, method=method)
        with urllib.request.urlopen(request, timeout=20) as reply:
            return json.loads(reply.read() or "null")

    def end_kernels(self):
        """Shut down all kernels, as one who goes home."""
        for session in self.get("api/sessions"):
            self.get(f"api/sessions/{session['id']}", method="DELETE")

    def write(self, name, *sources):
        """A new notebook of code cells."""
        cells = [new_code_cell(source, id=f"cell-{n}") for n, source in enumerate(sources)]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(new_notebook(cells=cells, metadata={"kernelspec": kernel}), self.root / name)
        return name

    def read(self, name):
        """A notebook as it was saved."""
        return nbformat.read(self.root / name, as_version=4)
