"""Few-shot probes against a float64 least-squares solution, and the choice of their examples."""

import numpy as np
import pytest

from mixer_jax.errors import ConfigError
from mixer_jax.evaluators import probes


def reference(features, labels, test_features, num_classes, l2=2.0**10, constant=100.0):
    """The scores of a ridge regression in float64, by least squares on a system with the penalty as extra rows."""
    features, test_features = features.astype(np.float64), test_features.astype(np.float64)
    mean, deviation = features.mean(axis=0), features.std(axis=0) + 1e-5
    x, test = ((f - mean) / deviation for f in (features, test_features))
    x, test = (np.column_stack([f, np.full(len(f), constant)]) for f in (x, test))
    targets = np.where(labels[:, None] == np.arange(num_classes), 1.0, -1.0)
    rows = np.vstack([x, np.sqrt(l2) * np.eye(x.shape[1])])
    weights = np.linalg.lstsq(rows, np.vstack([targets, np.zeros((x.shape[1], num_classes))]), rcond=None)[0]
    return test @ weights


@pytest.mark.parametrize("shots", [1, 5, 25])  # 4 and 20 examples of 48 features, then 100: both forms of the solution
def test_the_probe_is_the_ridge_regression_of_numpy(shots):
    rng = np.random.default_rng(shots)
    labels = np.repeat(np.arange(4), shots)
    centres = rng.normal(size=(4, 48))
    features = (centres[labels] + rng.normal(size=(len(labels), 48))).astype(np.float32) * 3 + 7
    test_labels = np.arange(4).repeat(50)
    test_features = (centres[test_labels] + rng.normal(size=(200, 48))).astype(np.float32) * 3 + 7
    scores = reference(features, labels, test_features, 4)
    predicted = np.asarray(probes.probe(features, labels, test_features, num_classes=4))
    best, second = np.sort(scores, axis=1)[:, :-3:-1].T
    clear = best - second > 1e-4 * np.abs(scores).max()  # float32 cannot tell what is nearer
    assert clear.sum() > 190
    np.testing.assert_array_equal(predicted[clear], scores.argmax(axis=1)[clear])


def test_a_stronger_penalty_gives_other_predictions():
    rng = np.random.default_rng(0)
    features, labels = rng.normal(size=(60, 8)).astype(np.float32), rng.integers(0, 3, 60)
    weak, strong = (np.asarray(probes.probe(features, labels, features, num_classes=3, l2=l2)) for l2 in (1.0, 1e6))
    np.testing.assert_array_equal(weak, reference(features, labels, features, 3, 1.0).argmax(axis=1))
    assert (weak != strong).any()


def test_the_constant_feature_is_the_one_that_is_asked_for():
    rng = np.random.default_rng(1)
    labels = np.r_[np.zeros(30, int), np.ones(90, int)]  # so that the bias tells
    features, test = rng.normal(size=(120, 6)).astype(np.float32), rng.normal(size=(200, 6)).astype(np.float32)
    found = np.asarray(probes.probe(features, labels, test, num_classes=2, l2=100.0, constant=0.1))
    np.testing.assert_array_equal(found, reference(features, labels, test, 2, 100.0, 0.1).argmax(axis=1))
    assert (found != np.asarray(probes.probe(features, labels, test, num_classes=2, l2=100.0))).any()


def test_the_choice_is_balanced_seeded_and_by_one_generator():
    labels = np.random.default_rng(5).integers(0, 6, 300)
    chosen = probes.choose(labels, num_classes=6, shots=5, seed=1)
    np.testing.assert_array_equal(labels[chosen], np.repeat(np.arange(6), 5))
    assert len(set(chosen)) == 30
    rng = np.random.default_rng(1)
    expected = [rng.permutation([i for i, label in enumerate(labels) if label == number])[:5] for number in range(6)]
    np.testing.assert_array_equal(chosen, np.concatenate(expected))
    np.testing.assert_array_equal(chosen, probes.choose(labels, num_classes=6, shots=5, seed=1))
    assert (chosen != probes.choose(labels, num_classes=6, shots=5, seed=2)).any()
    fewer = probes.choose(labels, num_classes=6, shots=1, seed=1)
    np.testing.assert_array_equal(fewer, chosen[::5])  # one shot is the first of five


def test_too_few_examples_of_a_class_are_named():
    with pytest.raises(ConfigError, match="10 images of each class are needed, .* has 3 of class 1"):
        probes.choose(np.array([0] * 10 + [1] * 3), num_classes=2, shots=10, seed=0)
