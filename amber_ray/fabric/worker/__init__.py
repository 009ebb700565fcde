"""What runs on Ray workers: steps, warm models, reading and writing of parts.

    tasks         runs the steps of a task in order, checks each value, and sends it inline or in a slot
    warm          the same for a class feature, in an actor that keeps its model: batches, GPU memory
    calls         the same for an `async def` feature, in an actor with many calls in flight
    later         what a feature raises, as a wish to be tried again later
    now           which step runs, for lines of the log that are written meanwhile
    imports       makes whole again what a cancelled step had begun to import
    snapshot      a value as it was when the step returned it, which no later step can change
    store_tasks   writes values to Parquet and reads them back, as tasks or, small ones, in the cache actor
    watchdog      ends the process when a step runs past its timeout

Must not know: the shard that asked for it.
"""
