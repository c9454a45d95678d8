"""Where the nodes of a graph run, as its session assigned them, and which of them run elsewhere than they should."""

from collections import Counter

import onnxruntime as ort

# Nodes that onnxruntime puts in where a value has to change sides within a run.
COPIES = ("MemcpyFromHost", "MemcpyToHost")


def by_provider(session: ort.InferenceSession) -> Counter[str]:
    """How many nodes each provider runs; the session was loaded with `session.record_ep_graph_assignment_info`."""
    counts: Counter[str] = Counter()
    for part in session.get_provider_graph_assignment_info():
        counts[part.ep_name] += len(part.get_nodes())
    return counts


def copies(session: ort.InferenceSession) -> Counter[str]:
    """How many nodes copy a value between host and device, by the name of their operator."""
    return Counter(
        node.op_type
        for part in session.get_provider_graph_assignment_info()
        for node in part.get_nodes()
        if node.op_type in COPIES
    )


def elsewhere(counts: Counter[str], copying: Counter[str], provider: str) -> Counter[str]:
    """What should not be: the nodes that are not on `provider`, by theirs, and copies, wherever they run."""
    return Counter({name: count for name, count in counts.items() if name != provider}) + copying


def shown(found: Counter[str]) -> str:
    """For a log line."""
    return ", ".join(
        f"{count} {name} nodes" if name in COPIES else f"{count} nodes on {name}"
        for name, count in sorted(found.items())
    )
