"""The digest of the code that a feature reaches: its function, what that calls, and constants.

Must not know: features, keys.
"""
