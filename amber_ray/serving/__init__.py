"""HTTP: an ASGI app over any `Service`, and its deployment on Ray Serve.

What a request passes, from the outside inwards:

    front          HAProxy before the replicas: its configuration, its ports, its temporary files
    deployment     the Serve replica, `build` for Serve's config files, and a server of one's own
    └ inflow       slows a sender down whose body comes faster than it is read
    app            `create_app`: the Starlette app with all routes; needs no Ray, and tests drive it directly
    guard          the outermost layer: who is answered at all; makes every error a problem document
    ├ keyring      which API tokens are good now, and whose they are
    │ └ grants     links to one asset's media that need no token for some minutes
    ├ allowances   how much each token may ask for: requests a second, and at once
    ├ origins      which pages of other sites may ask from a browser (CORS)
    ├ peers        which addresses are this machine's own, for servers without tokens
    └ access       what is logged of requests: each that failed or was slow, or every one
    compression    gzip, for callers that accept it and answers that gain by it
    routes         one module for each path: its handlers, each with its OpenAPI operation
    ├ incoming     reads what a request carries, within limits: body, `Prefer`, ids, uploads
    ├ forms        the file in an uploaded form
    └ presence     hears that a caller hung up, and cancels the call to the service that it waited for;
                   when the server is about to stop, has those who still wait answered in time
    sight          which assets and values a caller may be told of: no uploads of other tenants
    drain          whether the app is about to end: who is refused then, and when time is up
    console        the socket to the `amber serve` that started the replica: lines of the log, and the end
    app_context    what each handler is given: the service, the settings, the types of values
    answers        JSON bodies, and the problem document and headers for each error

What is written back:

    encodings      a value as bytes: JSON, Arrow, `.npy`, or its own media type
    ├ negotiate    chooses among those by the `Accept` header
    └ conditional  entity tags, and whether the answer is 304 or 412 instead of a body
    media_stream   writes an asset's bytes piece by piece, as they are taken
    └ ranges       which of them are asked for
    value_stream   writes many values as one Arrow stream, while they are read
    sse            writes a service's events as they come, as server-sent events, until the caller hangs up
    metrics        counters in Prometheus' text format
    described      the OpenAPI document: its schemas, its parts, and the whole

What a caller that hangs up withdraws is decided by the service: see `fabric.engine.single_flight`.
Must not know: how values are made. Only `deployment` imports Ray.
"""
