"""`Service` over the shards: plans requests, sends each shard its part, follows the answers, reads values.

Its interface is `Engine`, and the ports that an adapter must provide (`ports`).
Must not know: what a shard is made of, Ray.
"""
