"""What features do not see of the assets that somebody asked about: each asset's note, once.

Must not know: what was asked.
"""

from __future__ import annotations

from amber_ray.cli.terminal import note
from amber_ray.client.results import Results, asset_of

SHOWN = 5
"""Notes shown at most: a catalogue may have thousands of moving pictures."""


class Notes:
    """Gathers the notes of assets that have values, from tables as they come."""

    def __init__(self) -> None:
        self._noted: set[str] = set()
        self._shown: dict[str, str] = {}

    def add(self, results: Results) -> None:
        """Take the notes of one table."""
        for row in results.rows:
            asset = None if row.unit is None else asset_of(row.unit)
            if asset is None or row.asset is None or not asset.note or row.failure is not None:
                continue
            self._noted.add(row.asset)
            if len(self._shown) < SHOWN:
                self._shown[row.asset] = asset.note

    def show(self) -> None:
        """Tell them on stderr, the first few by name."""
        for name, text in self._shown.items():
            note(f"amber: note: {name}: {text}")
        more = len(self._noted) - len(self._shown)
        if more:
            note(f"amber: note: {more:,} more assets are not seen whole")
