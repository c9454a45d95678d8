"""gRPC over HTTP/2 on asyncio, in place of grpc.aio.server: the same handlers, contexts and ports.

frames       the bytes of frames, and what is wrong with them (RFC 9113)
headers      header blocks, in by hpack (RFC 7541), out without a table
messages     gRPC's own: length-prefixed messages, timeouts, status
connection   one connection's streams and flow control; no socket, no clock
context      what a handler sees of its call
calls        from a request to its handler and back
listener     ports, connections, and their end
"""
