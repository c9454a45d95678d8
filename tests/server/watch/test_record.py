"""Where a call's time went."""

import grpc

from server.watch.record import ANSWER, CHECK, QUEUE, RUN, Phase, Record

OK, CANCELLED = grpc.StatusCode.OK, grpc.StatusCode.CANCELLED


def record() -> Record:
    return Record("Predict", "ipv4:1.2.3.4:5", started=10.0)


def test_a_call_of_two_runs() -> None:
    call = record()
    call.queued(11.0)
    call.ran(13.0, 14.0, 8)
    call.ran(17.0, 19.0, 5)
    call.close(OK, 20.0)
    assert call.phases == [
        Phase(CHECK, 10, 11), Phase(QUEUE, 11, 13), Phase(RUN, 13, 14, 8), Phase(QUEUE, 14, 17), Phase(RUN, 17, 19, 5),
        Phase(ANSWER, 19, 20),
    ]  # fmt: skip
    assert (call.seconds(QUEUE), call.seconds(RUN), call.batch_windows) == (5, 3, 8)


def test_a_caller_that_left_while_it_waited() -> None:
    call = record()
    call.queued(11.0)
    call.close(CANCELLED, 20.0)
    assert call.phases == [Phase(CHECK, 10, 11), Phase(QUEUE, 11, 20)]
    assert call.batch_windows == 0


def test_one_that_was_never_queued() -> None:
    call = record()
    call.ran(1.0, 2.0, 3)
    call.close(grpc.StatusCode.INVALID_ARGUMENT, 11.0)
    assert call.phases == []
