"""Who asks, and what they may: scopes, callers, and the tenant that a caller may ask for.

A caller is known by an API token, or by its address where there are none (`serving.guard`). Must not know:
HTTP, where tokens are kept.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from amber_ray.errors import Forbidden


class Scope(enum.StrEnum):
    """What a token may be good for. None contains another."""

    READ = "read"
    """Values, requests, features, numbers, and the pages for people."""
    COMPUTE = "compute"
    """Ask for features, name media, withdraw one's requests."""
    UPLOAD = "upload"
    """Send media to the store."""
    OPERATE = "operate"
    """Change what the store has, such as by a purge; and, where the server takes it, bring code."""


EVERY_SCOPE = frozenset(Scope)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks.

    - `name`: of the token, or what stands for one, for messages and the log; `token`: the token's name alone,
      empty without one;
    - `tenant`: the only one that it asks for; None: any that it names;
    - `scopes`: what it may do;
    - `brings_code`: whether it may register features, if the server takes any;
    - `rate`: how many requests a second it may send in the mean, `at_once`: how many it may have under way;
      None: as many as the server takes.
    """

    name: str
    tenant: str | None
    scopes: frozenset[Scope]
    brings_code: bool
    rate: float | None = None
    at_once: int | None = None
    token: str = ""

    def require(self, *scopes: Scope) -> None:
        """Raise `Forbidden` unless the caller has one of the scopes."""
        if self.scopes.isdisjoint(scopes):
            raise Forbidden(
                f"this needs a token with the scope {' or '.join(scopes)}; "
                f"{self.name} has {', '.join(sorted(self.scopes)) or 'none'}"
            )

    def require_tenant(self, tenant: str) -> None:
        """Raise `Forbidden` if the caller may not ask for this tenant."""
        if self.tenant is not None and tenant != self.tenant:
            raise Forbidden(
                f"{self.name} asks for the tenant {self.tenant!r}, not for {tenant!r}; leave the tenant out"
            )

    def chosen(self, named: str | None) -> str | None:
        """Whose requests are meant, a tenant being named or not; None: anybody's. Raises `Forbidden`."""
        if self.sees_all:
            return named
        if named is not None:
            self.require_tenant(named)
        return self.tenant

    @property
    def sees_all(self) -> bool:
        """Whether it may know of every tenant's requests."""
        return self.tenant is None or Scope.OPERATE in self.scopes

    def sees(self, tenant: str) -> bool:
        """Whether it may know of the requests of a tenant: its own, or all if it may operate."""
        return self.sees_all or self.tenant == tenant


THIS_MACHINE = Caller("this machine", None, EVERY_SCOPE, brings_code=True)
"""Whoever asks a server that has no tokens."""
