"""The exact-Jacobian phantom: with the true field the errors fall with the voxel's size."""

from analysis.truth.convergence import convergence, order


def test_v_and_m_converge_and_neither_volume_nor_fractions_drift() -> None:
    found = convergence([2.5, 3, 5])
    assert order(found, "v") > 1.6
    assert order(found, "m") > 1.5
    assert found[0].v < 1
    assert found[0].m < 2
    assert all(e.closure < 1 for e in found)
    assert all(e.fractions < 0.5 for e in found)
