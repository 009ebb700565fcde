from __future__ import annotations

import pytest

from amber_ray.serving.negotiate import choose

OFFERS = ("application/json", "image/jpeg", "image/png")


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "application/json"),
        ("", "application/json"),
        ("*/*", "application/json"),
        ("*", "application/json"),
        ("image/*", "image/jpeg"),
        ("IMAGE/PNG", "image/png"),
        ("image/png, image/jpeg", "image/jpeg"),
        ("image/jpeg;q=0.1, image/png;q=0.2", "image/png"),
        ("image/*;q=0.9, image/jpeg;q=0.1, */*;q=0.5", "image/png"),
        ("*/*, application/json;q=0", "image/jpeg"),
        ("text/html;level=1, image/png; v=2; q=0.3", "image/png"),
        ("image/png;q=2, application/json", "application/json"),
        ("text/html", None),
        ("garbage", None),
        (",;,/", None),
        ("*/*;q=0", None),
    ],
)
def test_choose(accept, chosen):
    assert choose(accept, OFFERS) == chosen
