"""What the soak's programs should give: computed by another process, operation by operation.

    python -m benchmarks.soak_oracle taimatsu|torch

reads cases from standard input and writes their arrays to standard output, as pickles. taimatsu
runs with ``TAIMATSU_EAGER=1``: the NumPy reference, without recordings or compiled code.
"""

from __future__ import annotations

import importlib
import os
import pickle
import subprocess
import sys
import threading
from collections import OrderedDict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.soak_cases import Case, carry_out

ROOT = Path(__file__).resolve().parents[1]
REMEMBERED = 300  # answers


class Oracle:
    """Answers from the other process; several threads may ask."""

    def __init__(self, library: str) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[Case, list] = OrderedDict()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.soak_oracle", library],
            env={**os.environ, "TAIMATSU_EAGER": "1", "OMP_NUM_THREADS": "1"},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    def expect(self, case: Case) -> list:
        """The arrays that a case makes. RuntimeError if the other process cannot tell."""
        with self._lock:
            found = self._known.get(case)
            if found is None:
                found = self._ask(case)
                self._known[case] = found
                if len(self._known) > REMEMBERED:
                    self._known.popitem(last=False)
            self._known.move_to_end(case)
            return found

    def _ask(self, case: Case) -> list:
        pipe, answers = self.process.stdin, self.process.stdout
        assert pipe is not None
        assert answers is not None
        pickle.dump(tuple(case), pipe)
        pipe.flush()
        try:
            return pickle.load(answers)
        except EOFError:
            raise RuntimeError(f"the oracle died of {case}") from None

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def main() -> None:
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    torch = importlib.import_module(sys.argv[1])
    torch.set_num_threads(1)
    while True:
        try:
            case = Case(*pickle.load(sys.stdin.buffer))
            pickle.dump(carry_out(torch, case), answers)
            answers.flush()
        except (BrokenPipeError, EOFError):
            os._exit(0)  # nobody is there any more


if __name__ == "__main__":
    main()
