"""How `pytest -m faults --kills=50` and `pytest -m gpu` are run: options, processes, the record."""

import pytest

from benchmarks import common
from comparison import system

FEW = 2  # kills of a run, unless --kills is given
FINISHED = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)


def pytest_addoption(parser):
    parser.addoption(
        "--kills",
        type=int,
        help=f"kills at random moments, default {FEW}; with this flag the record is written anew",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config):
    if config.option.markexpr == "gpu":  # the tests would share the memory of the GPU
        config.option.numprocesses = 0
        config.option.dist = "no"


def pytest_configure(config):
    is_worker = hasattr(config, "workerinput")
    if config.option.kills is not None and not is_worker:
        config.pluginmanager.register(Recorder(config.option.kills))


def pytest_generate_tests(metafunc):
    kills = metafunc.config.option.kills or FEW
    for name, count in (("kill", kills), ("worker_kill", max(3, kills * 2 // 5))):
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, range(count))


@pytest.fixture
def fault(record_property):
    """Says which fault a test is: a part of the record, and a row of its table."""
    return lambda part, row: record_property("fault", (part, row))


class Recorder:
    """Counts in the record how often each fault was tried, and how often all held."""

    def __init__(self, kills):
        self.kills = kills
        self.found: dict[str, dict[str, list[int]]] = {"kills": {}, "faults": {}}
        self.other_cores = system.watch()

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            for _, (part, row) in report.user_properties:
                counts = self.found[part].setdefault(row, [0, 0])
                counts[0] += 1
                counts[1] += report.passed

    def pytest_sessionfinish(self, exitstatus):
        if exitstatus in FINISHED and self.found["kills"]:
            found = {part: dict(sorted(rows.items())) for part, rows in self.found.items()}
            command = f"python -m pytest -m faults --kills={self.kills}"
            common.save("faults", found, self.other_cores(), command)
