"""The sweep: each trial on its own split, the best one on all and tested once, and going on after a stop."""

import json
import signal

import pytest

from mixer_jax.errors import ConfigError
from mixer_jax.training import run as train
from mixer_jax.training import sweep

RATES = (1e-6, 0.01)


@pytest.fixture
def sweep_config(tiny_config):
    """A sweep on the digits, whose two splits change their parts after the choice: what trained first, tests last."""
    tiny_config.steps = 30
    tiny_config.mixup = 0.0
    tiny_config.eval.every = tiny_config.checkpoint.every = 30
    tiny_config.checkpoint.best = None
    tiny_config.sweep.learning_rates = RATES
    tiny_config.sweep.train_split = "train"
    tiny_config.sweep.held_out_split = "test"
    tiny_config.data.split = "test"
    tiny_config.eval.splits = {"final": "train"}
    return tiny_config


def described(workdir):
    return json.loads((workdir / "config.json").read_text())


def evaluated(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if any(name.startswith("eval/") for name in line)]


def test_the_best_rate_on_the_held_out_split_trains_on_all_and_is_tested_once(sweep_config, tmp_path):
    result = sweep.sweep(sweep_config, tmp_path)
    assert set(result.trials) == set(RATES)
    assert result.trials[0.01] > result.trials[1e-6]
    assert result.learning_rate == 0.01
    assert result.signal is None
    for rate in RATES:
        trial = tmp_path / f"learning_rate={rate:g}"
        config = described(trial)
        assert (config["data"]["split"], config["eval"]["splits"]) == ("train", {"held_out": "test"})
        assert config["schedule"]["learning_rate"] == rate
        [line] = evaluated(trial)
        assert line["eval/held_out/top1"] == result.trials[rate]
        assert line["eval/held_out/examples"] == 355
    config = described(tmp_path / "final")
    assert (config["data"]["split"], config["eval"]["splits"]) == ("test", {"final": "train"})
    assert config["schedule"]["learning_rate"] == 0.01
    [line] = evaluated(tmp_path / "final")
    assert line["eval/final/top1"] == result.metrics["eval/final/top1"]
    written = json.loads((tmp_path / "sweep.json").read_text())
    assert (written["learning_rate"], written["metrics"]) == (0.01, result.metrics)
    assert [trial["held_out_top1"] for trial in written["trials"]] == list(result.trials.values())
    table = result.table().splitlines()
    assert table[2] == f"| 1e-06 | {result.trials[1e-6]:.4f} |"
    assert table[3] == f"| **0.01** | **{result.trials[0.01]:.4f}** |"
    assert table[-1] == (f"learning rate 0.01, trained on all: eval/final/top1 {result.metrics['eval/final/top1']:.4f}")


class StopAt:
    """Stands in for the signals: asks a run to stop after a number of steps, or never."""

    signal = signal.SIGTERM

    def __init__(self, step):
        self._left = step + 1  # the run asks once before its first step, and after each

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def received(self):
        self._left -= 1
        return self._left == 0


def test_a_sweep_that_was_stopped_goes_on_with_what_it_had(sweep_config, tmp_path, monkeypatch):
    steps = iter([1000, 7, 1000, 1000, 1000])  # the second run is stopped
    with monkeypatch.context() as patch:
        patch.setattr(train, "InterruptRequest", lambda: StopAt(next(steps)))
        stopped = sweep.sweep(sweep_config, tmp_path)
    assert stopped.signal == signal.SIGTERM
    assert (list(stopped.trials), stopped.learning_rate, stopped.metrics) == ([RATES[0]], None, {})
    assert not (tmp_path / "final").exists()
    first = (tmp_path / "learning_rate=1e-06" / "metrics.jsonl").read_bytes()
    result = sweep.sweep(sweep_config, tmp_path)
    assert (tmp_path / "learning_rate=1e-06" / "metrics.jsonl").read_bytes() == first  # it is not trained again
    assert result.trials[RATES[0]] == stopped.trials[RATES[0]]
    assert (result.signal, result.learning_rate) == (None, 0.01)
    assert (tmp_path / "learning_rate=0.01" / "checkpoints" / "7").exists()
    assert (tmp_path / "sweep.json").exists()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sweep.learning_rates", (), r"config.sweep.learning_rates=\(\); expected"),
        ("sweep.learning_rates", (0.1, 0.1), "expected different numbers"),
        (
            "sweep.learning_rates",
            (0.1, -1.0),
            r"config.sweep.learning_rates=\(0.1, -1.0\); expected a tuple, of each a number from",
        ),
        ("sweep.train_split", "", "config.sweep.train_split is empty"),
        ("sweep.held_out_split", "", "config.sweep.held_out_split is empty"),
        ("checkpoint.best", "eval/final/top1", "config.checkpoint.best='eval/final/top1' chooses by what"),
    ],
)
def test_a_wrong_sweep_is_refused_by_key_before_it_trains(sweep_config, tmp_path, key, value, message):
    sweep_config.update_from_flattened_dict({key: value})
    with pytest.raises(ConfigError, match=message):
        sweep.sweep(sweep_config, tmp_path / "sweep")
    assert not (tmp_path / "sweep").exists()


def test_a_rate_that_diverges_is_not_chosen_and_does_not_end_the_sweep(sweep_config, tmp_path, caplog):
    sweep_config.sweep.learning_rates = (1000.0, 0.01)
    sweep_config.steps = sweep_config.eval.every = 10
    result = sweep.sweep(sweep_config, tmp_path)
    assert (result.trials[1000.0], result.learning_rate) == (0.0, 0.01)
    assert "learning rate 1000 diverges: " in caplog.text
