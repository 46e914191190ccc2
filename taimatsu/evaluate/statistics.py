"""Counts of what carrying out programs took; tests read them."""

from __future__ import annotations


class Statistics:
    """Counters since the process began.

    Attributes:
        references: operations that the NumPy reference carried out.
        compilations: kernels that were compiled (not found in a cache).
        launches: calls into compiled code.
        plans: structures that went through the compiler's passes.
        bindings: programs bound to a plan.
        specialisations: kernels that were compiled again, in the background, for known extents.
    """

    __slots__ = (
        "bindings",
        "compilations",
        "launches",
        "plans",
        "references",
        "specialisations",
    )

    def __init__(self) -> None:
        self.references = 0
        self.compilations = 0
        self.launches = 0
        self.plans = 0
        self.bindings = 0
        self.specialisations = 0


STATISTICS = Statistics()
