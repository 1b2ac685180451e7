"""Rows through a proxy and over TLS: real servers on loopback, one of them a proxy."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from http.server import ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer

import pytest

from o3magic.client.pool import RequestPool, find_proxy
from o3magic.errors import BadOption, NoConnection
from tests.client.test_pool import BODY, KEY, broken, heard, text, whole
from tests.servers import JsonHandler, running

NAME = "api.o3magic.test"  # a name that nobody has
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory):
    """A certificate of our own, for this machine and for the name that nobody has."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate")
    folder = tmp_path_factory.mktemp("tls")
    names = f"subjectAltName=IP:127.0.0.1,DNS:{NAME}"
    made = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    written = ["-keyout", "key.pem", "-out", "cert.pem", "-subj", f"/CN={NAME}", "-addext", names]
    subprocess.run([*made.split(), *written], cwd=folder, check=True, capture_output=True)
    return folder


class Answering(JsonHandler):
    def do_POST(self):
        self.server.asked.append((dict(self.headers), self.asked()))
        self.wfile.write(whole())


class Tls(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), Answering)
        self.asked = []
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
        self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )

    def handle_error(self, request, client_address):
        """Those who do not trust it hang up."""


class Through(StreamRequestHandler):
    """One connection to the proxy: a tunnel, or a request that it answers itself."""

    def handle(self):
        while head := self._head():
            self.server.heads.append(head)
            if self.server.refuse:
                self.wfile.write(b"HTTP/1.1 407 Who are you\r\ncontent-length: 0\r\n\r\n")
                return
            if head.startswith("CONNECT "):
                self._tunnel()
                return
            lengths = [h for h in head.lower().split("\r\n") if h.startswith("content-length:")]
            self.rfile.read(int(lengths[0].partition(":")[2]))
            self.wfile.write(whole())

    def _head(self):
        lines = []
        while (line := self.rfile.readline()) not in (b"", b"\r\n"):
            lines.append(line.decode())
        return "".join(lines)

    def _tunnel(self):
        with socket.create_connection(("127.0.0.1", self.server.behind)) as there:
            self.wfile.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            back = threading.Thread(target=copied, args=(there, self.connection), daemon=True)
            back.start()
            copied(self.connection, there)
            back.join(5)


def copied(source, target):
    with contextlib.suppress(OSError):
        while said := source.recv(65_536):
            target.sendall(said)
        target.shutdown(socket.SHUT_WR)


class Proxy(ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, behind=0):
        super().__init__(("127.0.0.1", 0), Through)
        self.heads, self.behind, self.refuse = [], behind, False

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def tls(certificate):
    with running(Tls(certificate)) as server:
        yield server


@pytest.fixture
def proxy(tls):
    with running(Proxy(tls.server_port)) as server:
        yield server


@pytest.fixture
def trusted(certificate, monkeypatch):
    """From here on the certificate is one of this machine's."""
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate / "cert.pem"))


class Patient(JsonHandler):
    """Answers the Responses API only when somebody has asked the Chat API."""

    def do_POST(self):
        self.asked()
        if self.path.endswith("/responses"):
            self.server.begun.set()
            assert self.server.asked.wait(20)
            self.wfile.write(whole())
        else:
            self.server.asked.set()
            message = {"role": "assistant", "content": "Hello"}
            self.say(200, {"choices": [{"message": message, "finish_reason": "stop"}]})


def test_what_is_on_its_way_comes_though_another_api_is_asked_meanwhile(call):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Patient)
    server.begun, server.asked = threading.Event(), threading.Event()
    address = f"http://127.0.0.1:{server.server_port}/v1"

    async def both():
        wide = RequestPool()
        first = asyncio.create_task(wide.answer(call(address), 0))
        await asyncio.to_thread(server.begun.wait, 20)
        second = await wide.answer(call(address, "chat"), 1)
        found = [await first, second]
        await wide.close()
        return found

    with running(server):
        assert [text(each) for each in asyncio.run(both())] == ["Hello"] * 2


def here(tls):
    return f"https://127.0.0.1:{tls.server_port}/v1"


@pytest.mark.parametrize("system", [False, True])
def test_a_server_that_nobody_vouches_for_is_told_nothing(tls, call, monkeypatch, system):
    monkeypatch.setattr(
        "tests.client.test_pool.RequestPool", lambda: RequestPool(system_certificates=system)
    )
    said = broken(heard(call(here(tls), key=KEY))[0], NoConnection)
    assert "certificate" in f"{said} {said.hint}".lower()
    assert not tls.asked


@pytest.mark.parametrize("system", [False, True])
def test_certificates_of_this_machine_are_trusted(tls, call, trusted, monkeypatch, system):
    monkeypatch.setattr(
        "tests.client.test_pool.RequestPool", lambda: RequestPool(system_certificates=system)
    )
    first, second = heard(call(here(tls), key=KEY), call(here(tls), key=KEY))
    assert text(first) == text(second) == "Hello"
    assert tls.asked[0][0]["authorization"] == f"Bearer {KEY.get_secret_value()}"


def test_a_certificate_for_another_name_is_refused(tls, call, trusted):
    other = here(tls).replace("127.0.0.1", "localhost")
    broken(heard(call(other, key=KEY))[0], NoConnection)
    assert not tls.asked


def test_https_goes_through_a_tunnel_that_does_not_see_the_key(
    tls, proxy, call, trusted, monkeypatch
):
    monkeypatch.setenv("HTTPS_PROXY", proxy.address.replace("//", "//ann:secret-word@"))
    calls = [call(f"https://{NAME}/v1", key=KEY) for _ in range(3)]
    assert [text(said) for said in heard(*calls, slots=[0, 1, 5])] == ["Hello"] * 3
    assert {head.split("\r\n")[0] for head in proxy.heads} == {f"CONNECT {NAME}:443 HTTP/1.1"}
    assert "proxy-authorization: basic" in proxy.heads[0].lower()
    assert KEY.get_secret_value() not in "".join(proxy.heads)
    headers, body = tls.asked[0]
    assert headers["authorization"] == f"Bearer {KEY.get_secret_value()}"
    assert "proxy-authorization" not in {name.lower() for name in headers}
    assert body["model"] == "o3-mini"


def test_http_is_asked_of_the_proxy_itself(proxy, call, monkeypatch):
    monkeypatch.setenv("http_proxy", proxy.address)
    said = heard(call(f"http://{NAME}:8080/v1"), call(f"http://{NAME}:8080/v1"))
    assert [text(each) for each in said] == ["Hello"] * 2
    assert proxy.heads[0].startswith(f"POST http://{NAME}:8080/v1/responses HTTP/1.1\r\n")


@pytest.mark.parametrize("name", ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"])
def test_what_is_on_this_machine_goes_through_no_proxy(
    tls, proxy, line, call, trusted, monkeypatch, name
):
    monkeypatch.setenv(name.lower(), proxy.address)
    line.say(whole())
    assert [text(each) for each in heard(call(line), call(here(tls)))] == ["Hello"] * 2
    for host in ("127.0.0.1", "localhost", "127.0.0.2", "[::1]"):
        for scheme in ("http", "https"):
            assert find_proxy(call(f"{scheme}://{host}:9/v1")) is None
    assert not proxy.heads


@pytest.mark.parametrize(
    ("said", "host", "through"),
    [
        ("api.openai.com", "api.openai.com", False),
        ("openai.com", "api.openai.com", False),
        (".openai.com", "api.openai.com", False),
        ("*", "api.openai.com", False),
        ("example.org, API.openai.com", "api.openai.com", False),
        ("penai.com", "api.openai.com", True),
        ("example.org", "api.openai.com", True),
    ],
)
def test_no_proxy_names_those_that_are_reached_without_it(call, monkeypatch, said, host, through):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", said)
    assert (find_proxy(call(f"https://{host}/v1")) is not None) == through
    assert find_proxy(call(f"http://{host}/v1")) is None  # there is none for http


def test_a_proxy_that_refuses_is_told_without_its_password(proxy, call, monkeypatch):
    proxy.refuse = True
    monkeypatch.setenv("HTTPS_PROXY", proxy.address.replace("//", "//ann:secret-word@"))
    said = broken(heard(call(f"https://{NAME}/v1", key=KEY))[0], NoConnection)
    assert "secret-word" not in f"{said} {said.hint}"
    assert KEY.get_secret_value() not in "".join(proxy.heads)


def test_a_proxy_that_is_not_there_is_told(call, monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    broken(heard(call(f"https://{NAME}/v1", key=KEY))[0], NoConnection)


@pytest.mark.parametrize(
    "address", ["ftp://127.0.0.1:1", "http://127.0.0.1:port", "nonsense://", "socks5://127.0.0.1:9"]
)
def test_a_proxy_that_cannot_be_used_is_one_clear_error(call, monkeypatch, address):
    monkeypatch.setenv("ALL_PROXY", address)
    with pytest.raises(BadOption, match="proxy") as caught:
        heard(call(f"https://{NAME}/v1"))
    assert "ALL_PROXY" in caught.value.hint


def test_an_answer_of_the_proxy_larger_than_allowed_is_left_there(proxy, call, monkeypatch):
    monkeypatch.setenv("http_proxy", proxy.address)
    said = heard(call(f"http://{NAME}/v1", max_answer_bytes=len(BODY) - 1))[0]
    assert said.error is not None
    assert "larger than" in str(said.error)
