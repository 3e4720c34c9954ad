"""Tables as text: what is understood in one way only is read, all else is refused."""

import warnings

import numpy as np
import pytest

from svae import data
from svae.data.sources import tables

NAN = np.nan


def write(folder, text, name="a.csv"):
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder / name


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x;y\n1;2\n3;4\n", [[1, 2], [3, 4]]),
        ("x\ty\n1\t2\n3\t4\n", [[1, 2], [3, 4]]),
        ("1,5;2,25\n-3;4e2\n", [[1.5, 2.25], [-3, 400]]),
        ("1,5\t2,25\r\n3\t,5\r\n", [[1.5, 2.25], [3, 0.5]]),
        ("\ufeffx;y\r\n1;2\r\n", [[1, 2]]),
        ("first; of all, x.y;z\n1;2\n", None),
        ("a, b;c\n1,2\n", [[1, 2]]),  # names do not say what separates columns
        ("x,y\n1,NA\nNaN,2\n,n/a\nnull,#N/A\n", [[1, NAN], [NAN, 2]] + [[NAN] * 2] * 2),
        ("1;2\n;NA\n", [[1, 2], [NAN, NAN]]),
        ("1,2\n,\n3,4\n", [[1, 2], [NAN, NAN], [3, 4]]),  # a missing frame
        ("NA,NA\n3,4\n", [[NAN, NAN], [3, 4]]),
        ("1,2\n\n \n3,4\n", [[1, 2], [3, 4]]),
        ("a title\n1,2\n3,4\n", [[1, 2], [3, 4]]),
        ("x\n1\n2\n", [[1], [2]]),
        ('"x","y"\n"1","2"\n', [[1, 2]]),
    ],
)
def test_tables_of_other_programs_are_read(text, expected, tmp_path):
    path = write(tmp_path, text)
    if expected is None:
        with pytest.raises(ValueError, match="line 2 has 2 columns, expected 3"):
            data.load(path)
    else:
        loaded = data.load(path)
        assert loaded.dtype == np.float64
        assert loaded.flags.writeable
        np.testing.assert_array_equal(loaded, expected)


def test_a_table_is_what_numpy_wrote(tmp_path):
    values = np.random.default_rng(0).standard_normal((200, 7))
    np.savetxt(tmp_path / "a.csv", values, delimiter=",", fmt="%.17g")
    np.testing.assert_array_equal(data.load(tmp_path / "a.csv"), values)


# Columns that count


def counted(name, column, rows=12):
    noise = np.random.default_rng(0).standard_normal(rows)
    lines = [f"{name},x", *(f"{c},{v}" for c, v in zip(column, noise, strict=True))]
    return "\n".join(lines)


COLUMNS = {
    "from 0": range(12),
    "from 1": range(1, 13),
    "evenly": np.arange(12) * 0.04 + 5,
    "rounded": np.round(np.arange(12) / 30, 3),
}


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_a_column_that_grows_evenly_is_warned_of(column, tmp_path):
    path = write(tmp_path, counted("a", column))
    with pytest.warns(UserWarning, match=r"a\.csv: column 0 \('a'\) counts") as caught:
        loaded = data.load(path)
    assert loaded.shape == (12, 2)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "numpy.delete(data.load(path), [0], axis=1)" in str(caught[0].message)


NAMES = [
    "index",
    "Frame",
    "time",
    "Unnamed: 0",
    "",
    "Time [s]",
    "time_ms",
    "timestamps",
]
NAMES += ["timestamps", "frame_number", "Frame #", "t"]


@pytest.mark.parametrize("name", NAMES)
def test_a_column_of_that_name_is_warned_of(name, tmp_path):
    path = write(tmp_path, counted(name, [3, 1, 4, 1, 5], 5))
    with pytest.warns(UserWarning, match="column 0 .* counts frames or time"):
        data.load(path)


def test_columns_without_names_above_are_pandas_own(tmp_path):
    path = write(tmp_path, ",0,1\n0,5,7\n1,6,2\n")
    with pytest.warns(UserWarning, match=r"column 0 \(''\) counts frames"):
        np.testing.assert_array_equal(data.load(path), [[0, 5, 7], [1, 6, 2]])


@pytest.mark.parametrize("name", ["timely", "framework", "x time", "temperature"])
def test_other_columns_are_not(name, tmp_path):
    rng = np.random.default_rng(1)
    columns = [np.cumsum(rng.random(12)), np.full(12, 2.0), -np.arange(12.0)]
    columns += [np.where(np.arange(12) == 5, np.nan, np.arange(12.0) ** 1.2)]
    for column in columns:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            data.load(write(tmp_path, counted(name, column)))


# Poses

POSES = """scorer,net,net,net,net,net,net
bodyparts,nose,nose,nose,tail,tail,tail
coords,x,y,likelihood,x,y,likelihood
0,1.0,2.0,0.9,3.0,4.0,0.5
1,5.0,6.0,0.6,7.0,8.0,1.0
2,,,,1.5,2.5,0.99
"""
POSITIONS = [[1, 2, NAN, NAN], [5, 6, 7, 8], [NAN, NAN, 1.5, 2.5]]
ALL = [[1, 2, 3, 4], [5, 6, 7, 8], [NAN, NAN, 1.5, 2.5]]


def test_poses_are_positions_where_the_tracker_was_sure(tmp_path):
    path = write(tmp_path, POSES)
    np.testing.assert_array_equal(data.load(path), POSITIONS)
    np.testing.assert_array_equal(data.deeplabcut(path), POSITIONS)
    np.testing.assert_array_equal(data.deeplabcut(path, cutoff=0), ALL)
    several = POSES.replace("bodyparts", "individuals,a,a,a,b,b,b\nbodyparts")
    np.testing.assert_array_equal(data.load(write(tmp_path, several)), POSITIONS)


def test_poses_that_a_person_has_labelled_have_no_likelihood(tmp_path):
    text = "scorer,,me,me,me,me\nbodyparts,,nose,nose,tail,tail\ncoords,,x,y,x,y\n"
    path = write(tmp_path, text + "a,img0.png,1,2,3,4\na,img1.png,5,6,,\n")
    np.testing.assert_array_equal(data.load(path), [[1, 2, 3, 4], [5, 6, NAN, NAN]])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("coords", "coord", "no line of 'coords' below"),
        ("x,y,likelihood\n", "x,y\n", "lines 1 to 3 name different numbers of columns"),
        ("x,y,likelihood\n", "x,y,area\n", "a column of 'area' in a table of DeepLab"),
        ("5.0", "five", "line 5: 'five' is not a number"),
        ("1,5.0", "5.0", "line 5 has 6 columns, expected 7"),
    ],
)
def test_damaged_poses_are_refused(old, new, message, tmp_path):
    path = write(tmp_path, POSES.replace(old, new))
    with pytest.raises(ValueError, match=rf"a\.csv: .*{message}"):
        data.load(path)


def test_what_has_no_poses_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a\.csv: not a table of DeepLabCut"):
        data.deeplabcut(write(tmp_path, "1,2\n3,4\n"))


# Memory


def test_a_table_beyond_the_limit_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "MEMORY", 5)
    assert data.load(write(tmp_path, "1,2\n3,4\n")).shape == (2, 2)
    with pytest.raises(ValueError, match=r"a\.csv: .* more than 5 .* as \.npy or HDF5"):
        data.load(write(tmp_path, "1,2\n3,4\n5,6\n"))


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "LONGEST", 100)
    with pytest.raises(ValueError, match="line 1 is too long"):
        data.load(write(tmp_path, "1," * 100))


def test_reading_a_table_takes_little_more_than_its_numbers(tmp_path, run_python):
    pytest.importorskip("resource")
    values = np.random.default_rng(0).standard_normal((100_000, 10))
    np.savetxt(tmp_path / "a.csv", values, delimiter=",", fmt="%.17g")
    code = """
import resource
from svae import data
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data.load("small.csv")
before = peak()
size = data.load("a.csv").nbytes
print((peak() - before) * 1024 / size)
"""
    write(tmp_path, "1,2\n", "small.csv")
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 2.0
