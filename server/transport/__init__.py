"""The edge: protobuf to arrays and back, errors to status codes. Nothing here computes; nothing below knows gRPC."""
