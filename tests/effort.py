"""How much is tried: little by default, much with ``pytest --hypothesis-profile=thorough``."""

from __future__ import annotations

from hypothesis import settings

# Of the default profile.
USUAL = 100
# Of what a test asks for by default, so that all tests together take minutes.
_SHARE = 2 / 3


def examples(count: int) -> settings:
    """Settings for a property test that draws up to so many examples by default, and as many as the profile in a long run."""
    return settings(max_examples=settings().max_examples if is_thorough() else max(1, round(_SHARE * count)))


def is_thorough() -> bool:
    """Whether the profile draws many more examples than the default one."""
    return settings().max_examples >= 10 * USUAL
