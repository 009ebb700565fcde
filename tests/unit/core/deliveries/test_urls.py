"""Which URLs a callback may have, and a corpus of what parsers read differently."""

from __future__ import annotations

import pytest

from amber_ray.core.deliveries.policy import Policy
from amber_ray.core.deliveries.urls import read_hosts, read_url
from amber_ray.errors import BadRequest
from amber_ray.settings import Settings

HOSTS = (
    "hooks.example",
    "hooks.example:8443",
    "http://plain.example",
    "bücher.example",
    "192.0.2.7",
    "[::1]:90",
)

SECRET = "whsec_" + "a" * 32
ALLOWED = Policy.of(Settings(callback_hosts=HOSTS, callback_secrets=(SECRET,)))


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("https://hooks.example", "https://hooks.example/"),
        ("https://hooks.example/a/b?c=d&e=%20", "https://hooks.example/a/b?c=d&e=%20"),
        ("HTTPS://Hooks.EXAMPLE:443/", "https://hooks.example/"),
        ("https://hooks.example./a", "https://hooks.example/a"),
        ("https://hooks.example:8443/a", "https://hooks.example:8443/a"),
        ("https://hooks.example:08443/a", "https://hooks.example:8443/a"),
        ("http://plain.example?a", "http://plain.example/?a"),
        ("https://BÜCHER.example/", "https://xn--bcher-kva.example/"),
        ("https://ｈｏｏｋｓ。example/", "https://hooks.example/"),
        ("https://192.0.2.7/", "https://192.0.2.7/"),
        ("https://[0:0:0:0:0:0:0:1]:90/", "https://[::1]:90/"),
    ],
)
def test_a_url_of_a_host_that_is_named_is_read_in_its_canonical_form(given: str, read: str) -> None:
    assert str(ALLOWED.allow(given)) == read


# What no list of hosts may let through, whatever a parser would make of it.
MALFORMED = [
    "",
    "hooks.example/a",
    "//hooks.example/a",
    "https:hooks.example",
    "https:/hooks.example",
    "https:///hooks.example",
    "https://",
    "https://:443/",
    "ftp://hooks.example/",
    "file:///etc/passwd",
    "gopher://hooks.example/",
    "javascript://hooks.example/%0aalert(1)",
    "https://user@hooks.example/",
    "https://user:secret@hooks.example/",
    "https://hooks.example@evil.example/",
    "https://evil.example\\@hooks.example/",
    "https://hooks.example\\@evil.example/",
    "https://hooks.example\\.evil.example/",
    "https://hooks.example/\\evil",
    "https://hooks.example/#fragment",
    "https://evil.example#@hooks.example/",
    "https://evil.example?@hooks.example/\u00e9",
    " https://hooks.example/",
    "https://hooks.example/ ",
    "https://hooks.example/\n",
    "https://hooks.example/a\r\nHost: evil.example",
    "https://hooks.exam\tple/",
    "https://hooks.example /",
    "https://hooks.example\x00.evil.example/",
    "https://hooks.example%2eevil.example/",
    "https://%68ooks.example/",
    "https://hooks..example/",
    "https://.hooks.example/",
    "https://hooks.example../",
    "https://-hooks.example/",
    "https://" + "a" * 64 + ".example/",
    "https://" + "a." * 130 + "example/",
    "https://hooks.example:/",
    "https://hooks.example:0/",
    "https://hooks.example:65536/",
    "https://hooks.example:4 43/",
    "https://hooks.example:+443/",
    "https://hooks.example:443:443/",
    "https://hooks.example:４４３/",
    "https://0x7f.0.0.1/",
    "https://0x7f000001/",
    "https://0177.0.0.1/",
    "https://127.1/",
    "https://127.0.0.1.5/",
    "https://2130706433/",
    "https://127.0.0.256/",
    "https://１２７.１/",
    "https://⑯⑨.254.169.254.1/",
    "https://a.0x1/",
    "https://[::1/",
    "https://::1/",
    "https://[::1]evil.example/",
    "https://[::1]]/",
    "https://[fe80::1%25eth0]/",
    "https://[fe80::1%eth0]/",
    "https://[127.0.0.1]/",
    "https://[v1.a]/",
    "https://hooks.example/" + "a" * 2048,
]


@pytest.mark.parametrize("url", MALFORMED)
def test_what_is_no_plain_url_is_refused_in_a_sentence(url: str) -> None:
    with pytest.raises(BadRequest, match=r"^callback\.url ") as caught:
        read_url(url)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/",
        "https://hooks.example.evil.example/",
        "https://xhooks.example/",
        "https://sub.hooks.example/",
        "http://hooks.example/",
        "https://plain.example/",
        "https://hooks.example:80/",
        "https://hooks.example:8444/",
        "http://plain.example:8080/",
        "https://169.254.169.254/latest/meta-data/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:192.0.2.7]/",
        "https://xn--hoks-0ra.example/",
    ],
)
def test_a_url_that_leads_elsewhere_is_refused(url: str) -> None:
    with pytest.raises(BadRequest, match="callback_hosts do not name it"):
        ALLOWED.allow(url)


def test_without_a_list_of_hosts_no_callback_is_made() -> None:
    with pytest.raises(BadRequest, match=r"this server makes no callbacks; .*callback_hosts"):
        Policy.of(Settings()).allow("https://hooks.example/")


@pytest.mark.parametrize(
    "entry",
    ["", "*", "*.example", "hooks.example/a", "ftp://a.example", "a.example:x", "https://", "u@a.example"],
)
def test_an_entry_that_names_no_host_is_refused(entry: str) -> None:
    with pytest.raises(BadRequest, match="callback_hosts must have entries such as"):
        read_hosts([entry])


def test_settings_that_can_not_be_right_are_refused_at_the_start() -> None:
    for wrong, said in (
        ({"callback_hosts": ("a.example",)}, "callback_hosts needs callback_secrets"),
        ({"callback_hosts": ("a.example/b",), "callback_secrets": (SECRET,)}, "callback_hosts must have"),
        ({"callback_secrets": ("whsec_short",)}, "callback_secrets must be"),
        ({"callback_addresses": ("here",)}, "callback_addresses must have"),
    ):
        with pytest.raises(BadRequest, match=said):
            Policy.of(Settings(**wrong))
