"""Sees to it that demands become true: lists media, compares, asks for what is missing, notes what is true.

    shard 0     `fabric.shard.demands`: the records, and who the steward is; has one process started
      │ tend: what is wanted, how it stands       ↑ note: this is true now
    steward     `Steward`: follows the demands, one `Keeper` for each
    └ keeper    `Keeper`: sweep after sweep of one demand; survives whatever a sweep raises
      └ sweep   `Sweep`: one look at the prefixes, and what is asked for because of it
    desk        the first shard, as a steward reaches it through its engine
    ports       what an adapter must provide: the desk, listings and runs

A sweep is level and not edge: it compares all that is there with all that was noted, so what was missed once
is found by the next. It notes that an asset is true after the values are stored, never before; a crash
between the two asks again, and finds them. So there may be two stewards for a moment, when one is taken for
dead: what both ask is computed once, as keys are, and only the present one's notes are taken.

Its interface is `Steward` and the ports. Must not know: Ray, threads, files, what a shard is made of.
"""
