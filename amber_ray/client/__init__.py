"""Asking Amber from Python: `connect`, `aconnect`, and what they give.

    address        `connect` and `aconnect`: from an address to a service, by one of four modules:
    ├ lazy         an Amber of one's own, which begins as a reader of its store
    │ └ embedded   an engine in this process, on a Ray of its own or the cluster's
    │   └ own_ray  the Ray that this process started: who uses it, which stores are open in it
    ├ http         a server over HTTP: `HttpService`
    │ ├ sending    features as source text, for a server that takes them
    │ ├ retry      which calls may be sent again, and when
    │ ├ value_stream   reads many values from an Arrow stream, while it arrives
    │ └ sse        parses server-sent events
    └ ray          a cluster from outside, over Ray Client

    api            `AsyncClient`: every method that a caller has, over any `Service`
    ├ exchange     one request: submit, watch, collect its values, withdraw
    ├ futures      `AsyncFuture`: a request that goes on by itself
    ├ sweep        a catalogue of any length: a window of requests, a new one sent whenever one ends
    ├ ended        which assets of a running request have ended
    ├ windows      cuts a list of assets into requests that a server takes
    ├ stored       what is stored already, and the loading of values in batches; computes nothing
    ├ selection    what the caller asked for, and the part of the answers that `get` returns
    ├ registered   which features a request means by decorated objects; `register`, where that can be
    │ └ declared   decorated objects: their code as it is now, their inputs, how they differ from others
    ├ names        how features and assets may be named, and what is sent for each name
    ├ results      `Results`: answers under the caller's own names
    │ ├ row        `Row`: one feature for one unit
    │ ├ windowed   the values of an asset's windows: a list that also has the windows
    │ ├ params     one mapping of parameters, or a list of them
    │ ├ tables     results for pandas, polars and Arrow
    │ ├ display    results as HTML, for notebooks
    │ └ pictures   values that are pictures, as notebooks show them
    └ progress     the progress bar on stderr

    sync           `Client` and `Future` for threads, made from the async ones
    └ loop         the event loop, on a thread of its own, that they run on
    version_lock   which code each pinned version was first used with, for `amber check`

Importing this loads neither ray, torch nor pyarrow.
"""

from amber_ray.client.address import aconnect, connect
from amber_ray.client.api import AsyncClient
from amber_ray.client.futures import AsyncFuture, Progress
from amber_ray.client.registered import Registration
from amber_ray.client.results import Results
from amber_ray.client.row import Row
from amber_ray.client.sync import Client, Future

__all__ = [
    "AsyncClient",
    "AsyncFuture",
    "Client",
    "Future",
    "Progress",
    "Registration",
    "Results",
    "Row",
    "aconnect",
    "connect",
]
