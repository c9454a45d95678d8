"""ModelStatistics: seconds and counts to the protocol's messages."""

from server.pb import open_inference_pb2 as pb
from server.statistics import Duration
from server.versions import Version


def statistics_of(version: Version) -> pb.ModelStatistics:
    """One version's."""
    statistics = version.statistics
    return pb.ModelStatistics(
        name=version.model,
        version=str(version.number),
        last_inference=round(1000 * statistics.last_answer),
        inference_count=statistics.num_windows,
        execution_count=statistics.num_runs,
        inference_stats=pb.InferStatistics(
            success=_duration(statistics.success),
            fail=_duration(statistics.fail),
            queue=_duration(statistics.queue),
            compute_input=_within(statistics.run),
            compute_infer=_duration(statistics.run),
            compute_output=_within(statistics.run),
        ),
        batch_stats=[
            pb.InferBatchStatistics(
                batch_size=num_windows,
                compute_input=_within(run),
                compute_infer=_duration(run),
                compute_output=_within(run),
            )
            for num_windows, run in sorted(statistics.runs.items())
        ],
    )


def _duration(duration: Duration) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=duration.count, ns=round(1e9 * duration.seconds))


def _within(run: Duration) -> pb.StatisticDuration:
    """Copying tensors in and out is a part of the run's time."""
    return pb.StatisticDuration(count=run.count, ns=0)
