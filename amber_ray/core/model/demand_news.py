"""What a demand's callback is to be told: how the state differs from what it was told before.

    state    became 7   findings: all true            what a steward has noted
    telling  became 4   findings: one asset failed    what was told of it
    news     result: 3 became true; done: all is true

It is level and not edge, as sweeps are: what could not be told now is told with the next state, together with
what has come since. Must not know: where states are kept, how messages are sent.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from amber_ray.core.model.callback import CallbackEvent
from amber_ray.core.model.demands import FAILING_KNOWN, Demand, DemandState, Findings, Message


class News(NamedTuple):
    """One thing that a callback is told: which, and the numbers of assets that go with it."""

    event: CallbackEvent
    assets: Mapping[str, int]


def findings(became: int, all_true: bool, failing: Iterable[str], before: Findings, blind: bool) -> Findings:
    """How a demand stands at the end of a look, with these failing places.

    `blind`: some places could not be seen; what failed `before` is taken to be failing still, since it would
    be told anew when it is seen again.
    """
    places = {hashlib.blake2b(uri.encode(), digest_size=6).hexdigest() for uri in failing}
    if blind:
        places.update(before.failing)
    return Findings(became, all_true, len(places), tuple(sorted(places)[:FAILING_KNOWN]))


def news(demand: Demand, state: DemandState) -> list[News]:
    """What is to be told now, of what the demand's callback wants to hear."""
    told, now, status = state.telling, state.findings, state.status
    if demand.callback is None or (told.became, told.findings) == (state.became, now):
        return []
    found = []
    if (fresh := state.became - told.became) > 0:
        found.append(News("result", {"became_true": fresh}))
    if fails := _newly_failing(told.findings, now):
        found.append(
            News(
                "failed",
                {"seen": status.seen, "true": status.true, "failed": now.failed, "newly_failed": fails},
            )
        )
    # All true again: it was not in between, also where no state says so, if an asset has become true since.
    if now.all_true and not (told.findings.all_true and told.findings.became == now.became):
        found.append(News("done", {"seen": status.seen, "true": status.true}))
    return [one for one in found if one.event in demand.callback.on]


def _newly_failing(before: Findings, now: Findings) -> int:
    if _each_known(before, now):
        return len(set(now.failing).difference(before.failing))
    return max(0, now.failed - before.failed)


def _each_known(*some: Findings) -> bool:
    return all(len(one.failing) == one.failed for one in some)


def told(demand: Demand, state: DemandState, life: str, timestamp: str) -> DemandState:
    """The state with its news as messages that are unsent, which say this time.

    `life` is a new name, for a state that has told nothing yet.
    """
    telling = state.telling
    life, number = telling.life or life, telling.number
    messages = list(telling.unsent)
    for one in news(demand, state):
        number += 1
        type = f"demand.{one.event}"
        messages.append(Message(f"d{number}_{life}", type, _body(type, demand, one, timestamp)))
    return state._replace(
        telling=telling._replace(
            life=life, number=number, became=state.became, findings=state.findings, unsent=tuple(messages)
        )
    )


def untold(state: DemandState) -> DemandState:
    """The state when its news can't be told now: what is not so any more is as if it had not been told.

    So that an end that comes, goes and comes again meanwhile is told once there is room.
    """
    telling, now = state.telling, state.findings
    before = telling.findings
    still = tuple(one for one in before.failing if one in now.failing)
    failed = len(still) if _each_known(before, now) else min(before.failed, now.failed)
    kept = before._replace(all_true=before.all_true and now.all_true, failed=failed, failing=still)
    return state._replace(telling=telling._replace(became=min(telling.became, state.became), findings=kept))


def _body(type: str, demand: Demand, one: News, timestamp: str) -> str:
    """A message: whose it is and where to ask. It names no media, whose URLs may have secrets."""
    return json.dumps(
        {
            "type": type,
            "timestamp": timestamp,
            "data": {
                "demand": demand.name,
                "tenant": demand.tenant,
                "assets": dict(one.assets),
                "links": {"demand": f"/v1/demands/{demand.name}"},
            },
        }
    )
