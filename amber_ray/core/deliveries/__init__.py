"""Deliveries: one signed call of a URL for what became of a request, or for news of a demand.

A delivery is a record (`record`) that goes through four states, and every step is written before anybody
relies on it:

    request with a callback ──→ waiting ──request has ended──→ pending ──2xx──→ delivered
                                                               │  ↑  │            │
                                                      no answer└──┘  └─410, time──┴─→ failed
                                                        (backoff)         └── replay ──→ pending

News of a demand is pending from the beginning. What is sent, its id and its bytes, is settled when it becomes
pending, so a receiver that gets it twice sees the same message twice.

    record      `Delivery`: the states above, and what came of the attempts
    signature   signs a message as the Standard Webhooks specification says
    backoff     when a message that was not taken is sent again
    urls        which URLs may be called
    addresses   which addresses these may lead to
    policy      what settings say of all that

Must not know: the network, the store, requests, demands.
"""
