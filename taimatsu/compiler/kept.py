"""Plans on disk: a process that finds its program's plan skips every pass but lowering.

A plan is kept beside the objects, under a hash of the program's canonical text, the target and the
sources of the compiler. It is good only with all of its objects.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Container
from functools import cache
from pathlib import Path

from taimatsu.compiler.objects import object_cache
from taimatsu.compiler.plan import Plan
from taimatsu.compiler.toolchain import kernel_fingerprint
from taimatsu.ir.target import Target


@cache
def compiler_fingerprint() -> str:
    """What decides about the plan that the same text becomes: the compiler's sources, and all."""
    package = Path(__file__).parents[1]
    digest = hashlib.blake2b(kernel_fingerprint().encode(), digest_size=8)
    for folder in (package / "compiler", package / "ir"):
        for source in sorted(folder.rglob("*.py")):
            digest.update(source.read_bytes())
    return digest.hexdigest()


def plan_key(text: str, target: Target) -> str:
    """What a program's plan is kept under."""
    digest = hashlib.blake2b(compiler_fingerprint().encode(), digest_size=20)
    for part in (target.key(), text):
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


def kept_plan(key: str, loaded: Container[str]) -> tuple[Plan, dict[str, bytes | None]] | None:
    """A plan and its objects by key (None for those ``loaded``); None unless all are there."""
    cache_ = object_cache()
    data = cache_.get(key)
    if data is None:
        return None
    try:
        plan = pickle.loads(data)
    except Exception:  # whatever is wrong with it, it is made anew
        return None
    codes: dict[str, bytes | None] = {}
    for object_key in plan.keys:
        codes[object_key] = None
        if object_key not in loaded:
            code = codes[object_key] = cache_.get(object_key)
            if code is None:
                return None
    return plan, codes


def keep_plan(key: str, plan: Plan) -> None:
    """Keeps a plan, unless it holds what cannot be kept."""
    try:
        data = pickle.dumps(plan, pickle.HIGHEST_PROTOCOL)
    except Exception:  # constants of the program that have no bytes: it is made anew each time
        return
    object_cache().put(key, data)
