"""The breath that needs no patient is one that a patient could take, and its landmarks are its own."""

from __future__ import annotations

import numpy as np
import pytest

from analysis.truth.made_motion import made_motion
from analysis.truth.motion import Motion


@pytest.fixture(scope="module")
def motion() -> Motion:
    return made_motion()


def test_it_folds_nowhere_and_expiration_is_as_deep_as_of_patients(motion: Motion) -> None:
    least, most = motion.jacobian_range
    assert 1.0 < least < 1.3 < most < 2.0
    assert 0.65 < 1 / motion.volume_ratio < 0.80  # COPDGene: 0.73 +- 0.14
    for lung, field in motion.fields.items():
        x = motion.pairs.exp_lungs[lung][::500]
        back, left = field.inverse((x + field.displacement(x)).astype(np.float32))
        assert np.linalg.norm(back - x, axis=1)[left < 0.05].max() < 0.1


def test_the_base_descends_most_at_the_back_and_the_apex_stays(motion: Motion) -> None:
    x = np.vstack([motion.pairs.exp_lungs[n] for n in (1, 2)])
    u = np.vstack([motion.fields[n].displacement(motion.pairs.exp_lungs[n]) for n in (1, 2)])
    apex, base = x[:, 2] > np.percentile(x[:, 2], 99), x[:, 2] < np.percentile(x[:, 2], 20)
    back, front = x[:, 1] > np.percentile(x[:, 1], 80), x[:, 1] < np.percentile(x[:, 1], 20)
    assert np.abs(u[apex, 2]).max() < 6
    assert u[base & back, 2].mean() < u[base & front, 2].mean() - 10 < -30
    assert u[front, 1].mean() < -5  # to the front is -y


def test_its_landmarks_move_as_its_lungs_do(motion: Motion) -> None:
    carried = {
        tuple(a): b for a, b in zip(motion.pairs.exp_landmarks, motion.pairs.insp_landmarks, strict=True)
    }
    for lung, marks in motion.landmarks.items():
        assert len(marks) == 150
        moved = marks + motion.fields[lung].displacement(marks)
        target = np.array([carried[tuple(mark)] for mark in marks])
        assert np.linalg.norm(moved - target, axis=1).max() < 0.05
