"""What a feature's value may be: the annotations that declare it, and the check of a value against them.

    annotations   an annotation becomes a tree of types; also read off a value, or off its description
    base          `ValueType` and the simple types: scalars, bytes, JSON, tables
    array         numpy arrays: dtype and shape
    compound      dataclasses, lists, optional values
    compare       how much two values differ, in the way of their type
    size          how many bytes a value holds, without encoding it

Must not know: Arrow, how values are stored.
"""
