"""The shell of one ledger: turns calls, task ends and time into events, and performs its commands.

Its interface is `Shard`, which an engine calls, and the ports that an adapter must provide (`ports`).
Must not know: engines, Ray, threads, files, the clock of this machine.
"""
