"""The server beside Triton: one core each for the server and for the load."""
