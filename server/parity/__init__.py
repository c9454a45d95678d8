"""The live gate: a share of what was served is recomputed by the torch reference, off the request's path.

monitor    samples runs, compares, counts
link       the connection to a reference process: spawned here, or joined
"""
