"""Minimax polynomials of vector_math, and the constants beside them; prints ``coefficients.py``.

    python tools/minimax.py > taimatsu/compiler/codegen/vector_math/coefficients.py

Needs mpmath. Each polynomial P approximates g on [low, high] so that the largest value of
``weight * |P - g|`` is as small as its number of coefficients allows (Remez's exchange
algorithm); the weight turns the error of P into the relative error of the function that P is a
part of. The number of coefficients is the smallest whose error is below the tolerance. The
coefficients are then rounded to the working precision: all at once, or one by one from the
lowest, the polynomial of the others being found anew each time so that they make up for the
rounding; the better result is kept.

Three precisions: ``32`` and ``64`` (results and arithmetic of float32 and float64), and
``wide`` (float64 arithmetic of which only a float32 result is wanted).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from typing import NamedTuple

import mpmath as mp
import numpy as np

mp.mp.dps = 60
ROUNDS = 12


class Wanted(NamedTuple):
    """A polynomial that is wanted."""

    name: str
    meaning: str
    g: Callable[[mp.mpf], mp.mpf]
    weight: Callable[[mp.mpf], mp.mpf]
    low: mp.mpf
    high: mp.mpf
    bits: dict[str, float]  # precision: -log2 of the error allowed
    rest: bool = False  # whether the lowest coefficient's rounding error is printed too


def near_zero(function: Callable, limit: float | mp.mpf = 1e-18) -> Callable:
    """``function`` where |argument| is at least ``limit``: its quotients are 0 / 0 in 0."""

    def moved(t: mp.mpf) -> mp.mpf:
        with mp.workdps(160):
            return function(t if abs(t) > limit else mp.mpf(limit))

    return moved


def of_root(function: Callable) -> Callable:
    """A function of z = x^2, from one of x."""
    return near_zero(lambda z: function(mp.sqrt(z)), 1e-30)


LN2 = mp.log(2)
HALF_LN2 = LN2 / 2 * (1 + mp.mpf(2) ** -10)
STEP = LN2 / 32 * (1 + mp.mpf(2) ** -10)
QUARTER_PI = mp.pi / 4 * (1 + mp.mpf(2) ** -10)
LOG_LOW, LOG_HIGH = mp.sqrt(0.5) - 1, mp.sqrt(2) - 1
ERFCX_CENTRE = 3.75


def erfcx_of(t: mp.mpf) -> mp.mpf:
    """(1 + 2 x) exp(x^2) erfc(x), where t = (x - c) / (x + c)."""
    with mp.workdps(80):
        x = ERFCX_CENTRE * (1 + t) / (1 - t)
        return (1 + 2 * x) * mp.exp(x * x) * mp.erfc(x)


WANTED = [
    Wanted(
        "EXP",
        "(exp(r) - 1 - r) / r^2, |r| <= ln(2) / 2",
        near_zero(lambda r: (mp.expm1(r) - r) / r**2),
        lambda r: r**2 / mp.expm1(r) if r else mp.mpf(0),
        -HALF_LN2,
        HALF_LN2,
        {"32": 26.5, "wide": 35, "64": 57},
    ),
    Wanted(
        "EXP_STEP",
        "(exp(r) - 1 - r) / r^2, |r| <= ln(2) / 32; relative to exp(r)",
        near_zero(lambda r: (mp.expm1(r) - r) / r**2),
        lambda r: r**2 / mp.exp(r),
        -STEP,
        STEP,
        {"32": 28},
    ),
    Wanted(
        "EXPM1_STEP",
        "(exp(r) - 1 - r) / r^2, |r| <= ln(2) / 32; relative to exp(r) - 1",
        near_zero(lambda r: (mp.expm1(r) - r) / r**2),
        lambda r: r**2 / mp.expm1(r) if r else mp.mpf(0),
        -STEP,
        STEP,
        {"32": 27},
    ),
    Wanted(
        "EXP2",
        "(2^r - 1) / r, |r| <= 1 / 2",
        near_zero(lambda r: mp.expm1(r * LN2) / r),
        lambda r: r / mp.power(2, r),
        mp.mpf(-0.5),
        mp.mpf(0.5),
        {"32": 26.5, "wide": 35, "64": 57},
    ),
    Wanted(
        "LOG",
        "(log(1 + f) - f + f^2 / 2) / f^3, sqrt(1/2) <= 1 + f <= sqrt(2)",
        near_zero(lambda f: (mp.log1p(f) - f + f**2 / 2) / f**3),
        lambda f: f**3 / mp.log1p(f) if f else mp.mpf(0),
        LOG_LOW,
        LOG_HIGH,
        {"32": 26.5, "wide": 38},
    ),
    Wanted(
        "LOG_RATIO",
        "(2 atanh(s) / s - 2) / z, z = s^2, s = f / (2 + f)",
        of_root(lambda s: (2 * mp.atanh(s) / s - 2) / s**2),
        lambda z: z,
        mp.mpf(0),
        mp.mpf("0.02945"),
        {"64": 58},
    ),
    Wanted(
        "LOG_TAIL",
        "(2 atanh(s) / s - 2 - 2 z / 3) / z^2, z = s^2, s = f / (2 + f)",
        of_root(lambda s: (2 * mp.atanh(s) / s - 2 - 2 * s**2 / 3) / s**4),
        lambda z: z**2,
        mp.mpf(0),
        mp.mpf("0.02945"),
        {"64": 70},
    ),
    Wanted(
        "SIN",
        "(sin(r) / r - 1) / z, z = r^2, |r| <= pi / 4",
        of_root(lambda r: (mp.sin(r) / r - 1) / r**2),
        lambda z: z,
        mp.mpf(0),
        QUARTER_PI**2,
        {"32": 27, "64": 57},
    ),
    Wanted(
        "COS",
        "(cos(r) - 1 + z / 2) / z^2, z = r^2, |r| <= pi / 4",
        of_root(lambda r: (mp.cos(r) - 1 + r**2 / 2) / r**4),
        lambda z: z**2,
        mp.mpf(0),
        QUARTER_PI**2,
        {"32": 27, "64": 57},
    ),
    Wanted(
        "TAN",
        "(tan(r) / r - 1) / z, z = r^2, |r| <= pi / 4",
        of_root(lambda r: (mp.tan(r) / r - 1) / r**2),
        lambda z: z,
        mp.mpf(0),
        QUARTER_PI**2,
        {"32": 27, "64": 57},
    ),
    Wanted(
        "ASIN",
        "(asin(s) / s - 1) / z, z = s^2, |s| <= 1 / 2",
        of_root(lambda s: (mp.asin(s) / s - 1) / s**2),
        lambda z: z,
        mp.mpf(0),
        mp.mpf(0.25),
        {"32": 27.5, "64": 57},
    ),
    Wanted(
        "ATAN",
        "(atan(s) / s - 1) / z, z = s^2, |s| <= tan(pi / 8)",
        of_root(lambda s: (mp.atan(s) / s - 1) / s**2),
        lambda z: z,
        mp.mpf(0),
        mp.mpf("0.1717"),
        {"32": 27.5, "64": 57},
    ),
    Wanted(
        "SINH",
        "(sinh(x) / x - 1) / z, z = x^2, |x| <= 1",
        of_root(lambda x: (mp.sinh(x) / x - 1) / x**2),
        lambda z: z,
        mp.mpf(0),
        mp.mpf(1),
        {"32": 27.5, "64": 57},
    ),
    Wanted(
        "TANH",
        "(tanh(x) / x - 1) / z, z = x^2, |x| <= 0.55",
        of_root(lambda x: (mp.tanh(x) / x - 1) / x**2),
        lambda z: z,
        mp.mpf(0),
        mp.mpf("0.3026"),
        {"32": 27.5, "64": 57},
    ),
    Wanted(
        "ERF",
        "erf(x) / x - 1, as a polynomial in z = x^2, |x| <= 1",
        of_root(lambda x: mp.erf(x) / x - 1),
        lambda z: mp.mpf(1),
        mp.mpf(0),
        mp.mpf(1),
        {"32": 27, "64": 57},
    ),
    Wanted(
        "ERFC_LOG",
        "-log(erfc(x)) as a polynomial in x - 1, 1 <= x <= 4",
        lambda t: -mp.log(mp.erfc(t + 1)),
        lambda t: mp.erfc(t + 1),
        mp.mpf(0),
        mp.mpf(3),
        {"32": 27},
    ),
    Wanted(
        "ERFCX",
        f"(1 + 2 x) exp(x^2) erfc(x) in t = (x - {ERFCX_CENTRE}) / (x + {ERFCX_CENTRE}), x <= 28",
        erfcx_of,
        lambda t: 1 / mp.mpf(1.1),
        mp.mpf(-1),
        mp.mpf("0.7639"),
        {"wide": 33, "64": 57},
        rest=True,
    ),
]


def evaluate(coefficients: Iterable[mp.mpf], t: mp.mpf) -> mp.mpf:
    total = mp.mpf(0)
    for coefficient in reversed(list(coefficients)):
        total = total * t + coefficient
    return total


def samples(low: mp.mpf, high: mp.mpf, count: int) -> list[mp.mpf]:
    """Chebyshev's points, dense at the ends, ascending."""
    middle, half = (low + high) / 2, (high - low) / 2
    return [middle - half * mp.cos(mp.pi * i / (count - 1)) for i in range(count)]


class Remez:
    """Remez's algorithm on a fixed fine grid, for one function."""

    def __init__(self, wanted: Wanted, points: int = 400) -> None:
        self.grid = samples(wanted.low, wanted.high, points)
        self.values = [wanted.g(t) for t in self.grid]
        self.weights = [abs(wanted.weight(t)) for t in self.grid]

    def fit(self, fixed: list[mp.mpf], count: int) -> tuple[list[mp.mpf], mp.mpf]:
        """``count`` coefficients in all, the first ones given; and the largest weighted error."""
        free = count - len(fixed)
        if not free:
            return fixed, max(map(abs, self.errors(fixed)))
        start = np.linspace(0, len(self.grid) - 1, free + 3).round().astype(int)[1:-1]
        chosen = [int(i) for i in start]
        best: tuple[list[mp.mpf], mp.mpf] | None = None
        for _ in range(ROUNDS):
            made = fixed + self.solve(fixed, free, chosen)
            errors = self.errors(made)
            worst = max(map(abs, errors))
            if best is None or worst < best[1]:
                best = (made, worst)
            exchanged = alternation(errors, free + 1)
            if exchanged == chosen or len(exchanged) < free + 1:
                break
            chosen = exchanged
        return best

    def errors(self, coefficients: list[mp.mpf]) -> list[mp.mpf]:
        return [
            w * (evaluate(coefficients, t) - v)
            for t, v, w in zip(self.grid, self.values, self.weights, strict=True)
        ]

    def solve(self, fixed: list[mp.mpf], free: int, chosen: list[int]) -> list[mp.mpf]:
        """The polynomial whose weighted errors in the chosen points are equal and alternate."""
        matrix, right = mp.matrix(free + 1, free + 1), mp.matrix(free + 1, 1)
        for row, index in enumerate(chosen):
            t, weight = self.grid[index], self.weights[index]
            for column in range(free):
                matrix[row, column] = weight * t ** (column + len(fixed))
            matrix[row, free] = (-1) ** row
            right[row] = weight * (self.values[index] - evaluate(fixed, t))
        return list(mp.lu_solve(matrix, right))[:free]


def alternation(errors: list[mp.mpf], count: int) -> list[int]:
    """Indices of ``count`` extrema of alternating sign, with the largest among them."""
    extrema: list[int] = []
    for index, error in enumerate(errors):
        if extrema and (errors[extrema[-1]] > 0) == (error > 0):
            if abs(error) > abs(errors[extrema[-1]]):
                extrema[-1] = index
        elif error:
            extrema.append(index)
    while len(extrema) > count:
        extrema.pop(0 if abs(errors[extrema[0]]) < abs(errors[extrema[-1]]) else -1)
    return extrema


def rounded(value: mp.mpf, precision: str) -> mp.mpf:
    """The nearest number of a precision (float64 for ``wide`` and ``64``)."""
    return mp.mpf(float(np.float32(str(value)))) if precision == "32" else mp.mpf(float(value))


def refitted(remez: Remez, count: int, precision: str) -> list[mp.mpf]:
    """Coefficients rounded one after the other, those that follow fitted anew each time."""
    fixed: list[mp.mpf] = []
    while len(fixed) < count:
        made, _ = remez.fit(fixed, count)
        fixed.append(rounded(made[len(fixed)], precision))
    return fixed


def polynomial(wanted: Wanted, precision: str) -> tuple[list[mp.mpf], float, mp.mpf]:
    """The shortest polynomial within the tolerance, its coefficients rounded; its bits; the rest.

    The rest is what rounding left out of the lowest coefficient; if it is wanted, the bits count
    it in.
    """
    remez = Remez(wanted)
    tolerance = mp.mpf(2) ** -wanted.bits[precision]
    for count in range(2, 40):
        if remez.fit([], count)[1] > tolerance:
            continue
        exact = remez.fit([], count)[0]
        plain = [rounded(value, precision) for value in exact]
        if wanted.rest:
            error = max(map(abs, remez.errors([exact[0], *plain[1:]])))
            return plain, float(-mp.log(error, 2)), exact[0] - plain[0]
        candidates = [plain, refitted(remez, count, precision)]
        errors = [max(map(abs, remez.errors(made))) for made in candidates]
        error, made = min(zip(errors, candidates, strict=True))
        return made, float(-mp.log(error, 2)), mp.mpf(0)
    raise SystemExit(f"no polynomial for {wanted.name} {precision}")


def literal(value: mp.mpf, precision: str) -> str:
    """The shortest text that reads as this number of the precision."""
    return str(np.float32(float(value))) if precision == "32" else repr(float(value))


def pieces(value: mp.mpf, widths: Iterable[int]) -> list[mp.mpf]:
    """A constant as a sum of numbers of given widths in bits, each the truncated rest."""
    made = []
    for width in widths:
        exponent = int(mp.floor(mp.log(abs(value), 2))) + 1
        scale = mp.mpf(2) ** (width - exponent)
        piece = mp.nint(value * scale) / scale
        made.append(piece)
        value -= piece
    return made


# Constants as sums. The first piece of LN2 and LOG10_2 is short enough that its product with any
# exponent is exact, that of QUARTER_PI for factors up to 4; other pieces have all their bits.
SUMS = [
    ("LN2", LN2, {"32": (14, 24), "wide": (40, 53), "64": (40, 53)}),
    ("LOG10_2", mp.log10(2), {"32": (14, 24), "64": (40, 53)}),
    ("LOG2_E", 1 / LN2, {"32": (24, 24), "wide": (53, 53), "64": (53, 53)}),
    ("LOG10_E", mp.log10(mp.e), {"32": (24, 24), "64": (53, 53)}),
    ("HALF_PI", mp.pi / 2, {"32": (24, 24), "64": (53, 53, 53)}),
    ("QUARTER_PI", mp.pi / 4, {"32": (20, 24), "64": (49, 53)}),
]


# -- tables of sixteen numbers, as many as a register of 512 bits holds ----------------------

ERF_DEGREE = 5


def piece(g: Callable[[mp.mpf], mp.mpf], low: mp.mpf, high: mp.mpf) -> Wanted:
    """A polynomial whose absolute error counts."""
    return Wanted("", "", g, lambda t: mp.mpf(1), low, high, {})


def erf_pieces() -> list[list[mp.mpf]]:
    """Coefficients of erf(j / 4 + t), |t| <= 1 / 8, for each j below 16.

    The first is odd in t, and without t itself. What is missing to 1 is made to vanish at the end
    of the last, since greater numbers are taken for that end.
    """
    eighth = mp.mpf(1) / 8
    near = of_root(lambda t: mp.erf(t) / t - 1)
    odd, _ = Remez(piece(near, mp.mpf(0), eighth**2)).fit([], (ERF_DEGREE + 1) // 2)
    made = [[value for c in odd for value in (mp.mpf(0), c)]]
    for j in range(1, 16):

        def complement(t: mp.mpf, j: int = j) -> mp.mpf:
            fall = 1 - (4 * t + mp.mpf(1) / 2) ** 3 if j == 15 else 1
            return mp.erfc(mp.mpf(j) / 4 + t) * fall

        far = piece(lambda t: 1 - complement(t), -eighth, eighth)
        made.append(Remez(far, 200).fit([], ERF_DEGREE + 1)[0])
    return [[rounded(value, "32") for value in row] for row in made]


def print_sixteens() -> None:
    print(
        "\n# 2^(j / 16) and 2^(-j / 16), j below 16, and what rounding left out, relative to them."
    )
    for name, sign in (("STEPS", 1), ("STEPS_DOWN", -1)):
        exact = [mp.power(2, mp.mpf(sign * j) / 16) for j in range(16)]
        near = [rounded(value, "32") for value in exact]
        print_numbers(name, near)
        print_numbers(f"{name}_REST", [e / n - 1 for e, n in zip(exact, near, strict=True)])
    print("\n# erf(j / 4 + t), |t| <= 1 / 8: for each power of t, its coefficients for j below 16.")
    print("ERF_PIECES = (")
    for row in zip(*erf_pieces(), strict=True):
        print("    (")
        print_lines(row, 8)
        print("    ),")
    print(")")


def print_numbers(name: str, values: Iterable[mp.mpf]) -> None:
    print(f"{name} = (")
    print_lines(values, 4)
    print(")")


def print_lines(values: Iterable[mp.mpf], indent: int) -> None:
    """Four numbers a line."""
    texts = [literal(value, "32") for value in values]
    for begin in range(0, len(texts), 4):
        print(" " * indent + ", ".join(texts[begin : begin + 4]) + ",")


def main() -> None:
    print('"""Coefficients of vector_math. Made by tools/minimax.py, which tells how; not edited.')
    print()
    print("Polynomials by precision, lowest coefficient first: `32`, `64`, and `wide` (float64")
    print("arithmetic for a float32 result). The comments tell the error, relative to the function")
    print('computed, in bits.\n"""\n')
    print("# fmt: off")
    for wanted in WANTED:
        print(f"\n# {wanted.meaning}")
        print(f"{wanted.name} = {{")
        for precision in wanted.bits:
            coefficients, bits, rest = polynomial(wanted, precision)
            print(f'    "{precision}": (  # 2^-{bits:.1f}')
            for coefficient in coefficients:
                print(f"        {literal(coefficient, precision)},")
            print("    ),")
            print(wanted.name, precision, len(coefficients), f"{bits:.1f}", file=sys.stderr)
        print("}")
        if wanted.rest:
            print("# What rounding left out of the last one's lowest coefficient.")
            print(f"{wanted.name}_REST = {float(rest)!r}")
    print_sixteens()
    print("\n# Constants as sums of numbers of the format, largest first.")
    for name, value, widths in SUMS:
        print(f"{name} = {{")
        for precision, bits_of_pieces in widths.items():
            parts = ", ".join(literal(p, precision) for p in pieces(value, bits_of_pieces))
            print(f'    "{precision}": ({parts}),')
        print("}")
    bits = two_over_pi()
    words = [(bits >> (1280 - 64 * (i + 1))) & (2**64 - 1) for i in range(20)]
    print("\n# 2 / pi in binary, 64 bits a word, after the point (Payne & Hanek 1983).")
    print("TWO_OVER_PI = (")
    for word in words:
        print(f"    0x{word:016X},")
    print(")")


def two_over_pi() -> int:
    """2 / pi as a whole number of 1280 bits."""
    with mp.workprec(1400):
        return int(mp.floor(2 / mp.pi * mp.mpf(2) ** 1280))


if __name__ == "__main__":
    main()
