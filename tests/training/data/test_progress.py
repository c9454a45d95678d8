from io import StringIO

import pytest
from rich.console import Console

from training.data.progress import shown


@pytest.mark.parametrize(("is_terminal", "is_quiet"), [(True, False), (True, True), (False, False)])
def test_bars_are_drawn_for_a_person_who_watches(is_terminal: bool, is_quiet: bool) -> None:
    written = StringIO()
    console = Console(file=written, force_terminal=is_terminal, quiet=is_quiet, width=80)
    with shown(console) as progress:
        for done in (20, 50):
            progress("counting rows", done, 50)
        progress("reading rows", 25, 100)
    text = written.getvalue()
    if is_terminal and not is_quiet:
        assert "counting rows" in text
        assert "100 %" in text
        assert "reading rows" in text
        assert "25 %" in text
    else:
        assert text == ""
