"""The ledger's vocabulary: the states of a key and the transitions between them, events and commands.

Must not know: any policy, that is, which command follows which event.
"""
