"""The ledger's vocabulary: states and the ways between them, events in, commands out.

Must not know: any policy, that is, which command follows which event.
"""
