"""`audio`, `spectrogram`, `waveform`: a segment's sound as samples, as levels of bands, as an outline.

`audio` decodes a segment once, with a little of what lies beyond its edges, so that what is made from it
(windows that reach across an edge) neither decodes again nor depends on where segments begin.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64

from amber_ray.core.declare.feature import feature
from amber_ray.core.model.units import Clip
from amber_ray.media.decode import window
from amber_ray.media.sound import mono, sample_at

RATE = 16_000
"""Samples a second: what models of speech and of sound events are trained on."""

CONTEXT = 1024
"""Samples of `audio` on either side of the segment: enough for windows up to 64 ms past an edge."""

WINDOW, HOP, TRANSFORM = 400, 160, 512
"""Samples: 25 ms, 10 ms, and the length that the Fourier transform fills up with zeros."""

BANDS, LOWEST, HIGHEST, OFFSET = 64, 125.0, 7500.0, 0.01
"""Bands, the range in Hz that they divide, and what is added before the logarithm (its floor: ln 0.01)."""

AT_ONCE = 4096
"""Windows that are transformed together: some 30 MB."""


@dataclass(frozen=True, slots=True, eq=False)
class Audio:
    """Mono sound: `samples[i]` is at (`first` + i) / `rate` seconds of the asset, full scale is 1.

    `before` and `after` are the samples that lie around them; silence beyond the ends of the sound.
    """

    rate: int
    first: int
    samples: Float32[np.ndarray, " n"]
    before: Float32[np.ndarray, " c"]
    after: Float32[np.ndarray, " c"]


@dataclass(frozen=True, slots=True, eq=False)
class Spectrogram:
    """One entry for each hop: `times` in seconds, where its window begins; `levels` ln(magnitude + 0.01)."""

    times: Float64[np.ndarray, " t"]
    levels: Float32[np.ndarray, "t 64"]


@dataclass(frozen=True, slots=True, eq=False)
class Waveform:
    """One entry for each hop: `times` in seconds, where it begins; the least and greatest sample in it."""

    times: Float64[np.ndarray, " t"]
    low: Float32[np.ndarray, " t"]
    high: Float32[np.ndarray, " t"]


@feature(version="3", per="segment", store="never")
def audio(clip: Clip) -> Audio:
    """The segment's sound: mono, 16,000 samples a second, on a grid that begins with the asset.

    The samples of neighbouring segments follow on each other, however long segments are; where a container
    rounds its time stamps to milliseconds (Matroska, FLV, ASF), to a fraction of one. The noise that a codec
    makes up by itself (AAC's PNS) is another one after each seek. Channels are mixed by FFmpeg's matrix; gaps
    in the stream are silence. Raises `MediaError` without sound.
    """
    start, end = window(clip)
    around = CONTEXT / RATE
    last = clip.asset.duration or 0.0 if end is None else end
    first, count = sample_at(start, RATE), sample_at(last, RATE) - sample_at(start, RATE)
    sound = mono(clip.asset, RATE, start - around, last + around, feature="audio")
    return Audio(RATE, first, sound[CONTEXT : CONTEXT + count], sound[:CONTEXT], sound[CONTEXT + count :])


@feature(version="1", per="segment")
def spectrogram(audio: Audio) -> Spectrogram:
    """Log-mel levels: 64 bands from 125 to 7,500 Hz, 25 ms windows every 10 ms of the asset.

    The input of VGGish (Hershey et al., "CNN architectures for large-scale audio classification", 2017),
    whose every constant this has: periodic Hann window, magnitudes (not powers) of a 512-point transform,
    HTK's mel formula 1127 ln(1 + f / 700), triangles of height 1 (no normalisation by their width), ln(x +
    0.01). Hop k is of the samples from k / 100 s on, and belongs to the segment in which it begins; past the
    end of the sound there is silence.
    """
    whole = np.concatenate([audio.samples, audio.after])
    begin, end = -(-audio.first // HOP), -(-(audio.first + len(audio.samples)) // HOP)
    levels = np.empty((end - begin, BANDS), np.float32)
    # Periodic: the last of 401 points, which equals the first, is left out.
    taper, bands = np.hanning(WINDOW + 1)[:-1], mel_bands()
    for some in range(begin, end, AT_ONCE):
        upto = min(some + AT_ONCE, end)
        piece = whole[some * HOP - audio.first : (upto - 1) * HOP - audio.first + WINDOW]
        windows = np.lib.stride_tricks.sliding_window_view(piece, WINDOW)[::HOP]
        magnitudes = np.abs(np.fft.rfft(windows * taper, TRANSFORM))
        levels[some - begin : upto - begin] = np.log(magnitudes @ bands + OFFSET)
    return Spectrogram(np.arange(begin, end) * (HOP / RATE), levels)


@feature(version="1", per="segment")
def waveform(audio: Audio) -> Waveform:
    """The outline of the sound: the least and the greatest sample of every 10 ms of the asset.

    Hop k is of the samples from k / 100 s on, and belongs to the segment in which it begins; past the end of
    the sound there is silence.
    """
    whole = np.concatenate([audio.samples, audio.after])
    begin, end = -(-audio.first // HOP), -(-(audio.first + len(audio.samples)) // HOP)
    hops = whole[begin * HOP - audio.first : end * HOP - audio.first].reshape(end - begin, HOP)
    return Waveform(np.arange(begin, end) * (HOP / RATE), hops.min(axis=1), hops.max(axis=1))


def mel_bands() -> np.ndarray:
    """The weight of each of the transform's bins in each band: float64[257, 64].

    Triangles over the mel scale, each from its left neighbour's centre to its right neighbour's.
    """
    bins = _mel(np.linspace(0, RATE / 2, TRANSFORM // 2 + 1))[:, None]
    edges = np.linspace(_mel(np.array(LOWEST)), _mel(np.array(HIGHEST)), BANDS + 2)
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    return np.asarray(np.maximum(0, np.minimum(rising, falling)))


def _mel(hertz: np.ndarray) -> np.ndarray:
    return np.asarray(1127.0 * np.log1p(hertz / 700.0))
