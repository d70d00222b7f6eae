"""The campaign of faults: its kills land, it counts what held, and its document tells nothing of the machine."""

import pathlib
import subprocess

import pytest

from benchmarks import damages, faults, places
from storage import cache

# so long that a kill comes before the end on a busy machine too
LONG = ("--epochs=100", "--max_steps=6000")


@pytest.mark.slow
def test_a_run_killed_three_times_ends_with_the_weights_of_one_never_killed(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    unbroken = places.Place(tmp_path / "unbroken", tiny_data_dir)
    assert unbroken.run(*LONG).returncode == 0
    killed = places.Place(tmp_path / "killed", tiny_data_dir)
    # The first kill comes before anything is compiled, the others among training and checkpoints.
    moments = (("training,", 0.0), ("step ", 0.0), ("step ", 0.1))
    landed = [killed.killed_run(*moment, *LONG) for moment in moments]
    assert landed == [True, True, True]
    assert killed.whole_after(killed.run(*LONG), unbroken.weights()) == ""


@pytest.mark.slow
def test_a_kill_that_comes_too_late_is_not_counted(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    place = places.Place(tmp_path / "late", tiny_data_dir)
    assert not place.killed_run("total", 60, "--max_steps=1")
    assert not place.killed_run("never said", 0, "--max_steps=1")


def test_the_campaign_kills_in_every_phase_and_draws_the_same_moments_again() -> None:
    names = [phase.name for phase, _ in places.moments(100, seed=0)]
    assert {phase.name: names.count(phase.name) for phase in places.PHASES} == {
        phase.name: 2 * phase.share for phase in places.PHASES
    }
    draws = [[rng.random() for _, rng in places.moments(5, seed)] for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


def test_a_skipped_fault_is_not_counted_as_held() -> None:
    outcomes = [places.Outcome("one", held, "") for held in (True, True, False, None)]
    assert faults.counted(outcomes) == "2 of 3 held, 1 skipped"
    of_workers = [
        places.Outcome(name, held, "")
        for name in ("chief", "other worker")
        for held in (True, False)
    ]
    text = faults.document([], of_workers, outcomes[2:], faults.Config(), 1.0)
    assert "| one | NO |" in text and "| one | skipped |" in text
    assert "| chief | 2 | 1 |\n| other worker | 2 | 1 |\n| all | 4 | 2 |\n" in text


def test_the_stream_that_is_cut_is_a_longer_dataset(
    tiny_data_dir: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    place = places.Place(tmp_path / "longer")
    images = damages.longer(cache.folder_in(tiny_data_dir, "mnist"), place)
    assert images.parents[1] == place.data_dir / "mnist"
    found = cache.read(images.parent, "mnist")
    assert (len(found.train), len(found.test)) == (660 * damages.TIMES, 100)


def test_no_folder_of_the_machine_gets_into_the_document(tmp_path: pathlib.Path) -> None:
    place = places.Place(tmp_path / "kill_1")
    done = subprocess.CompletedProcess(
        [], 1, "", f"{tmp_path}/other: {place.folder}/data in {places.PROJECT}/x"
    )
    assert place.whole_after(done, "") == "exit 1: /other: /kill_1/data in /x"
