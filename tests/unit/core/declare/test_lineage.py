"""Registries that were made of others: what makes one again is a chain with an end, whatever came back."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from amber_ray.core.declare.lineage import Lineage

digests = st.sampled_from("abcdef")


@given(st.lists(digests, max_size=12))
def test_every_registry_is_reached_from_the_service_s_own(made: list[str]) -> None:
    """A client goes from registry to registry, and may come back to any, its service's own included."""
    lineage, here = Lineage[tuple[str, str]](), "own"
    for digest in [*made, "own", *made]:
        if digest != here:
            lineage.note(digest, here, (here, digest))
            here = digest
    for digest in set(made):
        steps = lineage.steps(digest)
        assert steps[0][0] == "own"
        assert [a[1] for a in steps[:-1]] == [b[0] for b in steps[1:]]
        assert steps[-1] == lineage.last(digest)
        assert steps[-1][1] == digest
    assert lineage.steps("own") == []
