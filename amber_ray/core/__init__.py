"""The pure core: keys, plans, the ledger, scheduling and budgets.

Nothing here imports Ray or asyncio, reads a clock, a file or the environment. Time and identifiers are
arguments, so a simulation can run this very code.
"""
