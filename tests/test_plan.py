"""The plan of a run: every step once, cut where the run must look up, and made as it goes."""

import math

import pytest

import flags
from runtime import plan

JOBS = [
    {},
    {"epochs": 3},
    {"eval_every": 0},
    {"eval_every": 77, "eval_first": 3},
    {"max_steps": 130},
    {"batch_size": 64},
    {"mode": "eager", "eval_every": 0},
    {"checkpoint_every": 123},
]


@pytest.mark.parametrize("num_examples", [55_000, 54_321])
@pytest.mark.parametrize("changes", JOBS)
@pytest.mark.parametrize("steps_per_buffer", [10**6, 300])
def test_the_plan_takes_every_step_once_and_looks_up_where_it_must(
    num_examples, changes, steps_per_buffer
):
    config = flags.training_config(**changes)
    job = config, num_examples, steps_per_buffer
    spans = list(plan.spans(*job))
    epoch_steps = math.ceil(num_examples / config.batch_size)
    whole_batches = num_examples // config.batch_size
    total = min(config.epochs * epoch_steps, config.max_steps or 1e9)
    stops = [span.start + span.steps for span in spans]
    assert [span.start for span in spans] == [0, *stops[:-1]]
    evaluated, cut = {total}, {*range(config.checkpoint_every, total, config.checkpoint_every)}
    for step in range(1, total + 1):
        of_epoch = (step - 1) % epoch_steps + 1
        if config.eval_every and (step <= config.eval_first or step % config.eval_every == 0):
            evaluated.add(step)
        if of_epoch in (epoch_steps, whole_batches) or of_epoch % steps_per_buffer == 0:
            cut.add(step)
    assert {stop for stop, span in zip(stops, spans, strict=True) if span.evaluate} == evaluated
    assert set(stops) >= cut
    assert all(0 < span.steps <= span.max_steps for span in spans)
    half = len(spans) // 2
    assert list(plan.spans(*job, start=spans[half].start)) == spans[half:]


@pytest.mark.parametrize("batch_size", [1, 10, 3_000, 10_000])
def test_a_gpu_whose_every_block_is_as_long_as_the_longest_takes_few_needless_steps(batch_size):
    job = flags.training_config(batch_size=batch_size, eval_every=0), 55_000, 10**6
    steps = sum(span.max_steps for span in plan.spans(*job) if span.steps > 1)
    assert steps <= 1.01 * 55_000 / batch_size
