"""Whatever is wrong with an argument is said: with the right kind of error, and in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from reliability import bad_inputs_losses, bad_inputs_matchers, bad_inputs_ragged, bad_inputs_values

TABLES = {
    "ragged": bad_inputs_ragged.ROWS,
    "matchers": bad_inputs_matchers.ROWS,
    "losses": bad_inputs_losses.ROWS,
    "values": bad_inputs_values.ROWS,
}
ROWS = [(f"{package}: {name}", *rest) for package, rows in TABLES.items() for name, *rest in rows]


@pytest.mark.parametrize(("call", "error", "words"), [pytest.param(*rest, id=name) for name, *rest in ROWS])
def test_what_is_wrong_is_said(call: Callable[[], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words) as caught:
        call()
    assert type(caught.value) is error


def test_every_package_has_many_rows() -> None:
    assert all(len(rows) >= 60 for rows in TABLES.values()) and len(ROWS) >= 200
    assert [name for name, count in Counter(name for name, *_ in ROWS).items() if count > 1] == []
