"""Servers in processes of their own: made by a script, started, waited for, ended."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

HERE = Path(__file__).parent
INSTALL_S = 5_400
START_S = 180
END_S = 15


def made(script):
    """The path of a script, once what it starts is there. Skips the test where it cannot be had."""
    if sys.platform == "win32":
        pytest.skip(f"{script} needs a POSIX shell")
    path = HERE / script
    try:
        done = subprocess.run([path], capture_output=True, text=True, timeout=INSTALL_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"{script}: {error}")
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["no reason given"]
        pytest.skip(f"{script} could not make its server: {said[-1]}")
    return path


class Server:
    """A server that a script started; its address is the script's first line."""

    def __init__(self, command, ready, log, environment=()):
        self._log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [str(each) for each in command],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | dict(environment),
                start_new_session=True,
            )
        self.address = self._process.stdout.readline().strip()
        self._wait_for(ready)

    @property
    def base_url(self):
        """What a client takes."""
        return f"{self.address}/v1"

    def get(self, path, **headers):
        """What the server says at a path, past our client."""
        return httpx.get(self.address + path, headers=headers, trust_env=False, timeout=5)

    def _wait_for(self, ready):
        until = time.monotonic() + START_S
        while time.monotonic() < until and self._process.poll() is None:
            try:
                if self.get(ready).status_code < 500:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        self.end()
        pytest.fail("the server did not start:\n" + self._log.read_text()[-2_000:])

    def end(self):
        """End it, with all it started."""
        for how in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self._process.pid, how)
                self._process.wait(END_S)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        self._process.stdout.close()
