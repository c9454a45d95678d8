import io
from pathlib import Path

import pytest

from nextvalue.rows import check_alike, parse_rows, read_rows, windows_array


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("45,46,47", [[45, 46, 47]]),
        ("1,10;2,20;3,30", [[1, 10], [2, 20], [3, 30]]),
        ("1, 10\r\n2, 20\n\n", [[1, 10], [2, 20]]),
        ("-1.5e3;.5;", [[-1500], [0.5]]),
    ],
)
def test_rows_are_split_at_semicolons_and_line_ends(text: str, rows: list[list[float]]) -> None:
    assert parse_rows(text) == rows


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "no values"),
        (" ;\n", "no values"),
        ("1,two", "'two' is not a number"),
        ("1,,2", "'' is not a number"),
        ("1,2;3", "row 2 has 1 values: row 1 has 2"),
    ],
)
def test_what_is_not_a_table_of_numbers_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_rows(text)


def test_rows_come_from_a_file_or_standard_input_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "window.csv").write_text("\ufeff1,2\n3,4\n", encoding="utf-8")
    assert read_rows(f"@{tmp_path}/window.csv") == [[1, 2], [3, 4]]
    monkeypatch.setattr("sys.stdin", io.StringIO("5\n6\n"))
    assert read_rows("-") == [[5], [6]]
    assert read_rows("-7") == [[-7]]


def test_single_rows_are_series_and_several_rows_are_time_steps() -> None:
    assert windows_array([[[1, 2]], [[3, 4]]]) == [[1, 2], [3, 4]]
    assert windows_array([[[1, 2], [3, 4]]]) == [[[1, 2], [3, 4]]]


def test_windows_of_different_sizes_are_refused() -> None:
    check_alike([])
    check_alike([[[1, 2]], [[3, 4]]])
    with pytest.raises(ValueError, match=r"number 2 has 1 row\(s\) of 3: number 1 has 1 row\(s\) of 2"):
        check_alike([[[1, 2]], [[3, 4, 5]]])
