"""Several workers on one port: a process that serves nothing itself and keeps those that do.

supervisor   puts the parts together: start, replace, drain
process      one worker: its process, and the line to it
port         holds the gRPC address for all workers without listening
page         the metrics page that adds up what the workers write
reference    one reference process for all workers
messages     what goes over the line, JSON by the line
line         the line itself, bounded
barrier      when workers may show that they are ready: plain policy
restarts     when a worker is replaced, and when that makes no sense any more: plain policy
changes      an operator's changes, carried to every worker: plain policy
"""
