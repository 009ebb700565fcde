"""What travels over HTTP, in both directions: the codecs that the server and the Python client share.

Must not know: any HTTP library, services, files.
"""
