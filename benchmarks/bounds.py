"""What bounds the benchmarks that miss their goal, as far as profiles have told; RESULTS.md quotes it.

By the beginning of a row's name. Kept beside the benchmarks so that a page is never without its reasons.
"""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.measure import Measured

BOUNDS = {
    "ledger": (
        "plain Python. An event is a task's end and moves seven states: two steps done, inputs let go, "
        "users readied, the next task formed. The profile is flat, some 280 calls of functions and "
        "dictionaries of 0.1 us each: a third chooses the next task, a tenth hands it over, a quarter takes "
        "in the report, a fifth is the request's own, and no function has more than a tenth. It does not "
        "bound a cluster: submitting a Ray task and taking in its result cost the same event loop three "
        "times as much."
    ),
    "catalogue: cold": (
        "both cores are busy nearly all the time, so it is processor time. Of 16 clips, 4.8 s against the "
        "script's 4.1: 2.9 in the model's process, 1.25 in the two workers, 0.35 in the cache actor, 0.2 in "
        "Ray's own processes and 0.1 in the client. A worker that Ray has to start takes 0.45 more. It is "
        "not the frames' way to the model: taking and opening a clip's frames costs a hundredth of what the "
        "model costs."
    ),
    "catalogue: warm": (
        "it is the new client's first question. Of the 13 ms for 120 values of 20 clips it takes 3 to look "
        "up the files (a `stat` and a row of the store for each), 1.3 to plan, 5 for a message to the actor "
        "and back, of which the actor works 0.9, and the others to unpack values and make the table. "
        "Python's code takes two to three times as long when it runs for the first time in a process. The "
        "peer knows where its one file is and how it is laid out."
    ),
    "catalogue: code changed": (
        "it is short: the first steps go one by one until it is known what they cost, and the workers "
        "load the new registry."
    ),
    "catalogue: clip added": (
        "decoding and the model run one after the other, in two processes, with three messages between them."
    ),
    "decoding beside FFmpeg: HEVC": (
        "FFmpeg's own decoding of the pictures that are needed, which is nearly all of the time. The day "
        "before it was 0.78; two runs differ by as much."
    ),
    "film: every picture as well": (
        "decoding. Where every picture is looked at none can be left out, so both decode and scale the same "
        "pictures; what is left to win is what the script does one after the other."
    ),
    "expected seconds": (
        "costs are learned while both cores are busy; the new clip has the machine for itself."
    ),
    "spill: small values": (
        "before and after the writing: a tenth of the processor time gathers what is told of each row, "
        "another tenth moves each key in index and ledger. Two threads write at once what the peer's one "
        "writes, with two checksums of every page; encoding lists takes most of that, theirs and the peer's."
    ),
    "restore: one value": (
        "two changes of thread in the client: to its event loop and to the thread that reads. A value is "
        "read by the client itself once the cache actor has told which rows of its part count; the reading "
        "takes 1.1 ms of processor time, checksums included. Until then, and on object stores, a value costs "
        "two messages to the actor, about 7 ms more."
    ),
    "small pictures": (
        "processor time, with both CPUs busy. Beside what the script takes, a third is the client's, which "
        "digests and probes each picture, plans it and writes what is known of it; a third is the cache "
        "actor's, for Ray's calls and the values' rows. The rest is the workers': a value is checked against "
        "its type and kept so that no feature changes what another one reads, and the same functions take "
        "longer beside two more busy processes."
    ),
    "start: amber get": (
        "one thing after the other on two busy CPUs: the features' code is looked through, half a second of "
        "processor time, before the store is read; once Ray is up, the cache actor's process and a worker "
        "import what they need."
    ),
    "start: amber serve": (
        "the features' code is looked through, half a second of processor time, and the cache actor and a "
        "replica import Amber, where the empty application has neither."
    ),
    "found units: a catalogue": (
        "the finder's own steps, one more for each asset, whose ranges the workers send; and keys. The cache "
        "actor takes 0.42 s for ten thousand units instead of 0.33: it makes the keys of found units when "
        "their windows are there, those of a grid are made by the client."
    ),
    "found units: growth": (
        "the cache actor's one event loop, and where its objects lie. No function is called more often for "
        "a unit, and all processes together take no more processor time for each (0.12 ms). But the ledger "
        "takes 18 us for each of 100,000 and 14 us for each of 10,000, with and without garbage collection; "
        "presumably the entries of so many are in no processor's cache. Nobody is heard while a hundred "
        "thousand units are handed to the request that waits for them, in one event of 0.6 s of processor "
        "time: a request that has some of a finder's units would need rules of its own for whatever befalls "
        "the finder then."
    ),
    "found units: decoding": (
        "each task opens the film and decodes it from the key picture before its first window, which may lie "
        "seconds before. The first tasks have one window each, until it is known what windows cost, and the "
        "last ones few, so that no CPU is idle at the end; in a short film those are half of all tasks."
    ),
    "get_many: again": (
        "the client's own work per value: a row of the table with its unit, state and provenance, and "
        "the value unpickled; the peer unpickles a dict."
    ),
    "get_many: large arrays": (
        "the first question of the client; where there are many arrays it does not show."
    ),
    "catalogue of no-ops": "the first task of each worker; where there are many steps it does not show.",
    "warm actors: batches": "few pictures: the last batch of each actor is not full.",
    "scaling": "what is given out last: with few steps, some CPUs end early.",
    "calls: a slow service": (
        "processor time, 2 ms for each call over all processes, half of it in the actor that makes it and in "
        "the cache actor; where calls are short, that is what they take."
    ),
    "growth": "too few sizes to fit.",
}


def reasons(measured: Sequence[Measured]) -> list[str]:
    """A line of Markdown for each that is above its limit."""
    lines = []
    for m in measured:
        if not m.within:
            why = next(
                (text for name, text in BOUNDS.items() if m.name.startswith(name)), "not explained yet."
            )
            lines.append(f"- **{m.name}**, {m.ratio:.2f} where {m.limit:.2f} is the goal: {why}")
    return lines
