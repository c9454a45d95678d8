"""The table of series: ids to rows, and artifacts whose table is not what their manifest says."""

import json
import shutil
from pathlib import Path

import msgspec
import numpy as np
import pytest

from export.artifact import folder
from export.artifact.errors import ArtifactError
from export.artifact.folder import SERIES, Artifact
from nextvalue.v1 import nextvalue_pb2 as pb
from server.series import UNKNOWN, SeriesTable, load_series
from tests.server.harness import serving
from tests.server.oracle import Oracle


def test_an_id_is_its_place() -> None:
    table = SeriesTable(["b", "a", ""])
    found = table.numbers(["a", "c", "", "b", "a", "A"])
    assert found.dtype == np.int64
    assert found.tolist() == [[1], [UNKNOWN], [2], [0], [1], [UNKNOWN]]
    assert len(table) == 3


def test_numbers_outside_the_table_are_unknown() -> None:
    table = SeriesTable(["a", "b"])
    assert table.num_unknown(np.array([[0], [1], [2], [-1], [2**63 - 1], [-(2**63)]])) == 4
    assert table.num_unknown(table.numbers(["a", "b"])) == 0


def test_nobody_is_known_to_an_empty_table() -> None:
    assert SeriesTable().numbers(["", "a"]).tolist() == [[UNKNOWN], [UNKNOWN]]


def test_the_table_of_an_artifact(models: Path) -> None:
    table = load_series(Artifact(models / "demand" / "1"))
    assert table.numbers(["Café ☕", "shop-a", "shop-b"]).tolist() == [[2], [0], [1]]
    assert len(load_series(Artifact(models / "demo" / "1"))) == 0


def publish_version(models: Path, content: bytes | None) -> Artifact:
    """Version 1 again as version 2, with another table or none, sealed anew."""
    first = Artifact(models / "demand" / "1")
    contents = {name: first.read(name) for name in first.manifest.files if name != SERIES}
    if content is not None:
        contents[SERIES] = content
    return Artifact(folder.publish(models, msgspec.structs.replace(first.manifest, version=2), contents))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "series.json: not listed in manifest.json"),
        (b"", "series.json: Input data was truncated"),
        (b"\xff\xfe", "series.json: "),
        (b'{"a": 0}', "series.json: Expected `array`"),
        (b'["a", "b", 3]', "series.json: Expected `str`"),
        (b'["a", "b"]', "series.json: has 2 ids; the manifest says 3"),
        (b'["a", "b", "a"]', "series.json: an id is there twice"),
        (b"[" * 5000, "series.json: "),
    ],
)
async def test_a_table_that_is_none_keeps_its_version_from_serving(
    models: Path, tmp_path: Path, demand: Oracle, content: bytes | None, said: str
) -> None:
    shutil.copytree(models / "demand", tmp_path / "demand")
    with pytest.raises(ArtifactError) as caught:
        load_series(publish_version(tmp_path, content))
    assert str(caught.value).startswith(said)
    async with serving(tmp_path) as running:
        (model,) = (await running.next_value.ListModels(pb.ListModelsRequest())).models
        second, _ = model.versions
        assert (model.default_version, second.state) == (1, pb.ModelVersion.STATE_FAILED)
        assert second.reason == str(caught.value)
        call = demand.random_call(np.random.default_rng(3), 4)
        demand.assert_right(await running.predict("demand", call.windows, **call.options), demand.expect(call))


async def test_ids_in_another_order_are_another_table(models: Path, tmp_path: Path, demand: Oracle) -> None:
    """Each version looks ids up in its own."""
    shutil.copytree(models / "demand", tmp_path / "demand")
    publish_version(tmp_path, json.dumps(demand.ids[::-1]).encode())
    call = demand.random_call(np.random.default_rng(3), 1)
    assert call.time_seconds is not None
    async with serving(tmp_path) as running:
        answers = {}
        for name in demand.ids:
            options = call.options | {"series": [name]}
            answers[name] = await running.predict("demand", call.windows, **options)
        for name, other in zip(demand.ids, demand.ids[::-1], strict=True):
            numbers = demand.numbers([other])
            found = demand.run({"window": call.windows, "time_seconds": call.time_seconds, "series": numbers})
            demand._assert_near(answers[name], found["next"][:, :1], found["unit"], 1)
