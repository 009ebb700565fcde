"""The rows of the HTTP contract, one module per noun; each has `routes(site)`."""
