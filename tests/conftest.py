"""What every floor's tests need: the descriptions of the API, a server on loopback, a stream."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from o3magic.answer_builder import AnswerBuilder
from o3magic.simulator import Simulator
from o3magic.wire import sse
from o3magic.wire.dialects import DIALECTS

# Started in the background by a shell, Ctrl-C is ignored here, and in all that is started here.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes says something of the machine, not of the code.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

SHARED_API = Path(__file__).resolve().parents[2] / "shared" / "api"


class Heard:
    """What a stream of one dialect says: its events, and the answer they fold into."""

    def __init__(self, api, data):
        self.events, self.draft = [], AnswerBuilder()
        reader, decoder = DIALECTS[api].reader(), sse.Decoder()
        for frame in decoder.feed(data) + decoder.close():
            self._add(reader.read(frame))
            if reader.done:
                break
        self._add(reader.close())

    def _add(self, events):
        for event in events:
            self.events.append(event)
            self.draft.add(event)

    @property
    def answer(self):
        return self.draft.answer()

    @property
    def finished(self):
        return self.draft.finished


@pytest.fixture
def shared_api():
    """The folder with what is known of the API."""
    if not SHARED_API.is_dir():
        pytest.skip("the folder shared/api is not beside this checkout")
    return SHARED_API


@pytest.fixture
def recorded(shared_api):
    """Reads a recorded answer: bytes of a stream, the value of a JSON document."""

    def read(name):
        data = (shared_api / "fixtures" / name).read_bytes()
        return json.loads(data) if name.endswith(".json") else data

    return read


@pytest.fixture
def sim():
    """A running simulator."""
    with Simulator() as simulator:
        yield simulator


@pytest.fixture(scope="session")
def local_models(tmp_path_factory):
    """The folder with the weights of the small model, fetched as a user fetches them."""
    folder = tmp_path_factory.mktemp("models")
    done = subprocess.run(
        [sys.executable, "-m", "o3magic", "local", "fetch"],
        env=os.environ | {"O3MAGIC_MODELS": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def hear():
    """Reads a stream, given as bytes or as the values of its frames."""

    def read(api, *frames):
        if len(frames) == 1 and isinstance(frames[0], bytes):
            return Heard(api, frames[0])
        return Heard(api, stream_of(*frames))

    return read


@pytest.fixture
def fold():
    """Folds events into their answer."""

    def read(events):
        draft = AnswerBuilder()
        for event in events:
            draft.add(event)
        return draft.answer()

    return read


def stream_of(*frames):
    """The bytes of a stream: a value is sent as JSON, a text as it is."""
    texts = [each if isinstance(each, str) else json.dumps(each) for each in frames]
    return "".join(f"data: {text}\n\n" for text in texts).encode()


@pytest.fixture(autouse=True)
def no_default_session() -> Iterator[None]:
    """Each test begins and ends without the session that plain Python has for its process."""
    yield
    module = sys.modules.get("o3magic.session.session")
    if module is not None:
        module.DEFAULT_SESSION.close()
