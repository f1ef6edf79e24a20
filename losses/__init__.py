"""Detection losses on variable-size ground truth. Builds on ``ragged`` and ``matchers``."""

__all__: list[str] = []
