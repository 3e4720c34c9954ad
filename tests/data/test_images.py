"""Frames that are images: arrays of them, in memory and in files."""

import pickle

import numpy as np
import pytest

from svae import data
from tests.data.test_moseq import write_moseq
from tests.helpers.sources import write_hdf5

VIDEO = np.random.default_rng(0).integers(0, 80, (5, 9, 9)).astype(np.uint8)


def test_images_are_rows_of_pixels():
    (video,) = data.images(VIDEO)
    assert video.shape == (5, 81)
    assert video.frame_shape == (9, 9)
    for each in (video, pickle.loads(pickle.dumps(video))):
        np.testing.assert_array_equal(each[1:3], VIDEO[1:3].reshape(2, 81))
    first, second = data.images(np.stack([VIDEO, VIDEO + 1]))
    np.testing.assert_array_equal(np.asarray(second), VIDEO.reshape(5, 81) + 1)
    short, whole = data.images([VIDEO[:2], VIDEO])
    assert (len(short), len(whole), whole.index) == (2, 5, 1)
    assert [each.shape for each in data.as_sequences([first, short])] == [
        (5, 81),
        (2, 81),
    ]


def test_what_are_no_images_is_refused():
    with pytest.raises(ValueError, match=r"images have shape \(5, 81\), expected"):
        data.images(VIDEO.reshape(5, 81))
    with pytest.raises(ValueError, match="images differ in shape"):
        data.images([VIDEO, VIDEO[:, :8]])
    with pytest.raises(ValueError, match="of images .* svae.data.images"):
        data.as_sequences(VIDEO[None])


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".h5"])
@pytest.mark.parametrize("mmap", [False, True])
def test_files_of_images(suffix, mmap, tmp_path):
    path = tmp_path / f"video{suffix}"
    if suffix == ".h5":
        write_hdf5(path, video=VIDEO)
    else:
        (np.save if suffix == ".npy" else np.savez)(path, VIDEO)
    for frame_shape in ("auto", (9, 9)):
        video = data.load(path, mmap=mmap, frame_shape=frame_shape)
        assert video.frame_shape == (9, 9)
        np.testing.assert_array_equal(video[:], VIDEO.reshape(5, 81))
    sequences = data.as_sequences(data.load(path, mmap=mmap))
    assert [each.shape for each in sequences] == [(9, 9)] * 5
    with pytest.raises(ValueError, match=r"video.* no images of 3 x 27 pixels"):
        data.load(path, mmap=mmap, frame_shape=(3, 27))


def test_only_square_frames_of_some_size_are_images_by_themselves(tmp_path):
    for shape, images in (
        ((5, 9, 9), True),
        ((5, 7, 7), False),  # sequences of as many steps as channels
        ((5, 9, 8), False),
        ((2, 5, 9, 8), True),
    ):
        np.save(tmp_path / "a.npy", np.zeros(shape))
        loaded = data.load(tmp_path / "a.npy", frame_shape="auto")
        first = data.as_sequences(loaded)[0]
        assert getattr(first, "frame_shape", None) == (shape[-2:] if images else None)


def test_rows_of_pixels_keep_their_shape(tmp_path):
    np.save(tmp_path / "a.npy", VIDEO.reshape(5, 81))
    loaded = data.load(tmp_path / "a.npy", frame_shape=(9, 9))
    np.testing.assert_array_equal(loaded, VIDEO.reshape(5, 81))
    np.savetxt(tmp_path / "a.csv", VIDEO.reshape(5, 81), delimiter=",")
    assert data.load(tmp_path / "a.csv", frame_shape=(9, 9)).shape == (5, 81)
    with pytest.raises(ValueError, match=r"a\.csv.* no images of 9 x 8 pixels"):
        data.load(tmp_path / "a.csv", frame_shape=(9, 8))


def test_an_extraction_says_what_its_frames_are(tmp_path):
    write_moseq(tmp_path / "a.h5")
    recording = data.load(tmp_path / "a.h5")
    assert (recording.frame_shape, recording.quantity) == ((4, 6), "height (mm)")
    assert data.moseq(tmp_path / "a.h5", block=2).frame_shape == (2, 3)
    assert data.load(tmp_path / "a.h5", frame_shape=(4, 6)).shape == (6, 24)
    with pytest.raises(ValueError, match=r"frames have 4 x 6 pixels, not 6 x 4"):
        data.load(tmp_path / "a.h5", frame_shape=(6, 4))
    np.save(tmp_path / "a.npy", np.zeros((5, 3)))
    mapped = data.as_sequences(data.load(tmp_path / "a.npy", mmap=True))[0]
    assert (mapped.frame_shape, mapped.quantity) == (None, None)
