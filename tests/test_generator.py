"""The generator on NumPy arrays. The expected numbers are PyTorch's, written down."""

from __future__ import annotations

import copy
import pickle
import threading

import numpy as np
import pytest

from taimatsu.generator import Generator, dropout_draws, fill, philox_uniform
from taimatsu.generator.discrete import (
    multinomial_with_replacement,
    poisson,
)
from taimatsu.generator.fma import fma
from taimatsu.generator.philox import philox, philox_words
from taimatsu.generator.twister import (
    JUMP_FROM,
    Twister,
    characteristic_polynomial,
    jumped,
)
from taimatsu.ops.sampling import multinomial_without_replacement

FLOAT32 = np.dtype(np.float32)
FLOAT64 = np.dtype(np.float64)
INT64 = np.dtype(np.int64)


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def test_first_numbers_of_seed_0_are_pytorchs() -> None:
    g = seeded(0)
    assert fill.uniform(g, 3, FLOAT32).tolist() == [
        0.49625658988952637, 0.7682217955589294, 0.08847743272781372
    ]  # fmt: skip
    np.testing.assert_array_max_ulp(
        fill.normal(g, 3, FLOAT32),
        np.array([0.3643381893634796, 0.13439632952213287, 0.16421625018119812], np.float32),
        maxulp=2,
    )
    assert fill.integers_between(g, 5, INT64, 0, 100).tolist() == [66, 56, 99, 78, 76]
    assert fill.permutation(g, 8, INT64).tolist() == [0, 3, 4, 6, 1, 7, 5, 2]


def test_blocks_of_16_normals_are_pytorchs() -> None:
    g = seeded(7)
    last = [float.fromhex(x) for x in ("-0x1.5c19d2p+0", "-0x1.bbc05p-1", "-0x1.20c57cp-1")]
    np.testing.assert_array_max_ulp(
        fill.normal(g, 18, FLOAT32)[-3:], np.array(last, np.float32), maxulp=2
    )
    half = np.full(8, 0.5, np.float32)
    assert fill.bernoulli_of(g, half, FLOAT32).tolist() == [0, 0, 1, 1, 1, 1, 0, 1]
    assert fill.uniform(g, 2, FLOAT64).tolist() == [0.8652042633507657, 0.6603051061881838]
    weights = np.arange(1.0, 9.0, dtype=np.float32)[None]
    assert multinomial_without_replacement(g, weights, 4).tolist() == [[5, 7, 4, 0]]
    rates = np.array([0.5, 3, 30, 300], np.float32)
    assert poisson(g, rates).tolist() == [0, 3, 24, 312]


def test_the_second_normal_of_a_pair_is_kept() -> None:
    pair = fill.normal(seeded(3), 2, FLOAT64)
    g = seeded(3)
    assert fill.normal(g, 1, FLOAT64)[0] == pair[0]
    fill.uniform(g, 5, FLOAT32)
    assert fill.normal(g, 1, FLOAT64)[0] == pair[1]


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 31, 32, 100_001])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_normal_has_the_moments_it_was_asked_for(count: int, dtype: type) -> None:
    values = fill.normal(seeded(1), count, np.dtype(dtype), mean=3.0, std=0.5)
    assert values.dtype == dtype
    assert values.shape == (count,)
    if count > 1000:
        assert abs(values.astype(float).mean() - 3) < 0.01
        assert abs(values.astype(float).std() - 0.5) < 0.01


def test_uniform_stays_below_its_end() -> None:
    values = fill.uniform(seeded(1), 200_000, np.dtype(np.float16), -1.0, 1.0)
    assert values.min() >= -1
    assert values.max() < 1


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.int32, np.int64, np.bool_])
def test_integers_cover_the_non_negative_range(dtype: type) -> None:
    values = fill.integers(seeded(1), 5000, np.dtype(dtype))
    greatest = 1 if dtype == np.bool_ else np.iinfo(dtype).max
    assert values.min() >= 0
    assert int(values.max()) > 0.9 * greatest


def test_integers_between_reach_both_ends_of_int64() -> None:
    values = fill.integers_between(seeded(1), 1000, INT64, -(1 << 63), (1 << 63) - 1)
    assert values.min() < -(1 << 61)
    assert values.max() > 1 << 61


def test_permutation_holds_each_number_once() -> None:
    assert sorted(fill.permutation(seeded(5), 1000, INT64)) == list(range(1000))


def test_multinomial_follows_the_weights() -> None:
    weights = np.array([[0.0, 1.0, 3.0]])
    drawn = multinomial_with_replacement(seeded(2), weights, 20_000)
    shares = np.bincount(drawn[0], minlength=3) / 20_000
    np.testing.assert_allclose(shares, [0, 0.25, 0.75], atol=0.02)


def test_multinomial_without_replacement_repeats_nothing() -> None:
    drawn = multinomial_without_replacement(seeded(2), np.ones((5, 40), np.float32), 40)
    assert (np.sort(drawn, axis=1) == np.arange(40)).all()


@pytest.mark.parametrize("rate", [0.0, 0.7, 12.0, 1e4])
def test_poisson_has_its_mean_and_variance(rate: float) -> None:
    drawn = poisson(seeded(4), np.full(4000, rate))
    assert abs(drawn.mean() - rate) <= 0.1 * np.sqrt(rate)
    assert abs(drawn.var() - rate) <= 0.1 * rate


def test_fma_rounds_once() -> None:
    from fractions import Fraction

    rng = np.random.default_rng(0)
    for dtype in (np.float32, np.float64):
        a = rng.uniform(-1, 1, 300).astype(dtype)
        b, c = dtype(1.1), dtype(-0.7)
        exact = [Fraction(float(x)) * Fraction(float(b)) + Fraction(float(c)) for x in a]
        for got, wanted in zip(fma(a, b, c), exact, strict=True):
            neighbours = (np.nextafter(got, dtype(-9)), got, np.nextafter(got, dtype(9)))
            best = min(neighbours, key=lambda v: abs(Fraction(float(v)) - wanted))
            assert best == got


def test_fma_does_not_round_twice_at_a_tie_of_float32() -> None:
    a = np.array([24929 * 2.0**-14], np.float32)
    b = np.float32(673 * 2.0**-10)  # the product is 1 + 2**-24, between two float32 numbers
    assert fma(a, b, np.float32(2.0**-80))[0] == np.float32(1 + 2.0**-23)
    assert fma(a, b, np.float32(-(2.0**-80)))[0] == 1
    assert fma(a, b, np.float32(0))[0] == 1


# -- state -----------------------------------------------------------------------------------


def draw_some(g: Generator) -> list:
    return [fill.normal(g, 3, FLOAT32).tolist(), fill.uniform(g, 700, FLOAT64).tolist()]


@pytest.mark.parametrize("before", [0, 1, 623, 624, 625, 2000])
def test_state_goes_out_and_in(before: int) -> None:
    g = seeded(9)
    g.words(before)
    fill.normal(g, 1, FLOAT32)
    state = g.snapshot()
    assert state.dtype == np.uint8
    assert state.size == 5056
    expected = draw_some(g)
    assert draw_some(Generator().restore(state)) == expected
    assert draw_some(g.restore(state)) == expected


def test_copies_go_on_alike() -> None:
    g = seeded(9)
    g.words(10)
    for other in (g.clone_state(), copy.deepcopy(g), pickle.loads(pickle.dumps(g))):
        assert other.initial_seed() == 9
        assert draw_some(other) == draw_some(g.clone_state())


def test_seeds() -> None:
    g = Generator()
    assert g.initial_seed() == 67280421310721
    assert g.manual_seed(-1).initial_seed() == 2**64 - 1
    assert g.seed() == g.initial_seed()
    with pytest.raises(ValueError, match="Overflow when unpacking long long"):
        g.manual_seed(1 << 64)
    with pytest.raises(RuntimeError, match="expected a long, but got float"):
        g.manual_seed(1.5)
    with pytest.raises(RuntimeError, match="expected the device 'cpu'"):
        Generator("cuda")


def test_damaged_states_are_refused() -> None:
    g = Generator()
    with pytest.raises(TypeError, match=r"torch\.ByteTensor"):
        g.restore(np.zeros(5056, np.int32))
    with pytest.raises(RuntimeError, match="5056"):
        g.restore(np.zeros(7, np.uint8))
    with pytest.raises(RuntimeError, match="mt19937"):
        g.restore(np.full(5056, 255, np.uint8))


def test_threads_share_one_stream() -> None:
    g = seeded(1)
    parts: list[np.ndarray] = []

    def draw() -> None:
        for _ in range(50):
            parts.append(g.words(10))

    threads = [threading.Thread(target=draw) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(np.concatenate(parts)) == sorted(seeded(1).words(2000))


# -- advancing -------------------------------------------------------------------------------


def test_advance_is_drawing_and_dropping() -> None:
    g, h = seeded(1), seeded(1)
    g.advance(5)
    g.advance(1000)
    h.words(1005)
    assert (g.snapshot() == h.snapshot()).all()
    assert draw_some(g) == draw_some(h)


def test_a_seed_forgets_what_was_to_be_skipped() -> None:
    g = seeded(1)
    g.advance(5)
    g.manual_seed(2)
    assert draw_some(g) == draw_some(seeded(2))


def test_jump_is_stepping() -> None:
    twister = Twister(4)
    twister.words(624)
    words, _ = twister.state()
    there = jumped(words.copy(), 624 * 70)
    twister.skip(624 * 70)
    reached, _ = twister.state()
    assert (there == reached).all()


def test_long_skip_is_stepping() -> None:
    a, b = Twister(4), Twister(4)
    a.words(100)
    b.words(100)
    a.skip(JUMP_FROM + 12345)
    for part in (JUMP_FROM // 2, JUMP_FROM // 2 + 12345):
        b.skip(part)
    assert (a.words(2000) == b.words(2000)).all()


def test_characteristic_polynomial_is_that_of_the_recurrence() -> None:
    """Every bit of the output obeys it (135 terms, degree 19937: Matsumoto and Nishimura)."""
    polynomial = characteristic_polynomial()
    terms = [k for k in range(19938) if polynomial >> k & 1]
    assert len(terms) == 135
    bits = Twister(1).words(19938 + 50).astype(np.int64) & 1
    for start in range(50):
        assert bits[[start + k for k in terms]].sum() % 2 == 0


# -- Philox ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000",
         "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
         "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
         "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
)  # fmt: skip
def test_philox_gives_the_published_vectors(counter: str, key: str, expected: str) -> None:
    words = np.array([[int(w, 16) for w in counter.split()]], np.uint32)
    k0, k1 = (int(w, 16) for w in key.split())
    assert [f"{w:08x}" for w in philox(words, (k0, k1))[0]] == expected.split()


def test_philox_words_stand_by_themselves() -> None:
    whole = philox_words(5, 100, 70_003)
    assert (philox_words(5, 103, 9) == whole[12:21]).all()
    assert (philox_words(5, (1 << 32) + 7, 4) != philox_words(5, 7, 4)).any()


def test_philox_uniform() -> None:
    values = philox_uniform(3, 0, 100_001)
    assert values.dtype == np.float32
    assert 0 <= values.min() < values.max() < 1
    assert abs(values.mean() - 0.5) < 0.005


def test_dropout_keys_do_not_repeat_and_count_what_pytorch_draws() -> None:
    g, h = seeded(8), seeded(8)
    first = g.dropout_key(10)
    second = g.dropout_key(10)
    assert first[0] == second[0] == 8
    assert second[1] >= first[1] + 3
    h.words(2 * dropout_draws(10))
    assert draw_some(g) == draw_some(h)


def test_state_restores_dropout_keys() -> None:
    g = seeded(8)
    g.dropout_key(10)
    state = g.snapshot()
    key = g.dropout_key(10)
    assert g.restore(state).dropout_key(10) == key
