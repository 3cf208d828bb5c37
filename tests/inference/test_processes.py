"""Several processes equal one; errors end all of them; killed fits go on from their checkpoint to the same end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import probgen as pg
from probgen.data.batches import Batches, Place, Standardiser
from probgen.inference.amortised import WholeNoise
from probgen.inference.communication import OneProcess, leaves, rebuilt
from tests.inference.fit_in_processes import CASES, fitted, folder, numbers, sequences

SCRIPT = Path(__file__).with_name("fit_in_processes.py")
QUICK = ["em", "em_sequences", "em_folder", "svi", "svi_labels", "gibbs", "chained", "nuts", "chees"]
SLOW = sorted(set(CASES) - set(QUICK))
KILLED = {
    "em": 0.3,
    "svi": 0.1,
    "svi_global": 0.1,
    "gibbs": 0.1,
    "nuts": 0.1,
    "chees": 0.1,
}  # seconds of pause after a step; more methods by a word
SAME_BITS = ("gibbs", "nuts", "user")
TOLERANCES = {"chees": 1e-6}  # rounding grows along the trajectories of chains that adapt together


def environment(**more):
    root = Path(__file__).parents[2]
    return os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"} | more


def torchrun(*command, processes=2):
    """The command line that starts processes together on this machine."""
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
    return [*start, *map(str, command)]


def ran(command, **options):
    return subprocess.run(
        list(map(str, command)), env=environment(), capture_output=True, text=True, timeout=300, **options
    )


def together(cases, out):
    """What each of two processes found."""
    done = ran(torchrun(SCRIPT, ",".join(cases), out))
    assert done.returncode == 0, done.stderr[-3000:]
    return {case: [load_file(out / f"{case}.{rank}") for rank in (0, 1)] for case in cases}


def check_equal(found, wanted, same_bits, tolerance=1e-10):
    assert found.keys() == wanted.keys()
    for key, value in wanted.items():
        if same_bits:
            assert torch.equal(found[key].nan_to_num(), value.nan_to_num()), key
        else:
            np.testing.assert_allclose(found[key], value, rtol=tolerance, atol=tolerance, err_msg=key)


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    return together(QUICK, tmp_path_factory.mktemp("two"))


@pytest.mark.parametrize("case", QUICK)
def test_two_processes_equal_one(quick, case):
    wanted = fitted(case)
    for found in quick[case]:
        check_equal(found, wanted, case in SAME_BITS, TOLERANCES.get(case, 1e-10))


@pytest.mark.slow
def test_two_processes_equal_one_in_every_other_way_of_fitting(tmp_path):
    for case, ranks in together(SLOW, tmp_path).items():
        wanted = fitted(case)
        for found in ranks:
            check_equal(found, wanted, case in SAME_BITS, TOLERANCES.get(case, 1e-10))


@pytest.mark.slow
def test_three_processes_equal_one(tmp_path):
    done = ran(torchrun(SCRIPT, "em,svi,gibbs", tmp_path, processes=3))
    assert done.returncode == 0, done.stderr[-3000:]
    for case in ("em", "svi", "gibbs"):
        check_equal(load_file(tmp_path / f"{case}.2"), fitted(case), case in SAME_BITS, TOLERANCES.get(case, 1e-10))


# ----------------------------------------------------------------------------------------------------- the command line
@pytest.mark.slow
def test_the_command_line_prints_and_writes_once(tmp_path):
    table, out = tmp_path / "rows.csv", tmp_path / "model.probgen"
    numbers().to_pandas().to_csv(table, index=False)
    done = ran(
        torchrun("-m", "probgen", "fit", table, "--model", "gaussian_mixture", "--set", "components=3", "-o", out)
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("gaussian_mixture fitted by em") == 1
    assert done.stdout.count(str(out)) == 1
    wanted = pg.fit("gaussian_mixture", pg.read_table(table), components=3, progress=False)
    found = pg.load(out).posterior.parameters["weights"]["logits"]
    torch.testing.assert_close(found, wanted.posterior.parameters["weights"]["logits"], rtol=1e-10, atol=1e-10)


FAILING = """
import os, sys
from probgen.cli import main
from probgen.data.batches import Batches
from probgen.errors import DataError

def share(self, number, of):
    raise DataError("Row 7 of this process cannot be read.")

if os.environ["RANK"] in sys.argv[1].split(","):
    Batches.share = share
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("ranks", ["1", "0,1"])
def test_an_error_ends_all_processes_and_is_told_once(tmp_path, ranks):
    script, table = tmp_path / "failing.py", tmp_path / "rows.csv"
    script.write_text(FAILING)
    numbers().to_pandas().to_csv(table, index=False)
    fit = ["fit", table, "--model", "gaussian_mixture", "--set", "components=3", "-o", tmp_path / "model.probgen"]
    began = time.monotonic()
    done = ran(torchrun(script, ranks, *fit))
    assert done.returncode != 0
    assert time.monotonic() - began < 100
    assert done.stderr.count("probgen: error: Row 7 of this process cannot be read.") == 1, done.stderr[-3000:]
    assert "internal error" not in done.stderr
    assert not (tmp_path / "model.probgen").exists()


# ------------------------------------------------------------------------------------------------------------- resuming
def killed_after_checkpoint(command, pid, file):
    """Start the command, kill the process whose number stands in ``pid`` once ``file`` is there, and wait for the end."""
    with subprocess.Popen(list(map(str, command)), env=environment(), stderr=subprocess.DEVNULL) as running:
        deadline = time.monotonic() + 120
        while not file.exists():
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.25)
        os.kill(int(pid.read_text()), signal.SIGKILL)
        assert running.wait(120) != 0


@pytest.mark.parametrize("case", ["em", *(pytest.param(c, marks=pytest.mark.slow) for c in KILLED if c != "em")])
def test_a_killed_fit_goes_on_from_its_checkpoint_to_the_same_end(tmp_path, case):
    command, state = [sys.executable, SCRIPT, case, tmp_path, tmp_path / "state"], tmp_path / "state"
    killed_after_checkpoint([*command, KILLED[case]], tmp_path / "pid.0", state)
    assert state.exists()
    assert not (tmp_path / f"{case}.0").exists()
    resumed = []
    found = fitted(case, checkpoint=state, callback=lambda *_: resumed.append(1))
    wanted = fitted(case)
    assert 0 < len(resumed) < steps_of_all_restarts(case)
    check_equal(found, wanted, same_bits=True)


def steps_of_all_restarts(case):
    taken = []
    fitted(case, callback=lambda *_: taken.append(1))
    return len(taken)


@pytest.mark.slow
@pytest.mark.parametrize("case", list(KILLED))
def test_two_processes_of_which_one_is_killed_go_on_to_the_same_end(tmp_path, case):
    command, state = torchrun(SCRIPT, case, tmp_path, tmp_path / "state"), tmp_path / "state.2of2"
    killed_after_checkpoint([*command, KILLED[case]], tmp_path / "pid.1", state)
    assert not (tmp_path / f"{case}.1").exists()
    done = ran([*command, 0])
    assert done.returncode == 0, done.stderr[-3000:]
    check_equal(load_file(tmp_path / f"{case}.0"), fitted(case), case in SAME_BITS, TOLERANCES.get(case, 1e-10))


@pytest.mark.parametrize(
    "case", ["em_network", "svi", "gibbs", pytest.param("em_approximate", marks=pytest.mark.slow)]
)
def test_a_stopped_fit_goes_on_with_all_its_state(tmp_path, case):
    def stop(step, *_):
        if step == 2:
            raise SystemExit  # as sudden as a kill, seen from the fit

    once = {"checkpoint": tmp_path / "state", "restarts": 1}
    with pytest.raises(SystemExit):
        fitted(case, checkpoint_seconds=0.0, callback=stop, **once)
    again = []
    found = fitted(case, callback=lambda step, *_: again.append(step), **once)
    assert again[0] == 2
    check_equal(found, fitted(case, restarts=1), same_bits=True)


def test_fits_resume_in_the_middle_of_a_restart(tmp_path):
    """The restarts before are not run again, and the best of all is chosen."""
    steps = []

    def stop(step, _values, _method):
        steps.append(step)
        if len(steps) > 3 and step == 3 and steps.count(3) == 2:
            raise SystemExit  # as sudden as a kill, seen from the fit

    with pytest.raises(SystemExit):
        fitted("em", checkpoint=tmp_path / "state", checkpoint_seconds=0.0, callback=stop)
    again = []
    found = fitted("em", checkpoint=tmp_path / "state", callback=lambda step, *_: again.append(step))
    assert again[0] == 3  # of the second restart, whose step 2 was the last to be kept
    assert again == sorted(again)
    check_equal(found, fitted("em"), same_bits=True)


def test_a_finished_fit_is_read_from_its_checkpoint(tmp_path):
    first = fitted("em", checkpoint=tmp_path / "state")
    steps = []
    check_equal(
        fitted("em", checkpoint=tmp_path / "state", callback=lambda *_: steps.append(1)), first, same_bits=True
    )
    assert not steps


def test_a_checkpoint_of_another_fit_is_refused(tmp_path):
    fitted("em", checkpoint=tmp_path / "state")
    with pytest.raises(pg.FitError, match="its components was 3, now it is 4"):
        fitted("em", checkpoint=tmp_path / "state", components=4)
    (tmp_path / "state").rename(tmp_path / "state.2of2")
    with pytest.raises(pg.FitError, match="another number of processes"):
        fitted("em", checkpoint=tmp_path / "state")
    (tmp_path / "other").write_bytes(b"nothing of use")
    with pytest.raises(pg.FitError, match="cannot be read"):
        fitted("em", checkpoint=tmp_path / "other")


# ------------------------------------------------------------------------------------------------------------- the parts
@pytest.mark.parametrize("source", [numbers, sequences, folder])
@pytest.mark.parametrize("of", [1, 2, 3, 5])
def test_shares_of_the_rows_are_all_rows(source, of):
    source = source()
    batches = Batches(source, Standardiser.of(source), rows=64)
    whole = torch.cat([piece.x for piece in batches.pieces()])
    shares = [list(batches.share(number, of).pieces()) for number in range(of)]
    assert torch.equal(torch.cat([piece.x for share in shares for piece in share]).nan_to_num(), whole.nan_to_num())
    assert all(
        torch.equal(whole[p.first : p.first + len(p)].nan_to_num(), p.x.nan_to_num()) for s in shares for p in s
    )


@pytest.mark.parametrize("of", [2, 3, 40])
def test_processes_have_shares_of_the_same_minibatches(of):
    source = numbers()
    batches = Batches(source, Standardiser.of(source), batch_size=30)
    for parts in zip(batches.epoch(7), *(batches.epoch(7, number, of) for number in range(of)), strict=True):
        whole, *shares = parts
        assert torch.equal(torch.cat([share.x for share in shares]).nan_to_num(), whole.x.nan_to_num())
        assert all(share.place.rows == share.place.weight == len(whole) for share in shares)
        assert len(shares[0])


def test_a_folder_reads_only_the_row_groups_of_its_share(monkeypatch):
    share, read = folder().share(1, 3), []
    monkeypatch.setattr(
        "probgen.data.streams.encode_batch", lambda batch, schema: read.append(len(batch)) or np.zeros((len(batch), 3))
    )
    assert sum(len(table) for table in share.pieces(50)) == len(share) == sum(read)


def test_noise_of_a_share_is_that_of_the_whole():
    place = Place(3, 10, 10.0)
    for drawn in (torch.distributions.Normal, torch.distributions.Laplace, torch.distributions.Cauchy):
        torch.manual_seed(0)
        whole = drawn(torch.zeros(5, 10, 2), 1.0).rsample()
        torch.manual_seed(0)
        with WholeNoise(place, 4, 1):
            part = drawn(torch.zeros(5, 4, 2), 1.0).rsample()
        assert torch.equal(part, whole[:, 3:7]), drawn


def test_nested_values_come_back_as_they_were():
    value = {"a": 1.5, "b": [torch.ones(2), {"c": torch.zeros(1, 3)}]}
    doubled = rebuilt(value, iter([2 * torch.as_tensor(leaf) for leaf in leaves(value)]))
    assert doubled["a"] == 3.0
    assert doubled["b"][0].tolist() == [2.0, 2.0]
    assert doubled["b"][1]["c"].shape == (1, 3)


def test_one_process_says_nothing_to_anyone():
    alone = OneProcess()
    assert alone.mean(torch.tensor([2.0]), weight=3.0).tolist() == [2.0]
    assert alone.concatenate(torch.arange(3)).tolist() == [0, 1, 2]
    assert alone.leads
