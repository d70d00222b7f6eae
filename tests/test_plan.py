"""The plan of a run: every step once, cut where the run must look up, and made as it goes."""

import itertools
import math

import pytest

import flags
from runtime import plan


@pytest.mark.parametrize("num_examples", [55_000, 54_321])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"epochs": 3},
        {"eval_every": 0},
        {"eval_every": 77, "eval_first": 3},
        {"max_steps": 130},
        {"batch_size": 64},
        {"mode": "eager", "eval_every": 0},
        {"checkpoint_every": 123},
    ],
)
@pytest.mark.parametrize("steps_of_part", [10**6, 300])
def test_the_plan_takes_every_step_once_and_looks_up_where_it_must(
    num_examples: int, changes: dict, steps_of_part: int
) -> None:
    config = flags.training_config(**changes)
    spans = list(plan.spans(config, num_examples, steps_of_part))
    steps_per_epoch = math.ceil(num_examples / config.batch_size)
    total = min(config.epochs * steps_per_epoch, config.max_steps or math.inf)
    assert [span.start for span in spans] == [0, *(span.stop for span in spans[:-1])]
    assert spans[-1].stop == total == plan.last_step(config, num_examples)
    marks = {
        step for step in range(1, total + 1) if config.eval_every and step <= config.eval_first
    }
    marks |= {
        step for step in range(1, total + 1) if config.eval_every and step % config.eval_every == 0
    }
    assert {span.stop for span in spans if span.evaluate} == marks | {total}
    most = plan.MAX_STEPS_EAGER if config.mode == "eager" else plan.MAX_STEPS
    assert max(span.stop - span.start for span in spans) <= plan.longest(
        config, num_examples, steps_of_part
    )
    for span in spans:
        epoch, step = divmod(span.start, steps_per_epoch)
        last_epoch, last = divmod(span.stop - 1, steps_per_epoch)
        assert (epoch, step // steps_of_part) == (last_epoch, last // steps_of_part)
        assert span.start // config.checkpoint_every == (span.stop - 1) // config.checkpoint_every
        assert 0 < span.stop - span.start <= most
        if num_examples % config.batch_size and span.stop % steps_per_epoch == 0:
            assert span.stop - span.start == 1


def test_the_plan_from_a_later_step_is_the_rest_of_the_plan() -> None:
    whole = list(plan.spans(flags.training_config(), 55_000, 5_500))
    for start in (7, 50, 400):
        rest = list(plan.spans(flags.training_config(), 55_000, 5_500, start))
        assert rest == [span for span in whole if span.start >= start] and rest[0].start == start


def test_no_span_is_planned_before_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    made, span = [], plan.Span
    monkeypatch.setattr(
        plan, "Span", lambda *args, **options: made.append(args) or span(*args, **options)
    )
    spans = plan.spans(flags.training_config(epochs=100_000), 55_000, 5_500)
    assert list(itertools.islice(spans, 3)) == [span(start, start + 1, True) for start in range(3)]
    assert len(made) == 3


@pytest.mark.parametrize(
    ("changes", "sizes"), [({}, [64, 20]), ({"max_steps": 10}, [64]), ({"max_steps": 11}, [64, 20])]
)
def test_a_smaller_last_batch_is_compiled_only_where_it_is_reached(
    changes: dict, sizes: list[int]
) -> None:
    assert plan.batch_sizes(flags.training_config(batch_size=64, **changes), 660) == sizes
