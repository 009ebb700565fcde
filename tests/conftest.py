"""What holds for every test: examples that do not change from run to run, and no clusters but its own."""

from __future__ import annotations

import os
import signal

from hypothesis import HealthCheck, settings

# Read by Ray when it is imported: no phoning home, and authentication said rather than guessed. A test that
# wants tokens says so for the processes that it starts.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.pop("RAY_ADDRESS", None)

# What a shell runs in the background ignores interrupts, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile(
    "amber",
    deadline=None,
    derandomize=True,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("amber")
