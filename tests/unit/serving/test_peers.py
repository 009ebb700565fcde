from __future__ import annotations

import socket

import pytest

from amber_ray.serving import peers
from amber_ray.serving.peers import Locals, is_own


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.9.10", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_this_machine(address):
    assert is_own(address)


@pytest.mark.parametrize(
    "address",
    [
        "203.0.113.7",
        "2001:db8::1",
        "0.0.0.0",
        "::",
        "255.255.255.255",
        "224.0.0.1",
        "localhost",
        "",
        "127.0.0.1:80",
    ],
)
def test_others_and_what_is_no_address_are_not(address):
    assert not is_own(address)


def test_every_address_that_a_socket_can_be_bound_to_is_this_machine():
    for family, _, _, _, address in socket.getaddrinfo(socket.gethostname(), 0, type=socket.SOCK_DGRAM):
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as bound:
                bound.bind(address)
        except OSError:
            continue
        assert is_own(address[0])


def test_verdicts_are_remembered_for_a_while_and_not_without_end(monkeypatch):
    now = [0.0]
    asked = []
    monkeypatch.setattr(peers, "is_own", lambda address: asked.append(address) or True)
    own = Locals(seconds=5.0, clock=lambda: now[0])
    assert "198.51.100.5" in own
    assert "198.51.100.5" in own
    assert asked == ["198.51.100.5"]
    now[0] = 5.0
    assert "198.51.100.5" in own
    assert len(asked) == 2
    for n in range(2 * peers.REMEMBERED):
        assert f"10.0.{n // 256}.{n % 256}" in own
    assert len(own._verdicts) <= peers.REMEMBERED


@pytest.mark.parametrize(
    "header", ["localhost", "LocalHost:8000", "127.0.0.1", "[::1]", "[::1]:8000", " 127.0.0.1:1 "]
)
def test_is_host(header):
    assert Locals().is_host(header)


@pytest.mark.parametrize(
    "header", ["", ":80", "[", "[]", "example.com", "localhost:80:80", "127.0.0.1.nip.example"]
)
def test_is_no_host(header):
    assert not Locals().is_host(header)
