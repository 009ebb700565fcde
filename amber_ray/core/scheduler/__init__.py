"""Which ready steps form the next task: fusion, packing, batches, priorities and fair shares.

- `schedule`: `Scheduler`, which the ledger pushes ready steps to and takes tasks from;
- `queues`: the ready steps in order, and the fair share between tenants;
- `capacity`: what the cluster has, what tasks hold, and whether one more is admitted;
- `calls`: slots and rates of features that call services;
- `costs`: how long steps take and how large values are, as far as that is known.

Must not know: requests, values.
"""
