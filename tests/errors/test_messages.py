"""Every wrong program ends in the right error, at the line that made the mistake."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest
from errors import corpus, page

import taimatsu

CORPUS = corpus.load()
COMPARED = [w for w in CORPUS if w.parity]

pytestmark = pytest.mark.filterwarnings("ignore")  # some mistakes are warned of before they fail


def test_the_corpus_is_large_and_each_program_has_words():
    assert len(CORPUS) >= 200
    assert len({w.name for w in CORPUS}) == len(CORPUS)
    for wrong in CORPUS:
        assert wrong.mistake.endswith((".", "`")), wrong.name
        assert wrong.expected, wrong.name
        if "Python's own error" not in wrong.mistake:
            assert wrong.got, wrong.name
            assert wrong.mend, wrong.name


@pytest.mark.parametrize("wrong", CORPUS, ids=lambda w: w.name)
def test_the_message_says_what_came_and_what_to_do(wrong: corpus.Wrong):
    error = wrong.run(taimatsu)
    assert error is not None, "the wrong program ran to its end"
    assert isinstance(error, wrong.kind)
    shown = corpus.displayed(error)
    for word in wrong.words:
        assert word in shown


@pytest.mark.parametrize("wrong", CORPUS, ids=lambda w: w.name)
def test_the_error_comes_at_the_call_and_work_goes_on(wrong: corpus.Wrong):
    w = taimatsu.tensor([1.0, 2.0, 3.0], requires_grad=True)
    pending = w * 2  # recorded before the error, computed after it
    error = wrong.run(taimatsu)
    assert error is not None
    assert wrong.error_line(error) == wrong.line()
    (pending * pending).sum().backward()
    assert pending.tolist() == [2.0, 4.0, 6.0]
    assert w.grad.tolist() == [8.0, 16.0, 24.0]


@pytest.mark.parametrize("wrong", COMPARED, ids=lambda w: w.name)
def test_pytorch_raises_the_same_type(wrong: corpus.Wrong, torch: ModuleType):
    theirs = wrong.run(torch)
    assert theirs is not None, "PyTorch takes this program"
    assert isinstance(wrong.run(taimatsu), type(theirs))


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="Python's own words change")
def test_the_page_is_in_step_with_the_corpus():
    assert page.PATH.read_text() == page.text(), f"run: python {page.__file__}"
