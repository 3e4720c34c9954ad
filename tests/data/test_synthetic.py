"""Synthetic data: that of the papers, and videos in the likeness of theirs."""

from itertools import product

import numpy as np
import pytest
from scipy.signal import sawtooth

from svae import data
from svae.data import synthetic

WIDTH = 30
GENERATORS = {
    "pinwheel": synthetic.pinwheel,
    "dots": lambda rng: (synthetic.dots(num_frames=50, rng=rng),),
    "switching_lds": lambda rng: synthetic.switching_lds(4, 10, rng=rng),
    "switching_dots": lambda rng: synthetic.switching_dots(4, 10, rng=rng),
    "depth_video": lambda rng: synthetic.depth_video(250, rng=rng),
}


@pytest.mark.parametrize("make", GENERATORS.values(), ids=GENERATORS)
def test_generators_follow_their_seed(make):
    first, again = make(rng=3), make(rng=np.random.default_rng(3))
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(first[0], make(rng=4)[0])


def test_data_has_the_data_of_the_paper():
    assert data.pinwheel is synthetic.pinwheel
    assert data.dots is synthetic.dots


# Pinwheel and dots


def test_pinwheel_blades_unbend_to_gaussians():
    points, labels = synthetic.pinwheel(num_per_class=2000, rng=1)
    assert points.shape == (10000, 2)
    np.testing.assert_array_equal(np.bincount(labels), 2000)
    assert len(set(labels[:100])) == 5  # in random order
    features = unbend(points / 10, labels)
    np.testing.assert_allclose(features.mean(0), [1.0, 0.0], atol=4 * 0.3 / 100)
    np.testing.assert_allclose(features.std(0), [0.3, 0.05], rtol=0.03)


def unbend(points, labels):
    """Solve for the features of each point; the angle depends on the first one."""
    along = np.linalg.norm(points, axis=1)
    for _ in range(200):
        angle = 2 * np.pi * labels / 5 + 0.25 * np.exp(along)
        cos, sin = np.cos(angle), np.sin(angle)
        along, across = (
            cos * points[:, 0] - sin * points[:, 1],
            sin * points[:, 0] + cos * points[:, 1],
        )
    return np.stack([along, across], 1)


def test_dots_bounce():
    frames = synthetic.dots(
        image_width=41, num_frames=400, duration=40.0, noise_sigma=0.0
    )
    assert frames.shape == (400, 41)
    times = np.linspace(0, 40.0, 400)
    positions = sawtooth(np.pi * 0.75 * (times + 0.5), width=0.5)
    grid = np.linspace(-1, 1, 41)
    expected = np.exp(-0.5 * ((positions[:, None] - grid) / 0.15) ** 2)
    np.testing.assert_allclose(frames, expected, atol=1e-12)


def test_dots_of_the_paper():
    frames = synthetic.dots()
    assert frames.shape == (5000, 20)
    clean = synthetic.dots(noise_sigma=0.0)
    assert np.std(frames - clean) == pytest.approx(0.1, rel=0.01)
    # at steps of exactly 0.1, three bounces of 26.67 frames are 80
    clean = synthetic.dots(num_frames=5001, noise_sigma=0.0)
    np.testing.assert_allclose(clean[80:], clean[:-80], atol=1e-10)
    assert np.max(np.abs(clean[27:] - clean[:-27])) < 0.5
    assert np.max(np.abs(clean[13:] - clean[:-13])) > 0.9


# Switching LDS


def test_switching_lds_of_the_paper():
    frames, states, dynamics = synthetic.switching_lds()
    assert frames.shape == (2000, 2) and frames.dtype == np.float64
    assert dynamics.shape == (2, 2, 2) and states.dtype == np.int64
    np.testing.assert_array_equal(states.reshape(20, 100).T, [[0, 1] * 10] * 100)
    np.testing.assert_allclose(dynamics[0], 0.95 * np.eye(2), atol=1e-15)
    turn = 0.95 * np.sqrt(0.5)  # by 45 degrees
    np.testing.assert_allclose(dynamics[1], [[turn, -turn], [turn, turn]], atol=1e-15)


def test_switching_lds_eigenvalues():
    dynamics = synthetic.switching_lds(num_states=6, radius=0.8).dynamics
    for k, matrix in enumerate(dynamics):
        expected = 0.8 * np.exp(1j * k / 6 * np.pi / 2 * np.array([-1, 1]))
        found = np.linalg.eigvals(matrix)
        np.testing.assert_allclose(found[np.argsort(found.imag)], expected, atol=1e-14)


def test_switching_lds_noise():
    """Each pair (t-1, t) follows the matrix of its state, that of t."""
    latents, states, dynamics = synthetic.switching_lds(400, noise_sigma=0.0, rng=1)
    moved = np.einsum("tij,tj->ti", dynamics[states[1:]], latents[:-1])
    shocks = latents[1:] - moved
    # four standard errors of 40000 x 2 draws
    assert np.std(shocks) == pytest.approx(0.1, rel=4 / np.sqrt(2 * shocks.size))
    late = np.einsum("tij,tj->ti", dynamics[states[:-1]], latents[:-1])
    at_switch = np.flatnonzero(states[1:] != states[:-1])
    assert np.std((latents[1:] - late)[at_switch]) > 2 * np.std(shocks[at_switch])
    noisy = synthetic.switching_lds(400, rng=1).frames - latents
    assert np.std(noisy) == pytest.approx(0.1, rel=4 / np.sqrt(2 * noisy.size))
    assert abs(np.mean(noisy[1:] * noisy[:-1])) < 4 * 0.01 / np.sqrt(noisy.size)


@pytest.mark.parametrize("frame", [0, 1, 5, 9])
def test_switching_lds_is_stationary(frame):
    drawn = [
        synthetic.switching_lds(5, 2, 3, radius=0.9, rng=seed).frames[frame]
        for seed in range(1500)
    ]
    variance = 0.01 / (1 - 0.81) + 0.01
    expected = variance * np.eye(2)
    np.testing.assert_allclose(
        np.cov(drawn, rowvar=False), expected, atol=0.15 * variance
    )


@pytest.mark.parametrize("radius", [1.0, -0.1, np.nan])
def test_switching_lds_refuses_what_is_not_stable(radius):
    with pytest.raises(ValueError, match=r"radius must be in \[0, 1\)"):
        synthetic.switching_lds(radius=radius)


# Switching dots


def test_switching_dots_of_the_paper():
    frames, states = synthetic.switching_dots()
    assert frames.shape == (5000, 15) and states.dtype == np.int64
    np.testing.assert_array_equal(states, np.repeat(np.tile([0, 1], 25), 100))
    clean, _ = synthetic.switching_dots(noise_sigma=0.0)
    assert np.std(frames - clean) == pytest.approx(0.05, rel=0.015)


def test_switching_dots_at_one_speed_are_dots():
    frames, states = synthetic.switching_dots(3, 40, [0.75], noise_sigma=0.1, rng=5)
    plain = synthetic.dots(15, num_frames=120, duration=11.9, x0=-1.0, rng=5)
    np.testing.assert_allclose(frames, plain, atol=1e-12)
    assert not states.any()


def test_switching_dots_move_at_the_speed_of_their_state():
    """Positions read off the images; the step to the first frame of a block is new."""
    width = 401
    frames, states = synthetic.switching_dots(
        6, 7, (0.5, 2.0), width, render_sigma=0.05, noise_sigma=0.0
    )
    positions = np.linspace(-1, 1, width)[frames.argmax(1)]
    assert positions[0] == -1.0
    steps = np.abs(np.diff(positions))
    expected = 2 * 0.1 * np.array([0.5, 2.0])[states[1:]]
    away = np.abs(positions)[1:] < 0.99 - expected  # not a step that bounces
    assert away.sum() > 20
    np.testing.assert_allclose(steps[away], expected[away], atol=2 / (width - 1))


def test_switching_dots_periods():
    clean, _ = synthetic.switching_dots(1, 200, (1.0,), noise_sigma=0.0)
    np.testing.assert_allclose(clean[20:], clean[:-20], atol=1e-10)
    clean, _ = synthetic.switching_dots(1, 300, (1.9,), noise_sigma=0.0)
    np.testing.assert_allclose(clean[200:], clean[:100], atol=1e-10)  # 19 periods
    assert np.max(np.abs(clean[100:] - clean[:-100])) > 0.9  # 9.5 of them


# Depth video


@pytest.fixture(scope="module")
def video():
    return synthetic.depth_video(6000, num_states=5, rng=2)


def images(**pose):
    """One image of the animal: all of its pose zero but what is named."""
    poses = np.array([[pose.get(name, 0.0) for name in synthetic.POSE]])
    return synthetic.depth_images(poses, WIDTH).reshape(WIDTH, WIDTH)


def centre(image):
    """Row and column of the centre of mass."""
    rows, columns = np.indices(image.shape)
    return np.array([np.sum(rows * image), np.sum(columns * image)]) / image.sum()


def test_depth_video_shapes(video):
    frames, states, poses = video
    assert frames.shape == (6000, WIDTH * WIDTH) and frames.dtype == np.float64
    assert states.shape == (6000,) and states.dtype == np.int64
    assert poses.shape == (6000, len(synthetic.POSE)) and np.isfinite(poses).all()
    small = synthetic.depth_video(num_frames=3, num_states=1, image_width=8)
    assert small.frames.shape == (3, 64)
    np.testing.assert_array_equal(small.states, 0)


def test_depth_video_is_its_poses_in_noise(video):
    clean = synthetic.depth_images(video.poses)
    noise = video.frames - clean
    assert np.std(noise) == pytest.approx(0.02, rel=4 / np.sqrt(2 * noise.size))
    assert abs(np.mean(noise)) < 4 * 0.02 / np.sqrt(noise.size)
    silent = synthetic.depth_video(6000, num_states=5, noise_sigma=0.0, rng=2)
    np.testing.assert_array_equal(silent.frames, clean)
    assert clean.min() == 0.0 and 0.8 < clean.max() <= 1.0


def test_behaviours_last_from_a_third_of_a_second_to_two(video):
    states = synthetic.depth_video(40_000, num_states=5, image_width=2).states
    ends = np.flatnonzero(np.diff(states))
    lasted = np.diff(ends) / 30
    assert np.mean(lasted) == pytest.approx(0.9, abs=0.05)
    assert np.mean((lasted > 0.3) & (lasted < 2.0)) > 0.9
    # any behaviour follows any other equally often
    pairs = np.zeros((5, 5))
    np.add.at(pairs, (states[ends], states[ends + 1]), 1)
    followers = pairs / pairs.sum(1, keepdims=True)
    np.testing.assert_allclose(followers, (1 - np.eye(5)) / 4, atol=0.1)


def test_the_poses_of_a_behaviour_are_a_second_order_autoregression():
    """Least squares within a behaviour finds springs of radius 0.9, well apart."""
    video = synthetic.depth_video(30_000, num_states=3, image_width=2, rng=1)
    postures = []
    for k in range(3):
        steps = 2 + np.flatnonzero(video.states[2:] == k)
        past = [
            video.poses[steps - 1],
            video.poses[steps - 2],
            np.ones((len(steps), 1)),
        ]
        weights, residual, *_ = np.linalg.lstsq(
            np.hstack(past), video.poses[steps], rcond=None
        )
        first, second, constant = weights[:6].T, weights[6:12].T, weights[12]
        np.testing.assert_allclose(second, -0.81 * np.eye(6), atol=0.05)
        np.testing.assert_allclose(first, first.T, atol=0.05)
        cosines = np.linalg.eigvalsh((first + first.T) / 2) / 1.8
        slowest, fastest = np.cos(2 * np.pi * np.array([0.3, 4.0]) / 30)
        assert np.all((cosines > fastest - 0.03) & (cosines < slowest + 0.03))
        assert np.sqrt(residual.max() / len(steps)) < 0.3
        postures.append(np.linalg.solve(np.eye(6) - first - second, constant))
    apart = [np.linalg.norm(postures[i] - postures[j]) for i, j in ((0, 1), (1, 2))]
    assert min(apart) > 0.8


def test_a_behaviour_alone_is_stationary():
    """The covariance of its modes has variances within the bounds drawn from."""
    poses = synthetic.depth_video(40_000, num_states=1, image_width=2, rng=4).poses
    deviations = np.sqrt(np.linalg.eigvalsh(np.cov(poses, rowvar=False)))
    assert deviations.min() > 0.05 * 0.9 and deviations.max() < 0.4 * 1.1
    assert np.ptp(deviations) > 0.1
    early, late = poses[:20_000], poses[20_000:]
    np.testing.assert_allclose(late.mean(0), early.mean(0), atol=0.05)
    np.testing.assert_allclose(late.std(0), early.std(0), rtol=0.15)


def test_poses_pass_switches_without_a_jump(video):
    steps = np.linalg.norm(np.diff(video.poses, axis=0), axis=1)
    switched = np.diff(video.states) != 0
    spread = np.linalg.norm(video.poses.std(0))
    assert np.median(steps[switched]) < 0.35 * spread
    assert np.max(steps) < 2 * spread


@pytest.mark.parametrize("width", [20, 30, 64])
def test_the_animal_stays_in_the_image(width):
    """At all 64 corners of what the tanh leaves of a pose, and in the middle."""
    corners = np.array([*product([-9.0, 9.0], repeat=6), (0.0,) * 6])
    drawn = synthetic.depth_images(corners, width).reshape(-1, width, width)
    assert drawn.min() == 0.0 and drawn.max() <= 1.0
    covered = np.mean(drawn > 0.05, axis=(1, 2))
    assert covered.min() > 0.1 and covered.max() < 0.4
    border = np.concatenate(
        [drawn[:, 0], drawn[:, -1], drawn[:, :, -1], drawn[:, :, 0]], axis=1
    )
    assert border.max() < 0.25  # at most the tail and the snout


def test_an_image_is_a_frame_of_the_poses():
    poses = np.random.default_rng(0).standard_normal((7, 6))
    alone = [synthetic.depth_images(pose[None])[0] for pose in poses]
    np.testing.assert_array_equal(synthetic.depth_images(poses), alone)


def test_the_straight_animal_is_symmetric_and_faces_right():
    image = images()
    np.testing.assert_allclose(image, image[::-1], atol=1e-13)
    outline = np.flatnonzero((image > 0.1).any(0))
    widths = (image > 0.1).sum(0)[outline]
    assert widths.argmax() < len(widths) / 2  # the rump is behind
    low_tail, low_head = image[:, outline[1]].max(), image[:, outline[-2]].max()
    assert low_head > low_tail


@pytest.mark.parametrize("name", ["bend", "head", "sway"])
def test_sideways_poses_mirror(name):
    left, right = images(**{name: 1.0}), images(**{name: -1.0})
    np.testing.assert_allclose(left, right[::-1], atol=1e-13)
    assert np.max(np.abs(left - right)) > 0.2
    if name != "bend":  # which leaves the centre where it is
        assert centre(left)[0] < centre(right)[0]


def test_each_pose_does_as_it_is_called():
    rows, columns = np.indices((WIDTH, WIDTH))
    thin, thick = images(elongation=2.0) > 0.1, images(elongation=-2.0) > 0.1
    assert np.ptp(columns[thin]) > np.ptp(columns[thick]) + 5
    assert np.ptp(rows[thin]) < np.ptp(rows[thick])
    up, down = images(rear=2.0), images(rear=-2.0)
    assert up.max() > down.max() + 0.25
    assert np.ptp(columns[up > 0.1]) < np.ptp(columns[down > 0.1])
    assert up[:, : WIDTH // 3].max() == pytest.approx(
        down[:, : WIDTH // 3].max(), abs=0.05
    )
    shift = centre(images(bob=9.0)) - centre(images(bob=-9.0))
    np.testing.assert_allclose(shift, [0.0, 0.12 * (WIDTH - 1) / 2], atol=0.05)
    shift = centre(images(sway=9.0)) - centre(images(sway=-9.0))
    np.testing.assert_allclose(shift, [-0.16 * (WIDTH - 1) / 2, 0.0], atol=0.05)
    head = images(head=2.0) - images()
    assert np.abs(head[:, : WIDTH // 2]).max() < 0.02 < np.abs(head).max()
