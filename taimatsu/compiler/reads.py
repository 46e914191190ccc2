"""What stages read, and which of them are needed at all."""

from __future__ import annotations

from collections.abc import Iterable

from taimatsu.ir.stages import Stage, loads


def sources(stage: Stage) -> Iterable[Stage]:
    """The stages that a stage's expressions load, windows too, each once."""
    found: dict[Stage, None] = {}
    for node in loads(stage):
        found[node.detail[0]] = None
    return found


def needs(stage: Stage) -> Iterable[Stage]:
    """All that must be there before a stage is computed, or a window read."""
    yield from sources(stage)
    for needed in (stage.initial, stage.after):
        if needed is not None:
            yield needed
    if stage.cell is not None and stage.cell.stage is not None:
        yield stage.cell.stage
    for read in stage.opaque_inputs:
        if isinstance(read, Stage):
            yield read


def needed_stages(stages: list[Stage], outputs: Iterable[Stage]) -> list[Stage]:
    """The stages that an output, or a lasting effect, is made of; in their order."""
    found = set(outputs)
    found |= {s for s in stages if s.kind == "update" or s.checks}
    waiting = list(found)
    while waiting:
        for read in needs(waiting.pop()):
            if read not in found:
                found.add(read)
                waiting.append(read)
    return [s for s in stages if s in found]
