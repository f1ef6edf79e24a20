"""What is proved of the toolkit, counted: ``python -m tests.proof``.

Runs the table of bad inputs, a fuzz run and the mutation check; counts what the test run proves of public names, matchers
and criteria, and how many examples its property tests draw. Ends with 1 if something is not as it should be.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cases import EVERY_CRITERION, EVERY_MATCHER
from registry import counts
from reliability import fuzz
from reliability.test_bad_inputs import ROWS

from losses.testing import CRITERION_PROPERTIES
from matchers.testing import MATCHER_PROPERTIES
from ragged.testing import PROPERTIES
from tests.mutation import run as mutation

ROOT = Path(__file__).parents[2]


def property_tests() -> str:
    """How many property tests pytest collects, and how many examples they draw."""
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "proof.property_tests", "tests"]
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    result = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True, check=True
    )
    return next(line for line in result.stdout.splitlines() if line.startswith("property tests: "))


def bad_inputs() -> list[str]:
    """The rows of the table that do not end as they should."""
    wrong = []
    for name, call, error, words in ROWS:
        try:
            with pytest.raises(error, match=words):
                call()
        except (Exception, pytest.fail.Exception) as problem:
            wrong.append(f"{name}: {problem}")
    return wrong


def main() -> int:
    """Print the counts; 0 if all is well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=5000, help="of the fuzz run")
    options = parser.parse_args()
    names = counts()
    checks = sum(names[name] for name in (*PROPERTIES, "reference"))
    wrong = bad_inputs()
    findings = [str(each) for each in fuzz.run(options.calls, seed=0) if each is not None]
    with contextlib.redirect_stdout(io.StringIO()) as table:
        caught = mutation.main() == 0
    for problem in (*wrong, *findings, *([] if caught else [table.getvalue()])):
        print(problem)
    print(f"public names and members with an entry   {names['public names']}")
    print(f"operations checked by the kit            {names['operations']}, {checks:,} properties in all")
    print(f"matchers checked by check_matcher        {len(EVERY_MATCHER)}, {len(MATCHER_PROPERTIES)} properties each")
    print(
        f"criteria checked by check_criterion      {len(EVERY_CRITERION)}, {len(CRITERION_PROPERTIES)} properties each"
    )
    print(f"property tests                           {property_tests().partition(': ')[2]}")
    print(f"bad inputs with the right error          {len(ROWS) - len(wrong)} of {len(ROWS)}")
    print(f"fuzzed calls with an error of our own    {options.calls - len(findings):,} of {options.calls:,}")
    print(f"planted bugs caught                      {table.getvalue().splitlines()[-1]}")
    return int(bool(wrong or findings or not caught))
