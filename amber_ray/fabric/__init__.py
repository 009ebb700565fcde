"""Ray, and nothing above it: the cache actor, the tasks it runs, warm pools, and the engine that asks it.

Ray is imported here and in `serving/deployment.py` only. The rest of Amber sees `core.service.Service`.
"""
