"""What travels inside the cluster, between engines, shards and workers.

    messages        every message, as plain data; a value is inline or a place in a Ray object (`Slot`)
    new_rows        values on their way to Parquet, column by column
    pickled         the one place that unpickles small values
    classes         classes that can't be imported, beside values of theirs
    names           the names of the cache actors
    registry_blob   the code of a registry as one blob, with the user's modules, and its unpacking
    └ layers        the blob's parts: features are pickled when they are registered, and never again

Must not know: who sends or receives it.
"""
