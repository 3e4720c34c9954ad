"""Data of every form as sequences; what is missing, and what is refused."""

import numpy as np
import pytest

from svae import data


class Lazy:
    """Sequences made when asked for, with nothing but ``len`` and ``[]``."""

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, index):
        return self.items[index]


def test_as_sequences_accepts_every_form():
    values = np.arange(24.0).reshape(2, 4, 3)
    forms = [values, list(values), tuple(values), Lazy(values), values.astype(int)]
    for form in [*forms, values.astype(np.float32), Lazy(values.tolist())]:
        sequences = data.as_sequences(form)
        assert [s.shape for s in sequences] == [(4, 3), (4, 3)]
        assert all(s.dtype == np.float64 for s in sequences)
        np.testing.assert_array_equal(np.stack(sequences), values)
    (alone,) = data.as_sequences(values[0])
    assert np.shares_memory(alone, values)
    ragged = data.as_sequences([values[0], values[1, :2]])
    assert [len(s) for s in ragged] == [4, 2]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.ones(5), r"shape \(5,\), expected \(T, P\).* data\[:, None\]"),
        (np.ones((2, 3, 4, 5)), r"shape \(2, 3, 4, 5\), expected \(T, P\)"),
        (np.float64(3.0), r"shape \(\), expected"),
        (3.0, "got float"),
        ("words", "got str"),
        ({"a": np.ones((3, 2))}, "got dict"),
        (None, "got NoneType"),
        ([], "no sequences"),
        (np.ones((0, 3, 2)), "no sequences"),
        ([1.0, 2.0], r"sequence 0 has shape \(\), expected \(T, P\)"),
        ([np.ones((3, 2)), np.ones(3)], r"sequence 1 has shape \(3,\)"),
        ([np.ones((3, 2)), np.ones((0, 2))], r"sequence 1 has shape \(0, 2\)"),
        (np.ones((3, 0)), r"sequence 0 has shape \(3, 0\)"),
        ([np.ones((3, 2)), np.ones((3, 4))], "sequence 1 has 4 dimensions, sequence 0"),
        ([np.array([["a", "b"]])], "sequence 0 is not numeric but <U1"),
        (np.ones((3, 2), complex), "sequence 0 is not numeric but complex128"),
        (np.array([[None, 1]]), "sequence 0 is not numeric but object"),
    ],
)
def test_as_sequences_refuses(bad, message):
    with pytest.raises(ValueError, match=message):
        data.as_sequences(bad)


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_as_sequences_names_the_place_of_an_infinite_value(value):
    sequences = [np.ones((4, 3)), np.ones((6, 3))]
    sequences[0][0, 0] = np.nan
    sequences[1][5, 2] = value
    place = f"{value} at sequence 1, step 5, dimension 2"
    with pytest.raises(ValueError, match=place):
        data.as_sequences(sequences)


def test_nan_is_missing_anywhere_and_everywhere():
    sequences = [np.ones((4, 3)), np.full((2, 3), np.nan)]
    sequences[0][1], sequences[0][3, 2] = np.nan, np.nan
    kept = data.as_sequences(sequences)
    for sequence, same in zip(sequences, kept, strict=True):
        np.testing.assert_array_equal(same, sequence)
        assert np.shares_memory(same, sequence)


def test_masked_entries_are_missing():
    values = np.arange(12.0).reshape(2, 3, 2)
    values[1, 2, 0] = np.inf  # what is hidden may be anything
    for dtype in (np.float64, np.float32):
        masked = np.ma.masked_array(values, mask=np.isinf(values), dtype=dtype)
        for form in (masked, list(masked)):
            sequences = np.stack(data.as_sequences(form))
            expected = np.where(np.isinf(values), np.nan, values)
            np.testing.assert_array_equal(sequences, expected)


def test_a_data_frame_is_read_whole_for_its_slices_go_by_label():
    class Frame:
        shape, iloc = (3, 2), None

        def __array__(self, dtype=None, copy=None):
            return np.array([[0, 1], [2, np.nan], [4, 5]], dtype)

        def __getitem__(self, key):
            raise KeyError(key)

    (sequence,) = data.as_sequences(Frame())
    np.testing.assert_array_equal(sequence, [[0, 1], [2, np.nan], [4, 5]])
