"""One of several serving processes: a server as any, told by its supervisor when to start, show itself and change.

worker   follows the supervisor, which it outlives only to drain
loads    an operator's calls, asked of all workers
"""
