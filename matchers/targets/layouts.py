"""The layouts of ground truth: ``Targets.of`` asks each reader in turn whether it recognises one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ragged.values.checks import is_sequence

OF_BOXES = ("box_format", "normalized", "canvas_size")
"""Options of most readers."""


@dataclass(frozen=True)
class Layout:
    """A reader, and what for.

    Args:
        recognises: Whether something is of this layout.
        reader: Makes targets of it.
        options: Keyword arguments of the reader.
        needs: Of those, what it cannot do without, and what to say where it is missing.
        in_parts: Whether the reader takes the parts of a sequence, one by one.
    """

    recognises: Callable[[Any], bool]
    reader: Callable[..., Any]
    options: tuple[str, ...]
    needs: tuple[tuple[str, str], ...]
    in_parts: bool

    def read(self, source: Any, options: dict[str, Any]) -> Any:
        """The targets that the reader makes; ``TypeError`` if an option is unknown or missing."""
        unknown = [name for name in options if name not in self.options]
        if unknown:
            raise TypeError(f"{self.reader.__name__} has no option {unknown[0]!r}, but {', '.join(self.options)}")
        for name, otherwise in self.needs:
            if name not in options:
                raise TypeError(otherwise)
        return self.reader(*source, **options) if self.in_parts else self.reader(source, **options)


_SPECIAL: list[Layout] = []
_GENERAL: list[Layout] = []

Reader = TypeVar("Reader", bound=Callable[..., Any])


def reads(
    recognises: Callable[[Any], bool],
    *options: str,
    needs: dict[str, str] | None = None,
    in_parts: bool = False,
    general: bool = False,
) -> Callable[[Reader], Reader]:
    """Decorate a reader, so that ``Targets.of`` finds it.

    Args:
        recognises, options, needs, in_parts: See ``Layout``.
        general: Whether others are asked before: a list of dicts may be what another reader knows better.
    """

    def known(reader: Reader) -> Reader:
        layout = Layout(recognises, reader, options, tuple((needs or {}).items()), in_parts)
        (_GENERAL if general else _SPECIAL).append(layout)
        return reader

    return known


def layout_of(source: Any) -> Layout:
    """The first layout that recognises it; ``TypeError`` if none does."""
    if is_sequence(source) and any(is_sequence(item) and any(map(_is_image, item)) for item in source):
        raise TypeError(
            "targets must be a list of dicts, one for each image, got lists of such dicts: make one list, [image for "
            "images in targets for image in images], or keep both batch dimensions with Targets(boxes=combine_data("
            "nested_boxes, flatten_batch_dims=False), labels=…)"
        )
    for layout in (*_SPECIAL, *_GENERAL):
        if layout.recognises(source):
            return layout
    raise TypeError(
        "targets must be Targets, a list of dicts, a pair (list of boxes, list of labels), a padded dict, "
        f"or a tensor (N, 6) or (B, N, 5); got {type(source).__name__}"
    )


def _is_image(item: Any) -> bool:
    """Whether this is a dict of an image, and no annotation of COCO."""
    return isinstance(item, Mapping) and "boxes" in item and "bbox" not in item
