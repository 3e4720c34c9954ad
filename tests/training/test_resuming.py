"""What a fit may go on from, and what is refused or named."""

import json
import shutil
import zipfile

import numpy as np
import pytest

import svae
from svae import store
from svae.__main__ import main
from svae.training import checkpoint
from tests.helpers.fits import COMMON, FRAMES, JOBS, NETWORK, run
from tests.helpers.runs import assert_same_run, interrupt_at


def test_an_unfinished_fit_is_not_overwritten(tmp_path):
    with pytest.warns(UserWarning, match="interrupted"):
        run("lds", tmp_path, False, callback=interrupt_at(3))
    before = (tmp_path / checkpoint.FILE).read_bytes()
    with pytest.raises(ValueError, match="has a fit that has not ended: go on"):
        run("lds", tmp_path, resume=False)
    assert (tmp_path / checkpoint.FILE).read_bytes() == before
    assert len(svae.load(tmp_path / "model.npz").history_["objective"]) == 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"batch_size": 3}, "fit.batch_size = 2, not 3"),
        ({"window": None}, "fit.window = 20, not None"),
        ({"learning_rate": 0.02}, "fit.learning_rate = 0.01, not 0.02"),
        ({"n_init": 2}, "fit.n_init = 1, not 2"),
        ({"warmup": None}, "fit.warmup = auto, not None"),
        ({"held_out": FRAMES}, "fit.score_every = None, not 100"),
    ],
)
def test_other_settings_are_refused(changed, message, whole, tmp_path):
    shutil.copytree(whole / "lds", tmp_path / "a")
    before = (tmp_path / "a" / checkpoint.FILE).read_bytes()
    with pytest.raises(ValueError, match=message):
        run("lds", tmp_path / "a", **changed)
    assert (tmp_path / "a" / checkpoint.FILE).read_bytes() == before


def test_other_data_and_models_are_refused(whole, tmp_path):
    make, (first, second), options = JOBS["lds"]
    options = COMMON | options | {"checkpoint": whole / "lds", "resume": True}
    changed = first.copy()
    changed[3, 1] += 1e-9
    with pytest.raises(ValueError, match="data.digest = "):
        make().fit([changed, second], **options)
    with pytest.raises(ValueError, match="data.digest = "):
        make().fit([first[::-1], second], **options)
    with pytest.raises(ValueError, match="data.digest = "):
        make().fit([second, first], **options)
    with pytest.raises(ValueError, match="data.frames = 120, not 100"):
        make().fit([first, first], **options)
    with pytest.raises(ValueError, match="model.decoder_posterior = gaussian, not"):
        svae.SVAE(svae.LDS(2), NETWORK, NETWORK).fit([first, second], **options)
    with pytest.raises(ValueError, match="model.latent.affine = False, not True"):
        svae.SVAE(
            svae.LDS(2, affine=True), NETWORK, NETWORK, decoder_posterior="gaussian"
        ).fit([first, second], **options)


def test_data_of_the_same_means_are_other_data(tmp_path):
    """Sums of integers are exact in any order: means say nothing of that."""
    data = np.random.default_rng(0).integers(0, 9, (40, 3))
    gappy = data.astype(float)
    gappy[3, 1] = gappy[7, 2] = np.nan
    moved = gappy.copy()
    moved[3, 1], moved[8, 1] = moved[8, 1], np.nan
    swapped = data.copy()
    swapped[[3, 8], 1] = swapped[[8, 3], 1] + np.array([1, -1])

    def fit(folder, values, held_out, **options):
        model = svae.SVAE(svae.LDS(2), NETWORK, NETWORK)
        options = {"num_steps": 2, "rng": 0, "checkpoint": tmp_path / folder} | options
        model.fit(values, held_out=held_out, score_every=1, **options)

    fit("whole", data, data)
    fit("gappy", gappy, gappy)
    for folder, values, others in (
        ("whole", data, (data[::-1], swapped, data + (np.arange(40) == 5)[:, None])),
        ("gappy", gappy, (gappy[::-1], moved)),
    ):
        for other in others:
            with pytest.raises(ValueError, match="with data.digest = "):
                fit(folder, other, values, num_steps=3, resume=True)
            with pytest.raises(ValueError, match="with held_out.digest = "):
                fit(folder, values, other, num_steps=3, resume=True)
        fit(folder, values, values.astype(float), num_steps=3, resume=True)


def test_the_same_data_are_the_same_wherever_they_are(tmp_path, monkeypatch):
    """In memory, mapped, in HDF5, in any order of bytes and with any stretches."""
    h5py = pytest.importorskip("h5py")
    frames = np.random.default_rng(0).standard_normal((2, 30, 3)).astype(np.float32)
    frames[0, 4] = frames[1, 7, 2] = np.nan
    payload = frames.copy()
    payload.view(np.uint32)[np.isnan(frames)] |= 5  # another NaN is a NaN too
    np.save(tmp_path / "a.npy", frames)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("x", data=frames, chunks=(1, 7, 3), compression="gzip")
        mapped = np.load(tmp_path / "a.npy", mmap_mode="r")
        masked = np.ma.masked_invalid(frames)
        digests = set()
        for stretch in (1, 7, 50, 2**20):
            monkeypatch.setattr(svae.data.sequences, "STRETCH", stretch)
            for data in (
                frames,
                frames.astype(float),
                frames.astype(">f8"),
                np.asfortranarray(frames),
                payload,
                mapped,
                file["x"],
                masked,
                [frames[0].tolist(), frames[1]],
            ):
                sequences = svae.data.as_sequences(data)
                digests.add(svae.data.summarize(sequences, digest=True).digest)
    (digest,) = digests
    assert len(digest) == 32
    sequences = [frames[0, :20], np.concatenate([frames[0, 20:], frames[1]])]
    other = svae.data.summarize(svae.data.as_sequences(sequences), digest=True)
    assert other.digest != digest
    assert svae.data.summarize(svae.data.as_sequences(frames)).digest is None


@pytest.mark.parametrize("damage", ["cut", "byte", "empty", "text", "model", "pickle"])
@pytest.mark.parametrize("resume", [False, True])
def test_a_damaged_or_foreign_file_is_named_and_left(damage, resume, whole, tmp_path):
    shutil.copytree(whole / "lds", tmp_path / "a")
    path = tmp_path / "a" / checkpoint.FILE
    good = path.read_bytes()
    if damage == "cut":
        path.write_bytes(good[: len(good) // 2])
    elif damage == "byte":
        # one bit of an array's numbers
        where = max(zipfile.ZipFile(path).infolist(), key=lambda info: info.file_size)
        spoiled = bytearray(good)
        spoiled[where.header_offset + 600] ^= 4
        path.write_bytes(spoiled)
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "text":
        path.write_text("this is no archive\n")
    elif damage == "model":
        shutil.copy(tmp_path / "a" / "model.npz", path)
    else:
        np.savez(path, header=np.array([{"a": 1}], dtype=object))
    before = path.read_bytes()
    with pytest.raises(ValueError, match=f"{checkpoint.FILE}: (damaged|not a)"):
        run("lds", tmp_path / "a", resume=resume)
    assert path.read_bytes() == before
    assert_same_run(tmp_path / "a", whole / "lds")  # the model is still there


def test_a_full_disk_leaves_the_last_checkpoint(whole, tmp_path, monkeypatch):
    fsync, saved = svae.store.os.fsync, []

    def full(descriptor):
        saved.append(1)
        if len(saved) > 30:
            raise OSError(28, "No space left on device")
        fsync(descriptor)

    monkeypatch.setattr(svae.store.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        run("lds", tmp_path / "a", False)
    monkeypatch.undo()
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {checkpoint.FILE, "model.npz", "history.csv"}
    assert len(svae.load(tmp_path / "a" / "model.npz").history_["objective"]) > 3
    run("lds", tmp_path / "a")
    assert_same_run(tmp_path / "a", whole / "lds")


def test_other_versions_are_told(whole, tmp_path, monkeypatch):
    shutil.copytree(whole / "lds", tmp_path / "a")
    told = checkpoint.versions() | {"svae": "9.9", "numpy": "0"}
    monkeypatch.setattr(checkpoint, "versions", lambda: told)
    with pytest.warns(UserWarning, match="svae .*, now 9.9; numpy .*, now 0: it goes"):
        run("lds", tmp_path / "a")


def test_a_checkpoint_is_numbers_and_json(whole):
    path = whole / "slds" / checkpoint.FILE
    with np.load(path, allow_pickle=False) as archive:
        header = json.loads(archive["header"].tobytes())
        assert all(archive[name].dtype.kind in "biuf" for name in archive.files)
    meta = header["meta"]
    assert meta["kind"] == "svae.checkpoint"
    assert meta["job"]["fit"]["batch_size"] == 2
    assert meta["job"]["model"]["latent"]["class"] == "SLDS"
    assert {"svae", "numpy", "python", "instructions"} <= meta["versions"].keys()


@pytest.mark.parametrize("interval", [-1.0, np.nan])
def test_an_interval_is_not_negative(interval, tmp_path):
    with pytest.raises(ValueError, match="checkpoint_interval must be"):
        run("lds", tmp_path, checkpoint_interval=interval)


def test_saves_are_as_far_apart_as_told(tmp_path, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])
    saves, save = [], checkpoint.Checkpoint.save

    def noting(self, training):
        saves.append(training.state.step)
        save(self, training)

    monkeypatch.setattr(checkpoint.Checkpoint, "save", noting)

    def tick(step, record):
        clock[0] += 1.0

    run("lds", tmp_path, False, num_steps=20, checkpoint_interval=6.0, callback=tick)
    assert saves == [1, 7, 13, 19, 20]


def test_the_command_line_goes_on(tmp_path, capsys, monkeypatch):
    """After a kill in its middle, with the settings of the run."""
    np.save(tmp_path / "frames.npy", FRAMES)
    words = ["fit", "lds", str(tmp_path / "frames.npy"), "--latent-dim", "2"]
    words += ["--num-steps", "12", "--window", "20", "--hidden", "6", "--rng", "3"]
    words += ["--n-init", "2", "--held-out", str(tmp_path / "frames.npy"), "--quiet"]
    assert main([*words, "--out", str(tmp_path / "whole")]) == 0
    step, taken = svae.training.step.step, []

    def interrupted(*arguments):
        if len(taken) == 17:
            raise KeyboardInterrupt
        taken.append(1)
        return step(*arguments)

    monkeypatch.setattr(svae.training.step, "step", interrupted)
    out = tmp_path / "run"
    assert main([*words, "--out", str(out)]) == 130
    said = capsys.readouterr().err
    assert said == f"svae: interrupted; go on with: svae fit --resume {out}\n"
    monkeypatch.undo()
    assert main([*words, "--out", str(out)]) == 1
    assert "has a fit that has not ended" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["fit", "--resume", str(out), "--window", "10"])
    assert "argument --window: that was settled" in capsys.readouterr().err
    (tmp_path / "frames.npy").rename(tmp_path / "moved.npy")
    record = json.loads((out / "run.json").read_text())
    record["settings"]["held_out"] = str(tmp_path / "moved.npy")
    (out / "run.json").write_text(json.dumps(record))
    moved = ["--resume", str(out), "lds", str(tmp_path / "moved.npy"), "--quiet"]
    assert main(["fit", *moved]) == 0
    assert_same_run(out, tmp_path / "whole")
    assert (out / "figures" / "bound.png").is_file()


def test_the_command_line_names_what_it_cannot_go_on_with(tmp_path, capsys):
    assert main(["fit", "--resume", str(tmp_path)]) == 1
    assert "not the folder of a `svae fit`" in capsys.readouterr().err
    (tmp_path / "run.json").write_text('{"model": "lds"')
    assert main(["fit", "--resume", str(tmp_path)]) == 1
    assert "run.json: damaged, or not of a run" in capsys.readouterr().err


def test_records_of_earlier_versions_have_no_states_in_use(tmp_path):
    """A fit of theirs goes on, and does not know how many were."""
    run("slds", tmp_path / "part", resume=False, num_steps=3, n_init=1)
    tree, meta = store.load(tmp_path / "part" / "checkpoint.npz")
    for records in (tree["records"], tree["champion"]["records"]):
        del records["states_in_use"]
    for name in ("schedule", "natural_schedule", "weight_decay", "freeze"):
        del meta["job"]["fit"][name]
    store.save(tmp_path / "part" / "checkpoint.npz", tree, meta)
    model = run("slds", tmp_path / "part", num_steps=6, n_init=1)
    used = model.history_["states_in_use"]
    assert np.all(np.isnan(used[:3])) and not np.any(np.isnan(used[3:]))
