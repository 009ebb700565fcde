"""The ledger's vocabulary: the states of a key and the transitions between them, events and commands.

    entry    `Entry`, its `State`, and `TRANSITIONS`: the table of all changes of state
    events   events, which the shell feeds in, and commands, which the ledger answers with

Must not know: any policy, that is, which command follows which event.
"""
