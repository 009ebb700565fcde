"""A thousand pictures in one request to a model on warm actors, against a loop over them in one process."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.measure import Measured, paired, seconds
from benchmarks.session import Session, main

if TYPE_CHECKING:
    from amber_ray import Asset
    from amber_ray.features.embedding import Embedding

SIZE = 320, 240


def run(session: Session) -> list[Measured]:
    """The time, with the model loaded on both sides, and how full the batches were."""
    from amber_ray.features.embedding import Embedding

    count, rounds = session.size((1000, 1), (24, 1))
    batch: int = Embedding.__amber__.batch  # type: ignore[attr-defined]
    model = Embedding()
    paths = pictures(session.folder / "pictures", count)
    first = pictures(session.folder / "first", 2 * batch, seed=1)
    taken: list[tuple[float, float]] = []
    found: list[Sequence[np.ndarray]] = [(), ()]
    with session.client(builtins=True) as client:
        client.get_many(["embedding"], first, progress=False)
        assets = [client.asset(path) for path in paths]

        def ours() -> float:
            client.purge(feature="embedding")
            before = client.stats()

            def ask() -> None:
                table = client.get_many(["embedding"], paths, progress=False)
                found[0] = [row.value for row in table.rows]

            took = seconds(ask)
            after = client.stats()
            taken.append(
                (
                    after["warm_batches_total"] - before["warm_batches_total"],
                    after["warm_items_total"] - before["warm_items_total"],
                )
            )
            return took

        def peer() -> float:
            def loop() -> None:
                found[1] = by_hand(model, assets, batch)

            return seconds(loop)

        ours_seconds, peer_seconds = paired(ours, peer, rounds, warm=False)
    for mine, other in zip(found[0], found[1], strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-3, atol=1e-3)
    batches, items = (sum(column) / rounds for column in zip(*taken, strict=True))
    what = f"embedding of {count} pictures of {SIZE[0]}x{SIZE[1]} in one request, the model loaded"
    return [
        Measured(
            "warm actors: time",
            what,
            f"a loop in one process that decodes {batch} and embeds them together, with torch's own threads",
            ours_seconds,
            peer_seconds,
            "s",
            1.5,
        ),
        Measured(
            "warm actors: batches",
            f"batches for them: {items / batches:.2f} pictures each on average",
            f"full batches of {batch}",
            batches,
            float(-(-count // batch)),
            "batches",
            1.25,
        ),
    ]


def by_hand(model: Embedding, assets: Sequence[Asset], batch: int) -> list[np.ndarray]:
    """What one would write: the same decoding, preparation and network, `batch` pictures at a time."""
    from amber_ray.core.model.units import segments
    from amber_ray.features.frames import frames

    made: list[np.ndarray] = []
    for i in range(0, len(assets), batch):
        clips = [segments(asset, 60.0)[0] for asset in assets[i : i + batch]]
        made += model.batch([frames(clip) for clip in clips])
    return made


def pictures(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """That many JPEGs, each another one."""
    from PIL import Image

    folder.mkdir()
    rng = np.random.default_rng(seed)
    paths = [folder / f"{i}.jpg" for i in range(count)]
    for path in paths:
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), np.uint8))
        data = io.BytesIO()
        coarse.resize(SIZE, Image.Resampling.BICUBIC).save(data, "JPEG", quality=90)
        path.write_bytes(data.getvalue())
    return paths


if __name__ == "__main__":
    raise SystemExit(main(run))
