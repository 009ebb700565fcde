"""The way out of callbacks: what is sent, to whom, and that nothing leaves for where it may not.

Receivers are real sockets on this machine, which count the connections that are made to them.
"""

from __future__ import annotations

import asyncio
import datetime
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpcore
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from amber_ray.core.deliveries.record import Outcome
from amber_ray.core.deliveries.urls import CallbackUrl, read_url
from amber_ray.fabric.adapter import sender as under_test
from amber_ray.fabric.adapter.sender import HttpSender
from amber_ray.settings import Settings

TAKEN = b"HTTP/1.1 204 No Content\r\n\r\n"
HEADERS = {"content-type": "application/json", "webhook-id": "end_r1"}


def run(story: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 30))


class Receiver:
    """Answers every request with the same bytes; `heard` are the requests, `met` counts connections."""

    def __init__(self, answer: bytes = TAKEN, *, silent: bool = False) -> None:
        self.answer = answer
        self.silent = silent
        self.heard: list[bytes] = []
        self.met = 0
        self.port = 0

    async def meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.met += 1
        try:
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            self.heard.append(head + await reader.readexactly(size))
            if self.silent:
                await reader.read()
            writer.write(self.answer)
            await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def listening(
    receiver: Receiver, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Receiver]:
    server = await asyncio.start_server(receiver.meet, host, port, ssl=tls)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()


class Names:
    """Which addresses names lead to, answer after answer; the last stays."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def sender(names: Callable[..., Any] | None = None, *allowed: str) -> HttpSender:
    return HttpSender(Settings(callback_addresses=allowed), names)


def url_of(port: int, scheme: str = "http", path: str = "/a?b=c") -> CallbackUrl:
    return read_url(f"{scheme}://hooks.example:{port}{path}")


async def post(one: HttpSender, url: CallbackUrl, body: bytes = b'{"a": 1}') -> Outcome:
    return await one.post(url, HEADERS, body)


def test_a_message_arrives_as_it_was_signed_under_the_name_that_was_asked_for() -> None:
    async def story() -> None:
        names = Names(["127.0.0.1"])
        async with listening(Receiver()) as receiver:
            assert await post(sender(names, "127.0.0.1"), url_of(receiver.port)) == Outcome(204)
        [heard] = receiver.heard
        head, _, body = heard.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        assert head.startswith(b"POST /a?b=c HTTP/1.1\r\n")
        assert body == b'{"a": 1}'
        for line in (f"host: hooks.example:{receiver.port}", "webhook-id: end_r1", "content-length: 8"):
            assert line.encode() in lines
        assert sum(line.startswith(b"host:") for line in lines) == 1
        assert names.asked == ["hooks.example"]

    run(story)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "303 See Other", "307 T", "308 P"])
def test_no_redirect_is_followed(status: str) -> None:
    async def story() -> None:
        async with listening(Receiver()) as inner:
            to = f"HTTP/1.1 {status}\r\nLocation: http://hooks.example:{inner.port}/\r\n\r\n"
            async with listening(Receiver(to.encode())) as receiver:
                outcome = await post(sender(Names(["127.0.0.1"]), "127.0.0.1"), url_of(receiver.port))
        assert outcome.status == int(status[:3])
        assert not outcome.taken
        assert (receiver.met, inner.met) == (1, 0)

    run(story)


def test_what_a_receiver_asks_for_is_heard() -> None:
    async def story() -> None:
        answer = b"HTTP/1.1 429 Slow\r\nRetry-After: 120\r\nContent-Length: 2\r\n\r\nno"
        async with listening(Receiver(answer)) as receiver:
            outcome = await post(sender(Names(["127.0.0.1"]), "127.0.0.1"), url_of(receiver.port))
        assert outcome == Outcome(429, "120")

    run(story)


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1_000_000, 200),  # more than is read
        (b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort", 200),  # it breaks off
        (b"", None),
        (b"SSH-2.0-OpenSSH\r\n", None),
        (b"HTTP/1.1 200 OK\r\nA: " + b"x" * 1_000_000 + b"\r\n\r\n", None),
    ],
)
def test_an_answer_is_read_under_bounds(answer: bytes, status: int | None) -> None:
    async def story() -> None:
        async with listening(Receiver(answer)) as receiver:
            outcome = await post(sender(Names(["127.0.0.1"]), "127.0.0.1"), url_of(receiver.port))
        assert outcome.status == status
        assert status is not None or outcome.error.startswith("no answer: ")

    run(story)


def test_a_receiver_that_says_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(under_test, "ANSWER_SECONDS", 0.05)

    async def story() -> None:
        async with listening(Receiver(silent=True)) as receiver:
            outcome = await post(sender(Names(["127.0.0.1"]), "127.0.0.1"), url_of(receiver.port))
        assert (outcome.status, outcome.error[:10]) == (None, "no answer:")
        assert receiver.met == 1

    run(story)


def test_a_name_without_an_address_and_a_closed_port_are_no_answer() -> None:
    async def story() -> None:
        async def unknown(host: str, port: int) -> Sequence[str]:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            port = closed.getsockname()[1]
            for names in (unknown, Names([]), Names(["127.0.0.1"])):
                outcome = await post(sender(names, "127.0.0.1"), url_of(port))
                assert (outcome.status, outcome.error[:10]) == (None, "no answer:")

    run(story)


# --- where nothing may go


class Counted(httpcore.AnyIOBackend):
    """The network; `to` are the addresses that it was asked to connect to."""

    def __init__(self) -> None:
        self.to: list[str] = []

    async def connect_tcp(self, host: str, *arguments: Any, **options: Any) -> httpcore.AsyncNetworkStream:
        self.to.append(host)
        raise httpcore.ConnectError("nobody goes there in a test")


LOCAL = ["127.0.0.1", "127.0.0.2", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::ffff:7f00:1", "::127.0.0.1"]
"""What would arrive at this machine, if it were sent."""
INNER = [
    *("10.0.0.1", "172.16.0.1", "192.168.0.1", "100.64.0.1", "169.254.169.254", "168.63.129.16", "224.0.0.1"),
    *("fd00:ec2::254", "fe80::1", "fe80::1%1", "64:ff9b::7f00:1", "2002:7f00:1::", "2001:0:1::80ff:fffe"),
    *("255.255.255.255", "ff02::1", "198.18.0.1", "192.0.2.1", "not an address", "127.1", "0x7f000001"),
]


@pytest.mark.parametrize("address", [*LOCAL, *INNER])
def test_no_connection_is_made_to_what_is_not_public(address: str) -> None:
    async def story() -> None:
        v6 = Receiver()
        async with listening(Receiver(), "0.0.0.0") as receiver:
            try:
                server = await asyncio.start_server(v6.meet, "::", receiver.port)
            except OSError:
                server = None  # this machine has no IPv6, or "::" has both
            one = sender(Names([address], ["1.1.1.1", address], [address, "1.1.1.1"]))
            for _ in range(3):  # also as one of several
                outcome = await post(one, url_of(receiver.port))
                assert outcome.status is None
                assert "hooks.example leads to " in outcome.error
                assert address not in outcome.error  # whoever chose the name learns nothing of the network
            one._network._network = counted = Counted()
            await post(one, url_of(receiver.port))
            assert counted.to == []
            if server is not None:
                server.close()
        assert (receiver.met, v6.met) == (0, 0)

    run(story)


@pytest.mark.parametrize("host", ["127.0.0.1", "[::1]", "[::ffff:127.0.0.1]", "localhost", "LOCALHOST."])
def test_an_address_in_the_url_is_judged_like_any_other(host: str) -> None:
    async def story() -> None:
        async with listening(Receiver(), "0.0.0.0") as receiver:
            outcome = await post(sender(), read_url(f"http://{host}:{receiver.port}/"))
        assert "leads to " in outcome.error
        assert receiver.met == 0

    run(story)


def test_a_name_is_looked_up_once_and_the_address_that_was_judged_is_called() -> None:
    async def story() -> None:
        names = Names(["127.0.0.9"], ["127.0.0.1"])  # a moment later it leads elsewhere
        async with (
            listening(Receiver(), "127.0.0.9") as meant,
            listening(Receiver(), "127.0.0.1", meant.port) as inner,
        ):
            one = sender(names, "127.0.0.9")
            assert (await post(one, url_of(meant.port))).taken
            assert len(names.asked) == 1
            assert "leads to this machine" in (await post(one, url_of(meant.port))).error
        assert (meant.met, inner.met) == (1, 0)

    run(story)


def test_the_next_address_is_tried_and_a_proxy_of_the_environment_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def story() -> None:
        async with listening(Receiver()) as proxy, listening(Receiver(), "127.0.0.9") as receiver:
            for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
                monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
            one = sender(Names(["127.0.0.8", "127.0.0.9"]), "127.0.0.0/24")
            assert (await post(one, url_of(receiver.port))).taken
        assert (receiver.met, proxy.met) == (1, 0)

    run(story)


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A key and a certificate of its own for a name, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(who)
        .issuer_name(who)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / f"{name}.pem", folder / f"{name}.key"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return public, private


def test_tls_keeps_the_name_and_a_certificate_of_another_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    public, private = _certificate(tmp_path, "hooks.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(public))
    said: list[str | None] = []
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(public, private)
    tls.sni_callback = lambda connection, name, context: said.append(name)

    async def story() -> None:
        async with listening(Receiver(), tls=tls) as receiver:
            one = sender(Names(["127.0.0.1"]), "127.0.0.1")
            assert await post(one, url_of(receiver.port, "https")) == Outcome(204)
            assert said == ["hooks.example"]
            outcome = await post(one, read_url(f"https://other.example:{receiver.port}/"))
            assert (outcome.status, outcome.error[:10]) == (None, "no answer:")
            monkeypatch.delenv("SSL_CERT_FILE")
            stranger = await post(sender(Names(["127.0.0.1"]), "127.0.0.1"), url_of(receiver.port, "https"))
            assert "certificate" in stranger.error.lower()
        assert len(receiver.heard) == 1

    run(story)
