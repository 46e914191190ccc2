"""What ``run.py`` prints and writes: tables, the page of the documentation, goals."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.peak import MIB, Peak
from benchmarks.works import WORKS

OURS = "taimatsu"
TITLES = {"taimatsu": "taimatsu", "pytorch": "PyTorch", "jax": "JAX"}
# Seconds of the cnn's first training step: process start to loss, and what a new batch size adds.
FIRST_EMPTY = 3.0
FIRST_FILLED = 0.7
NEW_SIZE = 0.1
TOLERANCE = 1e-3  # of the first steps' values against PyTorch's, relatively


@dataclass
class Results:
    """All that was measured, by work and library.

    Attributes:
        peak: the machine's limits.
        rounds: how many there were.
        libraries: ours first.
        times: seconds of a step, one for each round.
        new: what was newly recorded, interpreted or compiled in each round.
        values: of the first steps.
        first: answers of fresh processes, by work, library and state of the folder of
            compiled code ("empty", "filled", or "" for the peers).
        errors: what went wrong.
    """

    peak: Peak
    rounds: int
    libraries: list[str]
    times: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    new: dict[tuple[str, str], list[dict]] = field(default_factory=dict)
    values: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    first: dict[tuple[str, str, str], list[dict]] = field(default_factory=dict)
    errors: dict[tuple[str, str], str] = field(default_factory=dict)

    def works(self) -> list[str]:
        """Those that anything is known of, in the table's order."""
        known = {key[0] for found in (self.times, self.first, self.errors) for key in found}
        return [name for name in WORKS if name in known]

    def time(self, name: str, library: str) -> float | None:
        """The median of the rounds."""
        found = self.times.get((name, library))
        return statistics.median(found) if found else None

    def ratio(self, name: str, peer: str) -> float | None:
        """How many times as long as ours a peer takes: the median of the rounds' ratios."""
        ours, theirs = self.times.get((name, OURS)), self.times.get((name, peer))
        if not ours or not theirs:
            return None
        return statistics.median(b / a for a, b in zip(ours, theirs, strict=False))

    def floor(self, name: str) -> float:
        work = WORKS[name]
        return self.peak.seconds(work.operations(work.size), work.traffic(work.size))

    def of_first(self, name: str, library: str, state: str, what: str) -> float | None:
        """The median of a figure of the fresh processes."""
        answers = self.first.get((name, library, state), [])
        found = [answer[what] for answer in answers if what in answer]
        return statistics.median(found) if found else None

    def states(self) -> list[tuple[str, str]]:
        """The columns of the first steps."""
        peers = [(peer, "") for peer in self.libraries[1:]]
        return [(OURS, "empty"), (OURS, "filled"), *peers]


# -- the tables --------------------------------------------------------------------------------


def milliseconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    digits = 3 if abs(seconds) < 1e-3 else 2 if abs(seconds) < 1e-2 else 1
    return f"{seconds * 1e3:.{digits}f}"


def times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"


def time_columns(results: Results) -> list[str]:
    titles = [TITLES[library] for library in results.libraries]
    ratios = [f"{TITLES[peer]} / ours" for peer in results.libraries[1:]]
    return ["work, ms", *titles, *ratios, "floor", "ours / floor"]


def time_cells(results: Results, name: str) -> list[str]:
    ours, floor = results.time(name, OURS), results.floor(name)
    return [
        name,
        *(milliseconds(results.time(name, library)) for library in results.libraries),
        *(times(results.ratio(name, peer)) for peer in results.libraries[1:]),
        milliseconds(floor),
        times(ours / floor if ours else None) if floor > 1e-6 else "",
    ]


def first_columns(results: Results) -> list[str]:
    titles = [f"{TITLES[library]}{', ' + s if s else ''}" for library, s in results.states()]
    return ["first step, s", *titles]


def first_cells(results: Results, name: str) -> list[str]:
    found = [results.of_first(name, *state, "first") for state in results.states()]
    return [name, *("-" if seconds is None else f"{seconds:.2f}" for seconds in found)]


def new_size_cells(results: Results, name: str) -> list[str]:
    found = [results.of_first(name, *state, "new_size") for state in results.states()]
    return [name, *("-" if s is None else milliseconds(max(s, 0.0)) for s in found)]


def memory_cells(results: Results, name: str) -> list[str]:
    cells = [name]
    for library, state in results.states():
        whole = results.of_first(name, library, state, "memory")
        imported = results.of_first(name, library, state, "memory_imported")
        if whole is None or imported is None:
            cells.append("-")
        else:
            cells.append(f"{whole / MIB:.0f} ({(whole - imported) / MIB:.0f})")
    return cells


def aligned(cells: list[str]) -> str:
    return f"{cells[0]:<16}" + "".join(f"{cell:>18}" for cell in cells[1:])


def time_header(results: Results) -> str:
    return aligned(time_columns(results))


def time_line(results: Results, name: str) -> str:
    notes = unsteady(results, name)
    return aligned(time_cells(results, name)) + (f"  ({'; '.join(notes)})" if notes else "")


def first_header(results: Results) -> str:
    return aligned(first_columns(results)) + "   and: ms for a new batch size; MiB (after import)"


def first_line(results: Results, name: str) -> str:
    lines = [aligned(first_cells(results, name))]
    if WORKS[name].has_batches:
        lines.append(aligned(["  new size, ms", *new_size_cells(results, name)[1:]]))
    lines.append(aligned(["  memory, MiB", *memory_cells(results, name)[1:]]))
    return "\n".join(lines)


def unsteady(results: Results, name: str) -> list[str]:
    """What our steps did in the rounds that steady ones do not; empty if nothing."""
    rounds = results.new.get((name, OURS), [])
    notes = []
    for what in rounds[0] if rounds else ():
        counts = [found[what] for found in rounds]
        if sum(counts):
            notes.append(f"{what}: {'+'.join(map(str, counts))}")
    return notes


# -- goals -------------------------------------------------------------------------------------


class Goal(NamedTuple):
    """Something that has to hold."""

    what: str
    is_met: bool
    found: str

    def __str__(self) -> str:
        return f"{'pass' if self.is_met else 'FAIL'}  {self.what}: {self.found}"


def goals(results: Results) -> list[Goal]:
    """All that can be judged by what was measured."""
    made = [Goal(f"{name} in {library}", False, text.splitlines()[-1])
            for (name, library), text in results.errors.items()]  # fmt: skip
    for name in results.works():
        made += time_goals(results, name)
        made += memory_goals(results, name)
    made += first_goals(results)
    return made


def time_goals(results: Results, name: str) -> list[Goal]:
    made = []
    ratio = results.ratio(name, "pytorch")
    if ratio is not None:
        goal = WORKS[name].goal
        text = f"{ratio:.2f} times as fast as PyTorch, at least {goal:g} wanted"
        made.append(Goal(f"{name}, speed", ratio >= goal, text))
        made += value_goals(results, name)
    if (name, OURS) in results.new:
        notes = unsteady(results, name)
        made.append(Goal(f"{name}, steady", not notes, "; ".join(notes) or "nothing new"))
    return made


def value_goals(results: Results, name: str) -> list[Goal]:
    ours, theirs = results.values[name, OURS], results.values[name, "pytorch"]
    if WORKS[name].is_random:
        return []
    off = max(abs(a - b) / max(abs(b), 1e-6) for a, b in zip(ours, theirs, strict=True))
    text = f"{off:.1e} from PyTorch's, at most {TOLERANCE:g} wanted"
    return [Goal(f"{name}, values", off <= TOLERANCE, text)]


def memory_goals(results: Results, name: str) -> list[Goal]:
    theirs = results.of_first(name, "pytorch", "", "memory")
    made = []
    for state in ("empty", "filled"):
        ours = results.of_first(name, OURS, state, "memory")
        if ours is not None and theirs is not None:
            text = f"{ours / MIB:.0f} MiB, PyTorch {theirs / MIB:.0f}"
            made.append(Goal(f"{name}, memory, {state} cache", ours <= theirs, text))
    return made


def first_goals(results: Results) -> list[Goal]:
    limits = [
        ("cnn, first step, empty cache", "empty", "first", FIRST_EMPTY),
        ("cnn, first step, filled cache", "filled", "first", FIRST_FILLED),
        ("cnn, new batch size, empty cache", "empty", "new_size", NEW_SIZE),
        ("cnn, new batch size, filled cache", "filled", "new_size", NEW_SIZE),
    ]
    made = []
    for what, state, figure, limit in limits:
        seconds = results.of_first("cnn", OURS, state, figure)
        if seconds is not None:
            text = f"{seconds:.3f} s, under {limit:g} wanted"
            made.append(Goal(what, seconds < limit, text))
    return made


# -- the page ----------------------------------------------------------------------------------

PAGE = """\
# Performance

Written by `python benchmarks/run.py --write docs/performance.md`; run it again for another machine,
or with `--check` to compare with the project's goals. What counts are the ratios: absolute times
change with the machine, and with what else it does.

The machine: {machine}. Measured limits: {operations:.0f} GFLOP/s with {threads} threads,
{alone:.0f} with one (float32 multiply-adds); reading at {bandwidth}.

## A step

Milliseconds, medians of {rounds} rounds. The libraries took turns, each in a process of its own
with {threads} threads while the others slept. A ratio above 1 means that taimatsu is faster. The
floor is the least time that the work's additions and multiplications, or the bytes that have to be
read or written at least once, take at the measured limits, whichever is longer.

{steps}

{summaries}
{notes}"""

FIRST_PAGE = """
## The first step

Seconds from the start of the process to the first result, imports included; taimatsu with an empty
and with a filled folder of compiled code.

{first}

Milliseconds that the first step with a batch size never seen before takes longer than others:

{sizes}

## Memory

The most MiB of memory that the process had at a time, and in parentheses how much of it came after
the import. Where taimatsu's folder of compiled code is empty, LLVM runs in processes beside it,
which are not counted and leave when they have nothing to do.

{memory}
"""


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def page(results: Results) -> str:
    """The page of the documentation."""
    peak, names = results.peak, results.works()
    text = PAGE.format(
        machine=peak.machine,
        operations=peak.operations / 1e9,
        alone=peak.alone / 1e9,
        threads=peak.threads,
        bandwidth=bandwidth_text(peak),
        rounds=results.rounds,
        steps=table(time_columns(results), [time_cells(results, name) for name in names]),
        summaries="".join(f"- `{name}`: {WORKS[name].summary}\n" for name in names),
        notes=notes_text(results),
    )
    if results.first:
        columns = first_columns(results)[1:]
        batched = [name for name in names if WORKS[name].has_batches]
        text += FIRST_PAGE.format(
            first=table(["work", *columns], [first_cells(results, name) for name in names]),
            sizes=table(["work", *columns], [new_size_cells(results, name) for name in batched]),
            memory=table(["work", *columns], [memory_cells(results, name) for name in names]),
        )
    return text


def bandwidth_text(peak: Peak) -> str:
    parts = []
    for size, rate in peak.bandwidth.items():
        parts.append(f"{rate / 1e9:.0f} GB/s from {size / MIB:g} MiB")
    return ", ".join(parts)


def notes_text(results: Results) -> str:
    """What a reader has to know of how taimatsu ran, if it was not as it should be."""
    interpreted, lines = [], []
    for name in results.works():
        rounds = results.new.get((name, OURS), [])
        if any(found["references"] for found in rounds):
            interpreted.append(name)
    if interpreted:
        names = ", ".join(interpreted)
        lines.append(f"Carried out by the NumPy reference, not by compiled code: {names}.")
    for (name, library), text in results.errors.items():
        lines.append(f"{TITLES[library]} failed at {name}: {text.splitlines()[-1]}")
    return "".join(f"\n{line}\n" for line in lines)
