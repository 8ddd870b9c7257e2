"""Whatever dies, nothing finished is lost or done again, and the tables are the same."""

from __future__ import annotations

import contextlib
import random
import signal
import time
from pathlib import Path

import pytest

from tests.cluster.killing import HEAD, RECIPES, WORKER, Driver, kill, stable
from tests.cluster.nodes import started
from tests.conftest import DEMO, STUDY

pytestmark = [pytest.mark.cluster, pytest.mark.slow]


@pytest.fixture(scope="module")
def make(three_nodes, tmp_path_factory):
    """Makes a driver over a store of its own."""

    def make(name: str, cluster=three_nodes) -> Driver:
        folder = tmp_path_factory.mktemp(name)
        # Twenty steps: time enough to kill a trial between its first and its last.
        text = STUDY.replace("batch_size: 4", "batch_size: 2")
        # Few questions: these tests are about training.
        text = text.replace("prompts: 4", "prompts: 2, likelihoods: false")
        text = text.format(base=DEMO / "base", demo=DEMO) + RECIPES
        (folder / "study.yaml").write_text(text)
        return Driver(folder / "study.yaml", folder / "out", cluster.environment, cluster.address)

    return make


@pytest.fixture(scope="module")
def undisturbed(make):
    """The tables of a run that nobody touched."""
    whole = make("whole")
    with whole.started() as driver:
        whole.finish(driver)
    assert set(whole.causes()) == {None}
    return stable(whole.out)


def test_trial_whose_process_is_killed_goes_on_to_the_same_tables(make, undisturbed):
    cut = make("trial")
    with cut.started() as driver:
        cut.wait(lambda: cut.running(3), driver)
        folder, attempt = cut.running(3)[0]
        reached = cut.step(folder)
        kill(attempt.pid)
        cut.finish(driver)
    assert cut.causes().count("preempted") == 1
    assert stable(cut.out) == undisturbed
    (found,) = cut.resumed(folder)
    print(f"steps done twice: {max(0, reached - found)}")
    assert reached - found <= 1


@pytest.mark.long
def test_node_that_dies_in_mid_trial_gives_its_trial_to_another(make, three_nodes, undisturbed):
    """Takes about three minutes on two cores."""
    cut = make("node")
    with cut.started() as driver:
        cut.wait(lambda: cut.running(2), driver)
        _, attempt = cut.running(2)[0]
        node = next(i for i, p in enumerate(three_nodes.processes) if _is_of(attempt.pid, p.pid))
        three_nodes.kill(node)
        cut.finish(driver)
    assert "preempted" in cut.causes()
    assert stable(cut.out) == undisturbed
    three_nodes.add()


def _is_of(process: int, session: int) -> bool:
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(words[3]) == session


@pytest.mark.long
@pytest.mark.parametrize("seed", range(10))
def test_driver_that_is_killed_at_any_moment_is_followed_by_one_that_goes_on(
    make, undisturbed, seed
):
    """Twenty moments in all; each of the ten tests takes about two minutes on two cores."""
    cut, draw = make(f"driver{seed}"), random.Random(seed)
    for _ in range(2):
        with cut.started() as driver:
            time.sleep(draw.uniform(4, 25))
            driver.kill()
    with cut.started() as driver:
        cut.finish(driver)
    assert stable(cut.out) == undisturbed


def test_driver_that_is_interrupted_saves_stops_and_goes_on(make, undisturbed):
    """Interrupted on a local Ray of its own; the cluster's nodes go on."""
    cut = make("interrupted")
    with cut.started(local=True) as driver:
        cut.wait(lambda: cut.running(2), driver)
        driver.send_signal(signal.SIGINT)
        assert driver.wait(100) == 1
    said = (cut.out.parent / "driver.log").read_text()
    assert "stopping" in said
    assert "the same command goes on from here" in said
    assert "Traceback" not in said
    with cut.started() as driver:
        cut.finish(driver)
    assert stable(cut.out) == undisturbed
    assert "goes on from step" in "".join(
        path.read_text() for path in cut.out.glob("trials/*/log.txt")
    )


@pytest.mark.long
def test_head_that_dies_is_followed_by_a_new_cluster(make, tmp_path_factory, undisturbed):
    """Takes about three minutes on two cores: two more clusters are started."""
    with started(tmp_path_factory.mktemp("h"), HEAD, WORKER, workers=1) as first:
        first.environment["HF_HUB_OFFLINE"] = "1"
        cut = make("head", first)
        with cut.started() as driver:
            cut.wait(lambda: cut.running(2), driver)
            first.kill(0)
            driver.kill()
    with started(tmp_path_factory.mktemp("h"), HEAD, WORKER, workers=1) as second:
        second.environment["HF_HUB_OFFLINE"] = "1"
        cut.environment, cut.address = second.environment, second.address
        with cut.started() as driver:
            cut.finish(driver)
    assert stable(cut.out) == undisturbed


@pytest.mark.long
def test_soak_of_fifty_trials_with_a_killer_at_work_loses_nothing(make):
    """Every trial is there, whole, and has the bytes of one that nobody touched.

    Takes about twenty minutes on two cores.
    """
    soaked, whole = make("soak"), make("calm")
    for each in (soaked, whole):
        text = each.study.read_text()
        seeds = ", ".join(map(str, range(25)))
        head = text[: text.index("recipes:")].replace("seeds: [42]", f"seeds: [{seeds}]")
        head = head.replace("prompts: 2", "prompts: 0")
        each.study.write_text(
            head + "recipes:\n  a: {method: sft, data: D0}\n  b: {method: sft, data: D1}\n"
            "resources: {checkpoint_seconds: 0}\n"
        )
    draw, kills = random.Random(0), 0
    with soaked.started() as driver:
        while driver.poll() is None:
            time.sleep(draw.uniform(3, 12))
            alive = soaked.running(1)
            if alive and kills < 25:
                _, attempt = draw.choice(alive)
                with contextlib.suppress(ProcessLookupError):
                    kill(attempt.pid)
                    kills += 1
        soaked.finish(driver)
    with whole.started() as driver:
        whole.finish(driver)
    found = stable(soaked.out)
    causes = soaked.causes()
    lost = len(causes) - causes.count(None)
    print(f"{kills} kills, {lost} attempts lost, {causes.count(None)} trials done")
    assert len(found["trials"]) == 50
    assert found == stable(whole.out)
