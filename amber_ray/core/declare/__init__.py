"""Declarations as a checked graph: `@feature`, signatures, resources, and the registry that holds them all.

Must not know: keys, requests.
"""
