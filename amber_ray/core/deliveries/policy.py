"""What an operator allows: which URLs and addresses are called, and which secrets messages are signed with.

Read from the settings once, so that what is wrong in them is told at a start and not at the first callback.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amber_ray.core.deliveries.addresses import Network, read_networks
from amber_ray.core.deliveries.signature import key_of
from amber_ray.core.deliveries.urls import CallbackUrl, Origin, read_hosts, read_url
from amber_ray.errors import BadRequest
from amber_ray.settings import Settings


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings `callback_hosts`, `callback_addresses` and `callback_secrets`, read."""

    hosts: frozenset[Origin]
    networks: Sequence[Network]
    secrets: tuple[str, ...]

    @classmethod
    def of(cls, settings: Settings) -> Policy:
        """Read the settings. Raises `BadRequest` naming the one that is wrong."""
        for secret in settings.callback_secrets:
            key_of(secret)
        if settings.callback_hosts and not settings.callback_secrets:
            raise BadRequest("callback_hosts needs callback_secrets, which callbacks are signed with")
        return cls(
            read_hosts(settings.callback_hosts),
            read_networks(settings.callback_addresses),
            settings.callback_secrets,
        )

    def allow(self, text: str) -> CallbackUrl:
        """Read a callback's URL. Raises `BadRequest` for one that is none, or leads to no host named."""
        if not self.hosts:
            raise BadRequest(
                "this server makes no callbacks; its operator may name the hosts that they go to "
                "(callback_hosts)"
            )
        url = read_url(text)
        if url.origin not in self.hosts:
            raise BadRequest(
                f"callback.url may not lead to {url.origin}; the server's callback_hosts do not name it"
            )
        return url
