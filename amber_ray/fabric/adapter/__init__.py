"""Binds the ports of `shard` and `engine` to Ray, files and the clock; the simulation replaces this alone.

Must not know: HTTP.
"""
