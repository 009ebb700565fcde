"""Declarations as a checked graph: `@feature`, signatures, resources, and the registry that holds them all.

    feature     `@feature`, and `FeatureSpec`, which it makes of a function or class
    signature   reads a function's parameters: the unit, the inputs, the feature's parameters
    resources   what one run holds: CPUs, GPUs, memory
    calls       features that call services: calls in flight, rates, `RetryLater`
    registry    all features of a service, checked as a graph: unknown inputs, cycles, units that don't fit
    loading     loads modules that declare features, by name or from a file
    lineage     how a client's registries were made of others
    texts       features that come as source text, loaded as a module of their own

Must not know: keys, requests.
"""
