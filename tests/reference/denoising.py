"""Denoising queries and the union of matches, one image and one query at a time."""

from __future__ import annotations

from collections import Counter


def positive_queries(num_targets: int, slots: int, groups: int) -> list[int]:
    """What models write down as ``dn_positive_idx`` of an image, group after group."""
    return [group * 2 * slots + slot for group in range(groups) for slot in range(num_targets)]


def from_positive_queries(positive: list[int], num_targets: int, groups: int, num_queries: int) -> list[int]:
    """The target of each query; -1 for those without one."""
    index = [-1] * num_queries
    for group in range(groups):
        for target in range(num_targets):
            index[positive[num_targets * group + target]] = target
    return index


def hidden_queries(
    groups: int, slots: int, num_queries: int, negatives: bool, num_targets: int | None
) -> list[list[bool]]:
    """Whether the query of the row must not see that of the column; of one image, or of all where none is named."""
    described: list[
        tuple[int | None, bool]
    ] = []  # the group, None for queries that are matched; whether it has a target
    for group in range(groups):
        for _ in range(2 if negatives else 1):
            for slot in range(slots):
                described.append((group, num_targets is None or slot < num_targets))
    described += [(None, True)] * num_queries
    hidden = []
    for row, (own, _) in enumerate(described):
        hidden.append([])
        for column, (other, has_target) in enumerate(described):
            of_other_group = other is not None and other != own
            hidden[-1].append(of_other_group or (not has_target and row != column))
    return hidden


def union(layers: list[list[int]]) -> list[int]:
    """The target of each query of one image: the pair that occurs most often, the lowest target on ties."""
    votes = Counter((query, target) for layer in layers for query, target in enumerate(layer) if target >= 0)
    chosen: dict[int, int] = {}
    for (query, target), _ in sorted(votes.items(), key=lambda item: (-item[1], item[0][1])):
        chosen.setdefault(query, target)
    ignored = {query for layer in layers for query, target in enumerate(layer) if target == -2}
    return [chosen.get(query, -2 if query in ignored else -1) for query in range(len(layers[0]))]
