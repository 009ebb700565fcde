"""The graph as Pixeltable's UDFs. Values that are no JSON travel as bytes."""

import pickle

import pixeltable as pxt

from benchmarks.peers import graph


@pxt.udf
def looks(asset: bytes) -> bytes:
    return pickle.dumps(graph.looks(pickle.loads(asset)))  # noqa: S301 - its own bytes


@pxt.udf
def thumbnail(asset: bytes) -> bytes:
    return graph.thumbnail(pickle.loads(asset))  # noqa: S301 - its own bytes
