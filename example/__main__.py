"""Command line of the example: ``python -m example --help``."""

from __future__ import annotations

from collections.abc import Sequence

from example.compare import compare
from example.options import make_parser, parse_arguments
from example.run import make_samples, run


def main(arguments: Sequence[str] | None = None) -> int:
    """Train, evaluate and draw; return the exit status."""
    options = parse_arguments(arguments)
    try:
        samples = make_samples(options)
    except (FileNotFoundError, ValueError) as error:
        make_parser().error(str(error))
    if options.compare:
        print(compare(options, samples))
    elif metrics := run(options, samples):
        for name in ("mAP@0.5", "mAP@[.5:.95]"):
            print(f"{name} = {metrics[name]:.3f}")
        print(f"pictures and tables written to {options.out} after {metrics['seconds']} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
