"""How targets and assignments look in a notebook: a row for each of the first images."""

from __future__ import annotations

from matchers.assignments.parts import AssignmentParts
from ragged.batch.notebook import count_of, first_positions, name_of, table
from ragged.values.readable import has_values


def assignment_as_html(assignment: AssignmentParts) -> str:
    """How many predictions of each image have a target, are background, or do not count.

    >>> assignment = Assignment.from_index(torch.tensor([[0, -1, 0]]), num_targets=torch.tensor([2]))
    >>> print(assignment._repr_html_())
    <table style="white-space:nowrap"><caption>Assignment of (1, 3) predictions, cpu</caption>
    <tr><th>sample 0</th><td>2 targets</td><td>2 positive</td><td>1 background</td><td>0 ignored</td></tr>
    </table>
    """
    index = assignment.target_index
    caption = f"Assignment of {tuple(index.shape)} predictions, {index.device}"
    if not has_values(index):
        return table(caption, [])
    rows = []
    for at in first_positions(index.shape[:-1]):
        own = index[at]
        counts = {"positive": own >= 0, "background": own == -1, "ignored": own == -2}
        cells = [count_of(int(assignment.num_targets[at]), "target", "targets")]
        cells += [(f"{int(which.sum())} {name}", "") for name, which in counts.items()]
        rows.append((name_of(at), cells))
    return table(caption, rows, left_out=assignment.num_targets.numel() - len(rows))
