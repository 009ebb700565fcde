"""A request and a registry become a plan: every step that could be needed, each under its key.

Must not know: what is stored already.
"""
