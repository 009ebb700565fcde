"""The digest of the code that a feature reaches: its function, what that calls, and constants.

    live        the way in, `digest`: follows functions, classes and constants that are in memory
    static      follows what is imported only when the function is called, in its source, unloaded
    source      a module parsed: its definitions without comments, and the names that code uses
    constants   plain data as text that is the same in every process

Must not know: features, keys.
"""
