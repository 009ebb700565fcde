"""The OpenAPI description of the HTTP contract: written by hand, held to the app by tests."""
