import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2

from nextvalue.__main__ import main
from nextvalue.v1 import nextvalue_pb2 as pb
from tests.nextvalue.fake import Failure, FakeServer

Capture = pytest.CaptureFixture[str]


def predict(fake: FakeServer, *options: str) -> int:
    return main(["predict", "--target", fake.target, "--model", "demo", *options])


def sent_shape(fake: FakeServer) -> list[int]:
    return list(fake.requests[-1].windows.shape)


def test_predict_prints_a_line_for_each_window(fake: FakeServer, capsys: Capture) -> None:
    assert predict(fake, "--window", "45,46,47", "--window", "-1.5,0,-7.25", "--horizon", "3") == 0
    assert capsys.readouterr() == ("48.0,49.0,50.0\n-6.25,-5.25,-4.25\n", "")
    assert sent_shape(fake) == [2, 3]


def test_predict_prints_one_json_object_of_the_shortest_numbers(fake: FakeServer, capsys: Capture) -> None:
    fake.reply = pb.PredictResponse(
        model="demo", version=3, predictions=pb.FloatArray(shape=[1, 3], values=[50.1, 1e20, float("nan")])
    )
    assert predict(fake, "--window", "1,2", "--horizon", "3", "--version", "stable", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"model": "demo", "version": 3, "predictions": [[50.1, 1e20, None]]}
    assert fake.requests[0].version == "stable"


def test_rows_are_time_steps_and_future_goes_with_them(fake: FakeServer, capsys: Capture) -> None:
    options = ["--window", "1,10,5;2,20,5;3,30,5;4,40,5", "--future", "1,2;-3,4", "--horizon", "3"]
    assert predict(fake, *options) == 0
    assert sent_shape(fake) == [1, 4, 3]
    assert list(fake.requests[0].future.shape) == [1, 2, 2]
    assert capsys.readouterr().out == "5.0,6.0,7.0\n"


def test_a_window_can_come_from_a_file(fake: FakeServer, tmp_path: Path, capsys: Capture) -> None:
    (tmp_path / "window.csv").write_text("1,10\n2,20\n3,30\n")
    assert predict(fake, "--window", f"@{tmp_path}/window.csv") == 0
    assert sent_shape(fake) == [1, 3, 2]


def test_intervals_are_printed_as_a_table(fake: FakeServer, capsys: Capture) -> None:
    assert predict(fake, "--window", "45,46", "--window", "-1,0", "--horizon", "2", "--intervals") == 0
    assert [line.split("  ") for line in re.sub(" {2,}", "  ", capsys.readouterr().out).splitlines()] == [
        ["WINDOW", "AHEAD", "PREDICTION", "LOWER 0.5", "UPPER 0.5", "LOWER 0.9", "UPPER 0.9"],
        ["1", "1", "47.0", "43.0", "55.0", "39.8", "61.4"],
        ["1", "2", "48.0", "44.0", "56.0", "40.8", "62.4"],
        ["2", "1", "1.0", "-3.0", "9.0", "-6.2", "15.4"],
        ["2", "2", "2.0", "-2.0", "10.0", "-5.2", "16.4"],
    ]
    assert list(fake.requests[0].intervals.levels) == []


def test_intervals_are_printed_as_json(fake: FakeServer, capsys: Capture) -> None:
    assert predict(fake, "--window", "45,46", "--intervals", "0.9", "--series", "nobody", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {
        "model": "demo",
        "version": 2,
        "predictions": [[47.0]],
        "levels": [0.9],
        "lower": [[[39.8]]],
        "upper": [[[61.4]]],
        "num_unknown_series": 1,
    }


def test_times_and_series_go_with_the_windows(fake: FakeServer, tmp_path: Path, capsys: Capture) -> None:
    """Once for all windows, or once for each; times as people write them."""
    windows = ["--window", "1,2", "--window", "3,4"]
    assert predict(fake, *windows, "--times", "-3600, 1970-01-01T01:00", "--series", "7") == 0
    (tmp_path / "times.txt").write_text("1970-01-01T00:00:00Z\n1970-01-01T00:00:00-01:00\n")
    times = ["--times", f"@{tmp_path}/times.txt", "--times", "1970-01-02 1970-01-03".replace(" ", ",")]
    assert predict(fake, *windows, *times, "--series", "shop-a", "--series", "a, b") == 0
    sent = [np.frombuffer(request.time_seconds.raw_values, "<i8").tolist() for request in fake.requests]
    assert sent == [[-3600, 3600, -3600, 3600], [0, 3600, 86_400, 172_800]]
    assert [list(request.time_seconds.shape) for request in fake.requests] == [[2, 2]] * 2
    assert [list(request.series) for request in fake.requests] == [["7", "7"], ["shop-a", "a, b"]]
    said = "nextvalue: 1 of 2 windows are of a series that the model does not know; they got its default scale\n"
    assert capsys.readouterr() == ("3.0\n5.0\n" * 2, said)


def test_models_prints_a_table(fake: FakeServer, capsys: Capture) -> None:
    assert main(["models", "--target", fake.target]) == 0
    header, failed, serving = capsys.readouterr().out.splitlines()
    columns = [
        "NAME",
        "VERSION",
        "LABELS",
        "STATE",
        "CELL",
        "WINDOW",
        "FEATURES",
        "TRANSFORM",
        "HORIZON",
        "CALENDAR",
        "SCALING",
    ]
    assert header.split() == [*columns, "LEVELS", "PROVIDER", "REASON"]
    assert failed.split() == ["demo", "3", "-", "failed", *["-"] * 9, "parity:", "0.5", "off"]
    assert serving.split() == [
        "demo",
        "2",
        "default,stable",
        "serving",
        "gru",
        "5",
        "load,hour",
        "difference",
        "3",
        "day,week",
        "series",
        "0.5,0.9",
        "CPUExecutionProvider",
        "-",
    ]
    assert len({line.index(word) for line, word in [(header, "STATE"), (failed, "failed"), (serving, "serving")]}) == 1


def test_models_prints_one_json_object(fake: FakeServer, capsys: Capture) -> None:
    assert main(["models", "--target", fake.target, "--json"]) == 0
    (model,) = json.loads(capsys.readouterr().out)["models"]
    assert (model["name"], model["default_version"]) == ("demo", 2)
    assert [version["state"] for version in model["versions"]] == ["failed", "serving"]
    assert model["versions"][1]["labels"] == ["default", "stable"]
    assert model["versions"][1]["description"]["features"] == ["load", "hour"]


def test_health_succeeds_only_if_serving(fake: FakeServer, capsys: Capture) -> None:
    fake.health.set("readiness", health_pb2.HealthCheckResponse.NOT_SERVING)
    assert main(["health", "--target", fake.target]) == 0
    assert main(["health", "--target", fake.target, "--service", "readiness"]) == 1
    assert main(["health", "--target", fake.target, "--service", "nobody"]) == 1
    assert capsys.readouterr() == ("SERVING\nNOT_SERVING\nSERVICE_UNKNOWN\n", "")


def test_an_error_is_one_line_and_exit_code_1(fake: FakeServer, capsys: Capture) -> None:
    fake.failures.append(Failure(grpc.StatusCode.NOT_FOUND, "no model 'demo':\nthere is 'other'"))
    assert predict(fake, "--window", "1,2") == 1
    assert capsys.readouterr() == ("", "nextvalue: NOT_FOUND: no model 'demo': there is 'other'\n")


def test_the_timeout_is_the_calls_deadline(fake: FakeServer, capsys: Capture) -> None:
    fake.hold()
    assert predict(fake, "--window", "1,2", "--timeout", "0.1") == 1
    assert capsys.readouterr().err.startswith("nextvalue: DEADLINE_EXCEEDED")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--window", "1,two"], "argument --window: 'two' is not a number"),
        (["--window", "@nowhere.csv"], "argument --window: [Errno 2] No such file or directory: 'nowhere.csv'"),
        (["--window", "1,2", "--window", "1"], "windows: number 2 has 1 row(s) of 1: number 1 has 1 row(s) of 2"),
        (["--window", "1,2", "--times", "noon"], "argument --times: 'noon' is neither a time such as 2024-01-31T08:00"),
        (["--window", "1,2", "--times", ","], "argument --times: no times"),
        (["--window", "1,2", "--times", "@nowhere"], "argument --times: [Errno 2] No such file or directory: 'nowhere"),
        (
            ["--window", "1,2", "--window", "3,4", "--times", "1,2", "--times", "1"],
            "times: number 2 has 1 row(s) of 1: number 1 has 1 row(s) of 2",
        ),
        (["--window", "1,2", "--intervals", "most"], "argument --intervals: 'most' is not levels such as 0.5,0.9"),
        (["--window", "1", "--horizon", "0"], "argument --horizon: '0' is not a whole number from 1"),
        (["--window", "1", "--timeout", "nan"], "argument --timeout: 'nan' is not a number of seconds above 0"),
        (["--window", "1", "--horizn", "5"], "unrecognized arguments: --horizn 5"),
        ([], "the following arguments are required: --window"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_code_2(
    fake: FakeServer, capsys: Capture, options: list[str], complaint: str
) -> None:
    with pytest.raises(SystemExit) as caught:
        predict(fake, *options)
    assert caught.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert complaint in err
    assert err.count("\n") == 1
    assert not fake.requests


def test_it_runs_as_a_program(fake: FakeServer) -> None:
    command = [sys.executable, "-m", "nextvalue", "predict", "--target", fake.target, "--model", "demo"]
    options = ["--window", "-", "--horizon", "2"]
    done = subprocess.run([*command, *options], input="45,46\n", text=True, capture_output=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == ("47.0,48.0\n", "")


def test_an_interrupt_ends_it_quietly(fake: FakeServer) -> None:
    fake.hold()
    command = [sys.executable, "-m", "nextvalue", "models", "--target", fake.target, "--timeout", "60"]
    # Whoever runs the tests in the background may ignore interrupts, and what is ignored is inherited.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        opened = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with opened as process:
        fake.arrived.wait()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out, err) == (130, "", "")


def test_a_reader_that_left_causes_no_traceback(fake: FakeServer) -> None:
    command = [sys.executable, "-m", "nextvalue", "models", "--target", fake.target]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
    assert process.returncode == 1
