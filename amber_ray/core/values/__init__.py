"""What a feature's value may be: the annotations that declare it, and the check of a value against them.

Must not know: Arrow, how values are stored.
"""
