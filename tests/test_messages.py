"""What goes wrong at first: each is refused with what to do instead."""

import sys

import numpy as np
import pytest

import svae
from svae.__main__ import main
from svae.data import as_sequences

FRAMES = np.arange(12.0).reshape(6, 2)


@pytest.mark.parametrize("network", [svae.MLP, svae.Residual])
@pytest.mark.parametrize("width", [50, np.int64(50), "50", None])
def test_a_width_for_a_tuple_of_widths(network, width):
    with pytest.raises(ValueError, match=r"^hidden must be a tuple .* like \(50,\)"):
        network(width)


@pytest.mark.parametrize(
    ("data", "remedy"),
    [
        (
            FRAMES.tolist(),
            r"a list of frames make an array first, numpy\.array\(data\)",
        ),
        ([np.zeros(5), np.zeros(7)], r"sequence 0 has shape \(5,\).* x\[:, None\]"),
        ([FRAMES, [[1.0], [2.0, 3.0]]], "sequence 1 is no array .* differ in length"),
        (FRAMES.astype(str), r"not numeric but <U\d+; data\.astype\(float\) converts"),
        (FRAMES.astype(object), r"not numeric but object; data\.astype\(float\)"),
        ([["1", "2"], ["3", "4"]], r"not numeric but <U1; data\.astype\(float\)"),
        ("a.npy", r"got str; svae\.data\.load reads a file"),
        ({"a": FRAMES}, r"got dict; list\(data\.values\(\)\) has"),
        (iter([FRAMES]), r"; list\(data\) has"),
    ],
)
def test_data_of_another_kind(data, remedy):
    with pytest.raises(ValueError, match=remedy):
        as_sequences(data)


def test_an_open_archive(tmp_path):
    np.savez(tmp_path / "a.npz", frames=FRAMES)
    with np.load(tmp_path / "a.npz") as archive:
        with pytest.raises(ValueError, match=r"list\(data\.values\(\)\)"):
            as_sequences(archive)
        (frames,) = as_sequences(list(archive.values()))
    np.testing.assert_array_equal(frames, FRAMES)


def test_a_complex_array_has_no_such_remedy():
    with pytest.raises(ValueError, match="is not numeric but complex128$"):
        as_sequences(FRAMES.astype(complex))


@pytest.mark.parametrize(
    ("typed", "hint"),
    [
        ("fit gmm pinwheel --num-sates 3", "for --num-sates, is it --num-states?"),
        ("fit gmm pinwheel --hiden=3", "for --hiden=3, is it --hidden?"),
        ("fit gmm pinwheel --no-standardise", "is it --no-standardize?"),
        ("forecast runs/a --horizn 3 --horizon 3", "for --horizn, is it --horizon?"),
    ],
)
def test_a_misspelt_option(typed, hint, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(typed.split())
    assert hint in capsys.readouterr().err


def test_an_option_like_no_other(capsys):
    with pytest.raises(SystemExit, match="2"):
        main("score runs/a --xyzzy".split())
    assert capsys.readouterr().err.endswith("unrecognized arguments: --xyzzy\n")


def test_a_misspelt_parameter(model):
    with pytest.raises(
        ValueError, match="'latent__latent_dims'; is it 'latent__latent_dim'"
    ):
        model.set_params(latent__latent_dims=3)
    with pytest.raises(ValueError, match="no parameter 'decoders'; is it 'decoder'"):
        model.set_params(decoders=svae.MLP())
    with pytest.raises(ValueError, match="no parameter 'xyzzy'; it has .*'encoder'"):
        model.set_params(xyzzy=1)


@pytest.fixture
def model():
    model = svae.SVAE(svae.LDS(2), svae.MLP((3,)), svae.MLP((3,)))
    return model.fit(FRAMES, 2, rng=0)


@pytest.fixture
def without(monkeypatch):
    """Return a function that makes a package look as if it were not installed."""

    def hide(package):
        for name in [*sys.modules]:
            if name.partition(".")[0] == package:
                monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)

    return hide


def test_a_bar_without_tqdm(model, without):
    without("tqdm")
    with pytest.raises(ImportError, match=r"progress=False.* \(pip install tqdm\)"):
        model.fit(FRAMES, 2, rng=0, progress=True)
    assert model.fit(FRAMES, 2, rng=0).ended_ == "steps"


def test_figures_without_matplotlib(model, without):
    switching = svae.SVAE(svae.SLDS(2, 2), svae.MLP((3,)), svae.MLP((3,)))
    switching.fit(np.random.default_rng(0).standard_normal((30, 4)), 2, rng=0)
    mixture = svae.SVAE(svae.GMM(2, 2), svae.MLP((3,)), svae.MLP((3,)))
    mixture.fit(FRAMES, 2, rng=0, warmup=None)
    without("matplotlib")
    remedy = r"figures: this needs matplotlib.* \(pip install matplotlib\)"
    frames = np.zeros((30, 4))
    for draw in (
        lambda: svae.plot.bound(model.history_),
        lambda: svae.plot.mixture(mixture, FRAMES),
        lambda: svae.plot.ethogram(switching, frames),
        lambda: svae.plot.transitions(switching),
        lambda: svae.plot.forecast(model, FRAMES, 3, 2),
        lambda: svae.plot.dynamics(switching),
        lambda: svae.plot.state_frames(switching, frames, (2, 2)),
        lambda: svae.plot.manifold(model, (1, 2), FRAMES),
    ):
        with pytest.raises(ImportError, match=remedy):
            draw()


def test_commands_without_matplotlib_say_so_in_one_line(tmp_path, without, capsys):
    small = "--num-steps 2 --hidden 3 --warmup 2 --num-states 2"
    without("matplotlib")
    out = str(tmp_path / "run")
    assert main(["fit", "gmm", "pinwheel", *small.split(), "--out", out]) == 0
    said = capsys.readouterr()
    assert "no figures: they need matplotlib (pip install matplotlib)\n" in said.out
    assert main(["plot", out]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("svae: error: figures: this needs matplotlib")
