"""What travels inside the cluster: messages, pickled values, actor names, the code of a registry as a blob.

Must not know: who sends or receives it.
"""
