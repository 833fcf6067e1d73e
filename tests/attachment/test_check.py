"""What ``check()`` returns fits one screen and names what looks wrong."""

from __future__ import annotations

import pytest
import torch

from d3_plugin.attachment.check import Check, Line, call_lines, generator_lines, seen_class_lines
from d3_plugin.evaluation.seen_class_check import Fit, SeenClassCheck
from d3_plugin.hosts.call_form import Attributes, CallForm, Noise, Slot, Unknown

SLOTS = Slot(0, (Noise(10),)), Slot(1, (Attributes(torch.ones(3, 4), "attributes x 17"),))
GOOD = SeenClassCheck(
    classes=10,
    own=Fit(0.97, 20.0),
    in_training=Fit(0.97, 20.0),
    others={},
    length=0.9,
    mode_gap=0.05,
    between=1.0,
    equal=0.0,
    call_seen=True,
)
BAD = SeenClassCheck(
    classes=10,
    own=Fit(0.15, 0.3),
    in_training=Fit(0.5, 5.0),
    others={"generator(attributes, noise)": Fit(0.9, 9.0)},
    length=0.1,
    mode_gap=2.0,
    between=1.0,
    equal=1.0,
    call_seen=False,
)


def test_all_is_well() -> None:
    form = CallForm(SLOTS, known_by="24 of 24 calls of the loop", training=False)
    check = Check(
        "script",
        [
            *call_lines(form, given=False, guessed=False),
            *generator_lines(weight=0.01, reached=True, gradient_share=0.012, steps=40),
            *seen_class_lines(GOOD),
        ],
    )
    assert check.problems == []
    assert repr(check) == (
        "D³ on script: nothing looks wrong\n"
        "  generator's call   generator(noise (N, 10) of normal(0, 1), attributes x 17)  "
        "[24 of 24 calls of…\n"
        "  loop's synthesis   in eval mode  [calls on unseen classes]\n"
        "  loss in generator  yes: weight 0.01, 40 steps, 0.012 of its gradient  "
        "[the backward passes]\n"
        "  synthetic rows     97% of synthetic seen rows nearest to their own class (chance 10%), "
        "0.9 times…"
    )


def test_what_looks_wrong() -> None:
    form = CallForm((*SLOTS, Slot("layer", (Unknown("(N, 5) numbers", "computed"),))))
    check = Check(
        "script",
        [
            *call_lines(form, given=False, guessed=False),
            *generator_lines(weight=1.0, reached=False, gradient_share=None, steps=60),
            *seen_class_lines(BAD),
        ],
    )
    assert len(check.problems) == 5
    assert "5 of these look wrong" in repr(check)
    assert "! generator's call" in repr(check)
    assert "layer=..." in check.problems[0]
    assert "before backward()" in check.problems[1]
    assert "⚠" in check._repr_html_()


@pytest.mark.parametrize("number", [0, 3, 40])
def test_one_screen(number: int) -> None:
    """Whatever there is to say."""
    lines = [Line(f"thing {i}", "x" * 200, "y" * 50, "wrong " * 60) for i in range(number)]
    shown = repr(Check("script", lines)).split("\n")
    assert len(shown) <= 25
    assert max(map(len, shown)) <= 100
    assert (shown[-1] == "… all of it: .lines and .problems") == (number > 0 and len(shown) == 25)


def test_html_is_escaped() -> None:
    html = Check("<script>", [Line("a<b", "c&d", problem="<i>")])._repr_html_()
    assert "<script>" not in html
    assert "a&lt;b" in html


def test_other_states() -> None:
    """A function of the user's, a guess, weight 0, and a run that has just begun."""
    form = CallForm(SLOTS, known_by="guessed")
    assert "synthesize=" in call_lines(form, given=True, guessed=True)[0].finding
    assert "forward()" in call_lines(form, given=False, guessed=True)[1].finding
    assert call_lines(form, given=False, guessed=False)[1].finding == "not seen"
    [line] = generator_lines(weight=0.0, reached=None, gradient_share=None, steps=3)
    assert (line.problem, "student alone" in line.finding) == ("", True)
    [line] = generator_lines(weight=1.0, reached=None, gradient_share=None, steps=0)
    assert (line.problem, "not known yet" in line.finding) == ("", True)
