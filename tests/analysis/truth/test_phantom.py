"""The block phantom's table to its digits, and the thorax phantom's promises."""

import numpy as np
import pytest

from analysis.registration.registration import jacobian, warp
from analysis.truth.phantom import BLOCKS, DEFECTS, Block, ThoraxShape, Truth, thorax_phantom
from analysis.volume import Mask
from analysis.vq.classes import VQClass
from analysis.vq.perfusion import mass_change, perfusion
from analysis.vq.ventilation import (
    delta_specific_volume,
    density,
    hu_ventilation,
    mass_corrected_hu_ventilation,
    mcvc,
)

# name: fraction, J, m, HUe, HUi, J-1, hu, mcvc, dSVg, V_n, Q_n
TABLE = {
    "NORMAL": (0.70, 2.00, 0.040, -720, -840, 1.00, 1.0417, 0.7500, 2.6786, 1.1765, 1.1682),
    "DEAD_SPACE": (0.10, 2.00, 0.008, -720, -856, 1.00, 1.3117, 0.9444, 3.3730, 1.1765, 0.2336),
    "SHUNT": (0.12, 1.25, 0.040, -720, -744, 0.25, 0.1302, 0.0938, 0.3348, 0.2941, 1.1682),
    "MATCHED_DEFECT": (0.08, 1.25, 0.008, -720, -769.6, 0.25, 0.2990, 0.2153, 0.7688, 0.2941, 0.2336),
}
MEAN_V = sum(b.fraction * (b.jacobian - 1) for b in BLOCKS)
MEAN_Q = sum(b.fraction * b.mass_change for b in BLOCKS)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: b.vq_class.name)
def test_every_metric_of_the_block_phantom_has_the_digits_of_the_table(block: Block) -> None:
    fraction, j, m, hu_e, hu_i, v, hu, mcvc_v, dsvg, v_n, q_n = TABLE[block.vq_class.name]
    assert (block.fraction, block.jacobian, block.mass_change) == (fraction, j, m)
    insp, exp = np.array([block.hu_insp]), np.array([block.hu_exp])
    assert exp[0] == pytest.approx(hu_e, abs=1e-9)
    assert insp[0] == pytest.approx(hu_i, abs=5e-5)
    assert block.jacobian - 1 == pytest.approx(v)
    assert hu_ventilation(insp, exp)[0] == pytest.approx(hu, abs=5e-5)
    assert mcvc(insp, exp)[0] == pytest.approx(mcvc_v, abs=6e-5)
    assert delta_specific_volume(insp, exp)[0] == pytest.approx(dsvg, abs=5e-5)
    assert (block.jacobian - 1) / MEAN_V == pytest.approx(v_n, abs=5e-5)
    q = perfusion(mass_change(np.array([block.jacobian]), density(insp), density(exp)))[0]
    assert q / MEAN_Q == pytest.approx(q_n, abs=5e-5)


def test_the_globals_of_the_block_phantom() -> None:
    mass_exp = sum(b.fraction * b.rho_exp for b in BLOCKS)
    mass_insp = sum(b.fraction * b.jacobian * density(np.array(b.hu_insp)) for b in BLOCKS)
    volume_insp = sum(b.fraction * b.jacobian for b in BLOCKS)
    assert pytest.approx(0.85) == MEAN_V
    assert pytest.approx(0.03424) == MEAN_Q
    assert volume_insp == pytest.approx(1.85)
    assert mass_insp / mass_exp - 1 == pytest.approx(0.122286, abs=5e-7)
    assert 1000 * mass_insp / volume_insp - 1000 == pytest.approx(-830.14, abs=0.005)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda b: b.vq_class.name)
def test_hu_ventilation_is_wrong_where_mass_moves_and_right_once_corrected_for_it(block: Block) -> None:
    insp, exp = np.array([block.hu_insp]), np.array([block.hu_exp])
    true_air = (block.jacobian * -block.hu_insp - -block.hu_exp) / -block.hu_exp
    assert abs(hu_ventilation(insp, exp)[0] - true_air) > 0.01
    f = block.mass_change / block.rho_exp
    kept = np.array([1000 * block.rho_exp / block.jacobian - 1000])
    assert mass_corrected_hu_ventilation(insp, exp, f)[0] == pytest.approx(hu_ventilation(kept, exp)[0])


@pytest.fixture(scope="module")
def truth() -> Truth:
    return thorax_phantom(DEFECTS, ThoraxShape(in_plane_mm=2.5, noise_insp=0.001, noise_exp=0.001))


def test_the_field_of_the_thorax_phantom_has_exactly_the_stated_jacobian(truth: Truth) -> None:
    lungs = truth.lungs > 0
    along_grid = truth.displacement[..., ::-1]
    numerical = jacobian(np.ascontiguousarray(along_grid), truth.expiratory.grid.spacing)
    inner = lungs & np.roll(lungs, 1, 0) & np.roll(lungs, -1, 0)
    assert np.abs(numerical - truth.jacobian)[inner].mean() < 0.005
    assert truth.jacobian[lungs].min() > 1


def test_the_images_of_the_thorax_phantom_carry_the_stated_mass_change(truth: Truth) -> None:
    index = np.argwhere(_eroded(truth.lungs > 0, 4))
    where = tuple(index.T)
    points = truth.expiratory.grid.points(index.astype(float)) + truth.displacement[where]
    rho_insp = density(warp(truth.inspiratory, points.astype(np.float32)))
    rho_exp = density(truth.expiratory.array[where].astype(np.float64))
    m = mass_change(truth.jacobian[where], rho_insp, rho_exp)
    assert m.mean() == pytest.approx(truth.mass_change[where].mean(), abs=0.001)


def test_the_truth_of_the_thorax_phantom_has_every_class_and_sums_to_one(truth: Truth) -> None:
    fractions = truth.fractions()
    assert sum(fractions.values()) == pytest.approx(1)
    assert all(0.03 < fractions[c] < 0.15 for c in fractions if c != VQClass.NORMAL)


def _eroded(mask: Mask, n: int) -> Mask:
    from scipy import ndimage

    out: Mask = ndimage.binary_erosion(mask, iterations=n)
    return out
