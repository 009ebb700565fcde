"""What OpenAPI says of the HTTP contract: schemas and the parts of operations, written by hand.

The operations themselves are declared with their handlers, in `serving.routes`. Tests hold the document to
every answer of the app.
"""
