"""What travels over HTTP, in both directions: the codecs that the server and the Python client share.

    compute    the body of compute and explain calls: each field checked, and written by the client
    demands    standing requests, and how they stand
    events     what senders of events say has happened, and where
    registry   features as source text, and what a registry has
    views      answers: requests as they stand, results, events, features, explained steps
    value_rows many values as rows of an Arrow stream, each key with its value or why it has none
    pages      pages of assets and their like, and the queries that ask for them
    provenance what values are of and how they were made
    inline     values inside an answer: from JSON back to what the feature returned
    units      assets and units in answers
    problems   errors: problem documents, and the error class that one stands for
    json       decodes JSON from strangers, within limits on size, depth and numbers

Must not know: any HTTP library, services, files.
"""
