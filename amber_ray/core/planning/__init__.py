"""A request and a registry become a plan: every step that could be needed, each under its key.

- `plan`: `Planner`, recipes and steps;
- `fanout`: templates, and the steps that come of them for each window that a feature found;
- `pins`: features asked for by version; what to look for of those that are not made any more;
- `homes`: which shard owns a unit;
- `wanted`: what a demand asks of every asset, as a digest;
- `keys`: the Merkle digest that names a value;
- `codec`: steps as plain tuples for messages.

Must not know: what is stored already.
"""
