"""The nouns of the interface: units of media, requests, results, and the `Service` that answers them.

Must not know: how features are declared.
"""
