"""How assignments and plans look when printed, and as a table in a notebook: a row for each of the first images."""

from __future__ import annotations

from matchers.assignments.parts import AssignmentParts, PlanParts
from ragged.batch.notebook import MAX_ENTRIES, Shown, count_of, first_positions, name_of
from ragged.values.readable import has_values


def shown_assignment(assignment: AssignmentParts) -> Shown:
    """How many predictions of each image have a target, are background, or are ignored.

    >>> assignment = Assignment.from_index(torch.tensor([[0, -1, 0]]), num_targets=torch.tensor([2]))
    >>> assignment
    Assignment of (1, 3) predictions, cpu
      sample 0: 2 targets; 2 positive; 1 background; 0 ignored
    >>> print(assignment._repr_html_())
    <table style="white-space:nowrap"><caption>Assignment of (1, 3) predictions, cpu</caption>
    <tr><th>sample 0</th><td>2 targets</td><td>2 positive</td><td>1 background</td><td>0 ignored</td></tr>
    </table>
    """
    index = assignment.target_index
    caption = f"Assignment of {tuple(index.shape)} predictions, {index.device}"
    if not has_values(index):
        return Shown(caption)
    rows = []
    for at in first_positions(index.shape[:-1]):
        own = index[at]
        counts = {"positive": own >= 0, "background": own == -1, "ignored": own == -2}
        cells = [count_of(int(assignment.num_targets[at]), "target", "targets")]
        cells += [(f"{int(which.sum())} {name}", "") for name, which in counts.items()]
        rows.append((name_of(at), cells))
    return Shown(caption, rows, assignment.num_targets.numel() - len(rows))


def shown_plan(plan: PlanParts) -> Shown:
    """How much of the predictions of each image goes to its first targets, and to the background.

    >>> weights = RaggedBatch(torch.tensor([[[0.75], [0.25]]]), sample_sizes=[1], non_uniform_dim=2)
    >>> Plan(weights, torch.tensor([[0.25, 0.75]]), torch.tensor([0]))
    Plan of (1, 2) predictions, cpu
      sample 0: 1 target; background 1; target 0: 1
    """
    caption = f"Plan of {tuple(plan.background.shape)} predictions, {plan.background.device}"
    if not has_values(plan.background):
        return Shown(caption)
    rows = []
    for at in first_positions(plan.background.shape[:-1]):
        size = int(plan.num_targets[at])
        totals = plan.weights.tensor[at][:, : min(size, MAX_ENTRIES)].detach().sum(0).tolist()
        cells = [count_of(size, "target", "targets"), (f"background {float(plan.background[at].sum()):.4g}", "")]
        cells += [(f"target {target}: {total:.4g}", "") for target, total in enumerate(totals)]
        rows.append((name_of(at), [*cells, *([(f"… {size - len(totals)} more", "")] if size > len(totals) else [])]))
    return Shown(caption, rows, plan.num_targets.numel() - len(rows))
