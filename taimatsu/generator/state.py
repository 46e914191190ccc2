"""``Generator``: the state of PyTorch's CPU random numbers, and the default one."""

from __future__ import annotations

import operator
import secrets
import struct
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from taimatsu import devices
from taimatsu.generator.twister import WORDS, Twister

_DEFAULT_SEED = 67280421310721  # what PyTorch gives a generator nobody seeded

# PyTorch's file layout of a state: the seed, words left in the block (plus one), whether it was
# seeded, the position, the words; an unused double, the kept float64 normal, an unused double,
# whether the kept one is valid; then the kept float32 normal and whether it is valid.
_HEAD = struct.Struct("<QiiQ")
_TAIL = struct.Struct("<Qddi4xf?3x")
_LEGACY_TAIL = struct.Struct("<Qddi4x")  # PyTorch before 1.6
STATE_SIZE = _HEAD.size + 8 * WORDS + _TAIL.size
_LEGACY_SIZE = _HEAD.size + 8 * WORDS + _LEGACY_TAIL.size


class Registered:
    """What layers above give: there, states are tensors."""

    to_tensor: Callable[[np.ndarray], Any] = staticmethod(lambda array: array)
    to_array: Callable[[Any], np.ndarray] = staticmethod(np.asarray)


registered = Registered()


class Generator:
    """Produces the pseudo-random numbers of the in-place random functions and of their kin.

    The stream is PyTorch's on the CPU: a Mersenne Twister, whose 64-bit draws are two words, the
    high one first.  Compiled code takes its masks from Philox instead, with ``dropout_key()``; the
    words PyTorch would have drawn for them are only counted, and skipped before the next draw.

    ``device``: only "cpu".
    """

    __slots__ = (
        "__weakref__",
        "_fresh",
        "_kept_float",
        "_lock",
        "_offset",
        "_pending",
        "_seed",
        "_twister",
        "kept_normal",
    )

    kept_normal: float | None  # the second number of the last Box-Muller pair, still to be given

    def __init__(self, device: Any = "cpu") -> None:
        if devices.device(device).type != "cpu":
            raise RuntimeError(
                f"[Generator] expected the device 'cpu', got {str(device)!r}; random numbers are "
                "drawn on the host: make a CPU generator and move the tensor"
            )
        self._lock = threading.RLock()
        self._twister = Twister(0)
        self.manual_seed(_DEFAULT_SEED)

    @property
    def device(self) -> Any:
        """Where the numbers are drawn: the CPU."""
        return devices.CPU

    # -- seeds -----------------------------------------------------------------------------

    def manual_seed(self, seed: int) -> Generator:
        """Starts the stream of ``seed``, from -2**63 to 2**64 - 1; returns the generator."""
        if not hasattr(seed, "__index__"):
            raise RuntimeError(
                f"[manual_seed] manual_seed expected a long, but got {type(seed).__name__}"
            )
        value = operator.index(seed)
        if not -(1 << 63) <= value < 1 << 64:
            raise ValueError(
                "[manual_seed] Overflow when unpacking long long: expected a seed from -2**63 to "
                f"2**64 - 1, got {value}"
            )
        with self._lock:
            self._seed = value & 0xFFFFFFFFFFFFFFFF
            self._twister.seed(value)
            self._fresh = True
            self._pending = 0
            self._offset = 0
            self.kept_normal = None
            self._kept_float = None
        return self

    def initial_seed(self) -> int:
        """The seed this stream began with."""
        return self._seed

    def seed(self) -> int:
        """Starts the stream of a seed from the operating system, and returns that seed."""
        value = secrets.randbits(53)  # exact as a float64, as PyTorch's are
        self.manual_seed(value)
        return value

    # -- draws -----------------------------------------------------------------------------

    def words(self, count: int) -> np.ndarray:
        """The next ``count`` 32-bit words (uint32)."""
        with self._lock:
            if count:
                self._settle()
                self._fresh = False
            return self._twister.words(count)

    def double_words(self, count: int) -> np.ndarray:
        """The next ``count`` 64-bit words (uint64): two draws each, the high half first."""
        return doubled(self.words(2 * count))

    def advance(self, draws: int) -> None:
        """Passes over ``draws`` 32-bit words: counted now, skipped before the next draw."""
        with self._lock:
            self._pending += draws

    def dropout_key(self, count: int) -> tuple[int, int]:
        """The Philox key and first counter for a mask of ``count`` numbers; ``count`` may be 0.

        The counter moves on, so that no two masks share numbers, and the Mersenne Twister is
        advanced as PyTorch's mask would have advanced it.
        """
        with self._lock:
            offset = self._offset
            self._offset += -(-count // 4)
            self._pending += dropout_draws(count)
            return self._seed, offset

    def _settle(self) -> None:
        if self._pending:
            self._twister.skip(self._pending)
            self._pending = 0
            self._fresh = False

    def lock(self) -> threading.RLock:
        """Held while a function draws, so that threads do not take each other's numbers."""
        return self._lock

    # -- the whole state -------------------------------------------------------------------

    def get_state(self) -> Any:
        """The state as PyTorch writes it: a ByteTensor of 5056 elements.

        The Philox counter is in a field that PyTorch leaves unused, so either loads the other's.
        """
        return registered.to_tensor(self.snapshot())

    def set_state(self, new_state: Any) -> Generator:
        """Goes on from what ``get_state()`` gave, here or in PyTorch; returns the generator."""
        return self.restore(registered.to_array(new_state))

    def snapshot(self) -> np.ndarray:
        """The state as a NumPy array of 5056 bytes (uint8)."""
        with self._lock:
            self._settle()
            words, position = self._twister.state()
            # A seeded generator has no block yet: PyTorch writes position 0, one word left.
            shown, left = (0, 1) if self._fresh else (position, WORDS + 1 - position)
            kept, kept_float = self.kept_normal, self._kept_float
            head = _HEAD.pack(self._seed, left, 1, shown)
            tail = _TAIL.pack(
                self._offset,
                kept or 0.0,
                0.0,
                kept is not None,
                kept_float or 0.0,
                kept_float is not None,
            )
            state = head + words.astype("<u8").tobytes() + tail
        return np.frombuffer(state, np.uint8).copy()

    def restore(self, state: np.ndarray) -> Generator:
        """Goes on from a ``snapshot()``."""
        if state.dtype != np.uint8:
            raise TypeError(
                f"[set_state] expected a torch.ByteTensor, but got {state.dtype}; "
                "pass what get_state() returned"
            )
        if state.size not in (STATE_SIZE, _LEGACY_SIZE):
            raise RuntimeError(
                f"[set_state] Expected a CPUGeneratorImplState of size {STATE_SIZE} but found "
                f"the input RNG state size to be {state.size}; is it the state of a CPU generator?"
            )
        data = state.tobytes()
        seed, left, seeded, position = _HEAD.unpack_from(data)
        words = np.frombuffer(data, "<u8", WORDS, _HEAD.size).astype(np.uint32)
        rest = data[_HEAD.size + 8 * WORDS :]
        if state.size == STATE_SIZE:
            offset, normal, _, valid, single, single_valid = _TAIL.unpack(rest)
        else:
            (offset, normal, _, valid), single, single_valid = _LEGACY_TAIL.unpack(rest), 0.0, False
        if not seeded or not 1 <= left <= WORDS or position > WORDS:
            raise RuntimeError(
                "[set_state] expected the state of a Mersenne Twister (mt19937), got "
                f"seeded={seeded}, left={left}, position={position}; these bytes are damaged"
            )
        with self._lock:
            self._seed = seed
            self._fresh = left == 1 and position == 0
            self._twister.set_state(words, WORDS if left == 1 else position)
            self._pending = 0
            self._offset = offset
            self.kept_normal = normal if valid else None
            self._kept_float = single if single_valid else None
        return self

    def clone_state(self) -> Generator:
        """Another generator in the same state."""
        return type(self)().restore(self.snapshot())

    def __reduce__(self) -> tuple:
        return _restored, (type(self), self.snapshot())

    def __copy__(self) -> Generator:
        return self.clone_state()

    def __deepcopy__(self, memo: dict) -> Generator:
        return self.clone_state()

    def __repr__(self) -> str:
        return f"<torch._C.Generator object at {id(self):#x}>"


def doubled(words: np.ndarray) -> np.ndarray:
    """Pairs of 32-bit words as 64-bit ones, the high half first."""
    made = words[0::2].astype(np.uint64)
    made <<= np.uint64(32)
    made |= words[1::2]
    return made


def _restored(kind: type[Generator], state: np.ndarray) -> Generator:
    return kind().restore(state)


def dropout_draws(count: int) -> int:
    """The 32-bit words PyTorch's dropout draws for ``count`` elements: a 64-bit one for each."""
    return 2 * count


default_generator = Generator()
default_generator.seed()  # PyTorch's, too, differs from process to process until it is seeded


def manual_seed(seed: int) -> Generator:
    """Seeds the default generator, and returns it. Accepts floats with an integral value."""
    return default_generator.manual_seed(int(seed))


def seed() -> int:
    """Seeds the default generator from the operating system; returns the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    """The seed the default generator's stream began with."""
    return default_generator.initial_seed()
