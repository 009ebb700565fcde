"""What OpenAPI says of the HTTP contract: schemas and the parts of operations, written by hand.

    schemas     a JSON Schema for each thing that travels, with an example
    parts       what operations are put together from: bodies, answers, refusals, parameters
    document    the whole document, from the operations that `serving.routes` declares

The operations themselves are declared with their handlers, in `serving.routes`. Tests hold the document to
every answer of the app.
"""
