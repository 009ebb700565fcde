"""What runs on Ray workers: steps, warm models, reading and writing of parts.

Must not know: the shard that asked for it.
"""
