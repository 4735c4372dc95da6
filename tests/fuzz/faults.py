"""Let every operation on files and memory of a command fail, each in a run of its own.

    python tests/fuzz/faults.py [COMMAND ...] [--every 1] [--seconds 0]

Each operation fails once by itself, and once with a disk that stays full from there on. What is
left must be the old state or the new one, there must be one line of an error, and the command,
repeated, must reach the state of an undisturbed one. Ends with 1 if something was found.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "property"))

from fault_scenarios import SCENARIOS, Sweep


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commands", nargs="*", metavar="COMMAND", help=", ".join(SCENARIOS))
    parser.add_argument("--every", type=int, default=1, help="try each N-th operation")
    parser.add_argument("--first", type=int, default=0, help="number of the first operation")
    parser.add_argument("--seconds", type=float, default=0, help="stop after so long; 0: never")
    options = parser.parse_args()
    problems = 0
    for name in options.commands or SCENARIOS:
        problems += sweep(name, options)
    sys.exit(problems > 0)


def sweep(name: str, options: argparse.Namespace) -> int:
    """Try the points of one command; print what was found."""
    begin = time.monotonic()
    codes: Counter[str] = Counter()
    problems = 0
    with tempfile.TemporaryDirectory() as folder:
        found = Sweep(SCENARIOS[name], Path(folder))
        count = len(found.operations)
        points = [
            (number, lasting)
            for number in range(options.first, count, options.every)
            for lasting in (False, True)
        ]
        tried = 0
        for number, lasting in points:
            if options.seconds and time.monotonic() - begin > options.seconds:
                print(f"{name}: stopped before operation {number}")
                break
            outcome = found.run(number, lasting=lasting)
            tried += 1
            codes[f"exit {outcome.code}"] += 1
            if outcome.problems:
                problems += 1
                print(f"{name} {number}{' lasting' if lasting else ''} {outcome.operation}: "
                      f"{outcome.problems} {outcome.message[:200]}", flush=True)  # fmt: skip
        kinds = Counter(operation.split()[0] for operation in found.operations)
    print(f"{name}: {count} operations {dict(kinds)}, {tried} runs, {dict(codes)}, "
          f"{problems} with problems, {time.monotonic() - begin:.0f} s", flush=True)  # fmt: skip
    return problems


if __name__ == "__main__":
    main()
