"""Where ports listen, and what is refused before anything starts."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from amber_ray.errors import BadRequest, Unavailable
from amber_ray.serving import deployment, front
from amber_ray.settings import Limits, Settings

# The lines of Serve's template that say where HAProxy listens, in its order and with its indentation.
CONFIG = """frontend prometheus
    bind :9101
    mode http
frontend http_frontend
    bind {front}:8000
    acl is_amber path_beg /
listen stats
  bind *:8404
  stats enable
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "localhost", "::1"])
def test_loopback_needs_no_token(host):
    assert front.is_loopback(host)
    front.refuse_unsafe(Settings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "198.51.100.5", "amber.example", "", "localhost.example"])
def test_any_other_host_does(host):
    with pytest.raises(BadRequest, match="API tokens are needed"):
        front.refuse_unsafe(Settings(host=host))
    front.refuse_unsafe(Settings(host=host, tokens=("sesame",)))


@pytest.mark.parametrize("token", ["", " ", "a ", "tøken"])
def test_a_token_that_no_header_can_carry_is_refused(token):
    with pytest.raises(BadRequest, match="an API token must be"):
        front.refuse_unsafe(Settings(tokens=("good", token)))


def test_a_port_that_is_taken_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(Unavailable, match=rf"can't listen on 127\.0\.0\.1:{port}"):
            deployment.environment(Settings(port=port))


def test_ports_that_are_free_are_kept_and_taken_ones_replaced():
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        port = taken.getsockname()[1]
        [first, second] = front.free_ports([port, 0])
    assert first not in (port, 0)
    assert second != first
    assert front.free_ports([port]) == [port]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the kernel says which it hands out")
def test_a_port_of_no_matter_which_is_none_that_another_process_is_handed_meanwhile():
    handed_out = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = front.free_ports([0] * 20)
    assert len(set(ports)) == 20
    assert all(port < handed_out for port in ports)


@pytest.mark.parametrize(
    ("host", "wrote", "bind"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1:8000"),
        ("localhost", "127.0.0.1", "127.0.0.1:8000"),
        ("::1", "127.0.0.1", "[::1]:8000"),
        ("0.0.0.0", "*", "0.0.0.0:8000"),
        ("198.51.100.5", "*", "198.51.100.5:8000"),
    ],
)
def test_haproxy_listens_where_it_was_told_and_its_own_pages_on_loopback(
    host, wrote, bind, monkeypatch, tmp_path
):
    haproxy = tmp_path / "real haproxy"
    haproxy.write_text('#!/bin/sh\necho "$@"\n')
    haproxy.chmod(0o700)
    monkeypatch.setattr(front, "_haproxy", lambda: str(haproxy))
    variables = front.environment(Settings(host=host, tokens=("sesame",)))
    base = variables["RAY_SERVE_HAPROXY_SERVER_STATE_BASE"]
    try:
        config = tmp_path / "haproxy.cfg"
        config.write_text(CONFIG.format(front=wrote))
        ran = subprocess.run(
            [variables["RAY_SERVE_HAPROXY_BINARY_PATH"], "-db", "-f", str(config), "-sf", "7"],
            capture_output=True,
            text=True,
            timeout=20,
            check=True,
        )
        assert ran.stdout == f"-db -f {config} -sf 7\n"
        assert config.read_text() == CONFIG.replace(":9101", "127.0.0.1:9101").replace(
            "*:8404", "127.0.0.1:8404"
        ).replace("{front}:8000", f"{bind}\n    {front.PRINTABLE}\n    {front.UNKNOWN}")
        # HAProxy makes its socket under a name longer by a process id, below a folder with a node's id.
        longest = f"{base}/{'0' * 56}/admin.sock.4194304.tmp"
        assert len(longest) <= 107
    finally:
        front.remove(base)
    assert not os.path.exists(base)


def test_two_servers_share_neither_files_nor_folders(monkeypatch):
    monkeypatch.setattr(front, "_haproxy", lambda: shutil.which("true"))
    one, two = (front.environment(Settings()) for _ in range(2))
    try:
        paths = [v for v in one.values() if v.startswith("/")]
        assert len(paths) == 6
        assert not set(paths) & set(two.values())
    finally:
        front.remove(one["RAY_SERVE_HAPROXY_SERVER_STATE_BASE"])
        front.remove(two["RAY_SERVE_HAPROXY_SERVER_STATE_BASE"])


@pytest.mark.parametrize("wait", [60.0, 3600.0])
def test_a_change_of_replicas_cuts_nobody_off_who_waits(monkeypatch, tmp_path: Path, wait: float):
    monkeypatch.setattr(front, "_haproxy", lambda: shutil.which("true"))
    monkeypatch.setattr(front, "PLACE", str(tmp_path))
    settings = Settings(limits=Limits(wait_seconds=wait))
    assert float(front.environment(settings)["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"]) > wait


def test_folders_of_killed_servers_are_swept_and_of_living_ones_kept(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(front, "_haproxy", lambda: shutil.which("true"))
    monkeypatch.setattr(front, "PLACE", str(tmp_path))
    living = Path(front.environment(Settings())["RAY_SERVE_HAPROXY_SERVER_STATE_BASE"])
    # A process of its own makes a folder and ends without a word.
    code = (
        "import os, sys\nfrom amber_ray.serving import front\nfrom amber_ray.settings import Settings\n"
        "front.PLACE, front._haproxy = sys.argv[1], lambda: '/bin/true'\n"
        "front.environment(Settings())\nos._exit(9)\n"
    )
    assert (
        subprocess.run([sys.executable, "-c", code, str(tmp_path)], timeout=60, check=False).returncode == 9
    )
    [killed] = {path.parent for path in tmp_path.glob("amber-*/haproxy")} - {living}
    front.sweep()
    assert killed.exists()  # too young: its owner may be about to lock it
    for owner in (living, killed):
        os.utime(owner / front.OWNER, (0, 0))
    front.sweep()
    assert not killed.exists()
    assert living.exists()
    front.remove(str(living))


def test_only_a_folder_of_its_own_is_removed(tmp_path: Path):
    (tmp_path / "precious").touch()
    front.remove(str(tmp_path))
    front.remove(None)
    assert (tmp_path / "precious").exists()


def test_build_refuses_what_would_be_open(monkeypatch):
    monkeypatch.delenv("AMBER_TOKENS", raising=False)
    with pytest.raises(BadRequest, match="API tokens are needed"):
        deployment.build({"host": "0.0.0.0"})
    with pytest.raises(BadRequest, match="unknown setting 'hots'"):
        deployment.build({"hots": "127.0.0.1"})


def test_build_takes_tokens_from_the_environment(monkeypatch):
    bound = []
    monkeypatch.setattr(deployment, "application", bound.append)
    monkeypatch.setenv("AMBER_TOKENS", "one, two,,")
    deployment.build({"host": "0.0.0.0"})
    deployment.build({"host": "0.0.0.0", "tokens": ["mine"]})
    assert [settings.tokens for settings in bound] == [("one", "two"), ("mine",)]
