"""Steps of training are timed beside the products that they consist of."""

import csv
import json

import numpy as np
import pytest

from svae import profile
from svae.profile.steps import Trained, faster_order, matrix_products, multiply
from tests.helpers.profiles import quick


@pytest.fixture(scope="module")
def steps_report():
    return profile.run_steps(["dots", "pinwheel"], [2], repeats=1, budget=0.0)


def test_steps_are_timed_beside_their_products(steps_report):
    records = steps_report.records
    names = [(record.workload, record.num_threads) for record in records]
    assert names == [("dots", 1), ("dots", 2), ("pinwheel", 1), ("pinwheel", 2)]
    for record in records:
        assert record.ratio == pytest.approx(record.step_ms / record.products_ms)
        ratio = record.step_ms / record.matmul_ms
        assert record.matmul_ratio == pytest.approx(ratio)
    assert records[0].batch == "1 x 50 x 20"
    assert records[0].iterations == 0 < records[2].iterations


def test_products_are_those_of_the_layers():
    trained = Trained.settle(profile.WORKLOADS["dots"])
    sizes = [
        (a.shape[0], a.shape[1], b.shape[1]) for a, b, _ in matrix_products(trained)
    ]
    encoder = [(50, 20, 50), (20, 50, 50)]  # data have no gradient
    encoder += 2 * [(50, 50, 10), (50, 50, 10), (50, 10, 50)]
    decoder = [(50, 10, 50), (10, 50, 50), (50, 50, 10)]
    decoder += 2 * [(50, 50, 20), (50, 50, 20), (50, 20, 50)]
    assert sizes == encoder + decoder


def test_products_are_those_of_either_order(rng):
    a, b = rng.standard_normal((30, 4)), rng.standard_normal((4, 5))
    product = a, b, np.empty((30, 5))
    chosen = faster_order(product)
    multiply([product, chosen])
    got = chosen[2] if chosen is product else chosen[2].T
    np.testing.assert_allclose(got, a @ b, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(product[2], a @ b, rtol=1e-13, atol=1e-14)


def test_the_same_step_as_often_as_it_is_taken():
    trained = Trained.settle(profile.WORKLOADS["dots"])
    first, again = trained.step(), trained.step()
    assert first[1] | {"seconds": 0.0} == again[1] | {"seconds": 0.0}
    assert first[0].step == trained.state.step + 1


def test_reports_of_steps_are_saved(steps_report, tmp_path):
    folder = profile.save_steps(steps_report, tmp_path / "steps")
    with open(folder / "steps.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["workload"] for row in rows] == 2 * ["dots"] + 2 * ["pinwheel"]
    stored = json.loads((folder / "steps.json").read_text())
    assert stored["records"][0]["ratio"] == steps_report.records[0].ratio
    text = (folder / "steps.txt").read_text()
    assert text == profile.steps_table(steps_report) + "\n"
    assert "pinwheel" in text


def test_unknown_workloads_are_named():
    with pytest.raises(ValueError, match="tides"):
        profile.run_steps(["tides"])
    with pytest.raises(ValueError, match="repeats"):
        profile.run_steps(["dots"], repeats=0)


def test_the_command_times_steps(tmp_path, capsys):
    assert quick(tmp_path, "--steps", "--threads", "1") == 0
    assert "dots" in capsys.readouterr().out
    assert (tmp_path / "steps.csv").exists()
