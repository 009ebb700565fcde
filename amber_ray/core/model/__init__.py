"""The nouns of the interface: units of media, requests, results, and the `Service` that answers them.

    units        `Asset`, `Segment`, `Collection`: what a value is computed for
    unit_codec   assets and units as JSON, for journals, records and HTTP
    naming       what media is called in the texts of failures, which are kept without names
    request      what a caller asks and is told: `ComputeRequest`, `Result`, `Failure`, `RequestView`
    asked        requests in a listing, and what became of them
    kept         what is stored of versions of features, today's or not
    demands      standing requests, and how they stand
    demand_codec the same as JSON
    demand_news  what callbacks of demands are to be told
    places       which place a URI means, and what lies under a prefix
    listing      what was noted of media, compared with what is listed now
    callback     who is to be told of a request's end, and what became of that
    pages        pages of what there is, cursors, which assets are meant
    provenance   what values are of, how they were made, where they are
    pace         how many assets the next of many requests has
    stats        names of what is counted, with labels
    demand_stats how demands stand, under such names
    trace        spans: what a request's are, whichever process they are measured in
    retry_after  for how long somebody asks not to be asked again
    audit        who acts, and the lines that say what was changed
    absent       what is said of what is not there, or not for whoever asks
    trust        who asks, and what they may: scopes, callers, tenants
    service      `Service`, the protocol that engine and clients implement; values, events of a request

Must not know: how features are declared.
"""
