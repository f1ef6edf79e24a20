"""Plugin of pytest that counts property tests and the examples that they may draw."""

from __future__ import annotations

from typing import Any


def pytest_collection_finish(session: Any) -> None:
    tests = [getattr(item, "obj", None) for item in session.items]
    drawn = [
        test._hypothesis_internal_use_settings.max_examples
        for test in tests
        if getattr(test, "is_hypothesis_test", False)
    ]
    print(
        f"property tests: {len(drawn)}, up to {sum(drawn):,} examples in a run, at least 2,000 each in a thorough one"
    )
