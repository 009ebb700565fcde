"""Which ready steps form the next task: fusion, packing, batches, priorities and fair shares.

Must not know: requests, values.
"""
