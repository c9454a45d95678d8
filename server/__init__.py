"""Serve artifacts over gRPC: transports at the edge, a predictor in the middle, onnxruntime below.

config       options and environment, parsed once
app          puts the parts together; start, drain, stop
supervisor/  with --workers: keeps several serving processes on one port
worker/      one of those: a server that its supervisor starts, shows, changes and drains
process      the log and the signals of a process, whichever it is
transport/   protobuf to arrays, errors to status codes, nothing else
predictor    checks a request, finds the model, waits for its batcher
validation   what a request may contain
batcher      runs batches on the engine thread, owns nothing of policy
scheduler    which windows run next: plain policy, no thread, no clock
entry        one call's windows as they slide over their predictions
repository   models and versions: what is served, what is not and why
series       ids of series to rows of a model's table
engine       an artifact's graphs, and the plan that chooses among them
session      a graph in onnxruntime
placement    where a graph's nodes run, and which of them elsewhere than they should
buffers      inputs and outputs of a run, bound once
buckets      the same on a GPU: runs filled up to a bucket, each a captured CUDA graph
pinned       page-locked host memory
tensors      a graph's inputs and outputs by name
provider     CPU or CUDA
parity/      the live gate: a share of traffic recomputed by the reference
metrics      everything on the Prometheus page
errors       the error tree
"""

import os

# Read by onnxruntime when it is imported, which happens in more than one module below.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
# Read by gRPC likewise: its core would write lines of its own beside the one that says why a start failed.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
