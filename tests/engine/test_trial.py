"""The trial of precisions on a clock of the tests' own: what is taken, what is not, and what is said of it."""

from dataclasses import dataclass

import pytest
import torch

from mammi.engine import trial
from mammi.engine.trial import Share, spread_error, try_precisions
from mammi.errors import TargetError

UNITS = torch.tensor([[0.0, 4.0], [2.0, 0.0], [4.0, 2.0], [6.0, 6.0]])


@dataclass
class Model:
    """Takes seconds an item and errs, each by precision."""

    seconds: dict
    errors: dict
    precision: str = "float32"
    broken: tuple = ()

    def at(self, precision):
        if precision in self.broken:
            raise TargetError("it cannot be copied")
        return Model(self.seconds, self.errors, precision)


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(trial.time, "perf_counter", lambda: now[0])
    return now


def choose(clock, seconds, errors=None, total=1000, asked="auto", broken=()):
    names = ("float32", "float32-channels-last", "bfloat16")
    model = Model(dict(zip(names, seconds, strict=True)), {"float32": 0.0} | (errors or {}), broken=broken)

    def run(model, items):
        clock[0] += model.seconds[model.precision] * len(items)
        return {"layer": items * (1 + model.errors.get(model.precision, 0.0)), "other": items}

    told = []
    share = Share(total, lambda n: UNITS[:n], run)
    choice = try_precisions(asked, model, share, "activations", lambda *step: told.append(step))
    return choice, told


def test_a_short_job_is_not_tried(clock):
    choice, told = choose(clock, (0.02, 0.01, 0.001))
    assert str(choice) == "float32 (20 s of work)"
    assert choice.seconds == {"float32": pytest.approx(20)}
    assert told == []
    assert clock[0] == pytest.approx(4 * 0.02)  # two calls of two items


def test_the_quickest_is_taken_with_its_error_and_times(clock):
    choice, told = choose(clock, (0.2, 0.14, 0.08), {"bfloat16": 0.01})
    assert choice.precision == "bfloat16"
    # All of the layer is 1 % off, 0.01 x its norm over its spread.
    worst = 0.01 * float(UNITS.norm() / (UNITS - UNITS.mean(dim=0)).norm())
    assert choice.errors["bfloat16"] == {"layer": pytest.approx(worst, rel=1e-4), "other": 0.0}
    assert choice.why == f"2.5 times quicker; activations differ by {100 * worst:.2g} % of their spread"
    assert choice.seconds == {
        "float32": pytest.approx(200),
        "float32-channels-last": pytest.approx(140),
        "bfloat16": pytest.approx(80),
    }
    assert told == [("trying precisions", turn, 3) for turn in (0, 1, 2, 3)]


@pytest.mark.parametrize(
    ("seconds", "errors", "total", "expected", "why"),
    [
        # A little quicker is not worth an error.
        ((0.2, 0.19, 0.17), {}, 1000, "float32", "bfloat16 is 1.2 times as quick"),
        ((0.2, 0.3, 0.5), {}, 1000, "float32", "bfloat16 is 0.4 times as quick"),
        # Twice as quick, on a job too short to gain 20 s.
        ((0.2, 0.2, 0.1), {}, 160, "float32", "bfloat16 would save 16 s"),
        # Errs too much: the more exact one is taken, or none.
        (
            (0.2, 0.1, 0.05),
            {"bfloat16": 0.2},
            1000,
            "float32-channels-last",
            "2.0 times quicker; activations differ by 0 %",
        ),
        ((0.2, 0.2, 0.1), {"bfloat16": 0.2}, 1000, "float32", "bfloat16: activations differ by"),
        ((0.2, 0.2, 0.1), {"bfloat16": float("nan")}, 1000, "float32", "bfloat16 gives numbers that are not finite"),
        # Nearly as quick as what is more exact.
        ((0.2, 0.1, 0.09), {}, 1000, "float32-channels-last", "2.0 times quicker"),
    ],
)
def test_a_step_is_taken_only_where_it_pays(clock, seconds, errors, total, expected, why):
    choice, _ = choose(clock, seconds, errors, total)
    assert choice.precision == expected
    assert choice.why.startswith(why)


def test_what_cannot_be_cast_stays_float32_with_the_reason(clock):
    choice, _ = choose(clock, (0.2, 0.2, 0.1), broken=("bfloat16", "float32-channels-last"))
    assert str(choice) == "float32 (bfloat16 fails: it cannot be copied)"
    asked, _ = choose(clock, (0.2, 0.2, 0.1), asked="bfloat16", broken=("bfloat16",))
    assert str(asked) == "float32 (bfloat16 fails: it cannot be copied)"


def test_numbers_in_software_are_not_waited_for(clock):
    choice, _ = choose(clock, (0.2, 0.2, 2.0))
    assert choice.why == "bfloat16 is 0.1 times as quick"
    assert "bfloat16" not in choice.seconds


def test_what_is_asked_for_is_taken_and_its_error_measured(clock):
    choice, told = choose(clock, (0.2, 0.2, 0.5), {"bfloat16": 0.2}, asked="bfloat16", total=1)
    assert choice.precision == "bfloat16"
    assert choice.why.startswith("as asked; activations differ by ")
    assert choice.errors["bfloat16"]["layer"] > 0.2
    assert told == []
    before = clock[0]
    assert str(choose(clock, (0.2, 0.2, 0.5), asked="float32")[0]) == "float32 (as asked)"
    assert clock[0] == before


def test_a_slow_model_is_tried_on_few_items_and_once(clock):
    choice, told = choose(clock, (5.0, 5.0, 2.0))
    assert choice.precision == "bfloat16"
    assert told == [("trying precisions", 3, 3)]
    assert clock[0] == pytest.approx(4 * 5 + 4 * (5 + 5 + 2))


def test_a_slow_model_with_little_to_do_is_not_tried(clock):
    choice, told = choose(clock, (5.0, 5.0, 2.0), total=100)
    assert str(choice) == "float32 (500 s of work)"
    assert told == []


def test_spread_error_by_hand():
    exact = torch.tensor([[0.0, 5.0], [2.0, 5.0]])
    assert spread_error(exact, exact) == 0
    assert spread_error(exact + torch.tensor([[0.3, 0.0], [0.0, 0.4]]), exact) == pytest.approx(0.5 / 2**0.5)
    flat = torch.ones(3, 2)
    assert spread_error(flat, flat) == 0
    assert spread_error(flat + 1e-3, flat) == float("inf")
    known = torch.tensor([[0.0, float("nan")], [2.0, 1.0]])
    assert spread_error(known + torch.tensor([[0.1, 0.0], [0.0, 0.0]]), known) == pytest.approx(0.1 / 2**0.5)
    assert spread_error(torch.full((2, 2), float("nan")), exact) == float("inf")
