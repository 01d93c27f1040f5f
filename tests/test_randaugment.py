"""RandAugment against per-pixel references, closed forms and a golden value."""

import math
import zlib

import numpy as np
import pytest

from mixer_jax.data import randaugment
from mixer_jax.data.randaugment import OPS, rand_augment

MAGNITUDES = (0, 10, 15, 20)  # those of the paper's sweep (Appendix B)
HEIGHT, WIDTH = 23, 31  # odd, unequal, and enough pixels for equalize to act


@pytest.fixture
def image():
    noise = np.random.default_rng(0).integers(-20, 20, (HEIGHT, WIDTH, 3))
    ramp = np.linspace([30, 0, 90], [200, 255, 100], HEIGHT * WIDTH).reshape(HEIGHT, WIDTH, 3)
    return np.clip(ramp + noise, 0, 255).astype(np.uint8)


def each_value(function):
    """A reference operation from a function of one value."""
    return lambda image, *arguments: np.array(
        [function(int(value), *arguments) for value in image.ravel()], np.uint8
    ).reshape(image.shape)


def slow_blend(start, end, factor):
    """Float32 start + factor * (end - start), clipped, cut to an integer; all by scalars."""
    if factor == 1:
        return end
    value = np.float32(start) + np.float32(factor) * (np.float32(end) - np.float32(start))
    return int(min(max(value, 0), 255))


def slow_autocontrast(image):
    result = image.copy()
    for c in range(3):
        low, high = np.float32(image[..., c].min()), np.float32(image[..., c].max())
        scale = np.float32(255) / (high - low)
        for y, x in np.ndindex(*image.shape[:2]):
            result[y, x, c] = int(min(max(np.float32(image[y, x, c]) * scale + -low * scale, 0), 255))
    return result


def slow_equalize(image):
    result = image.copy()
    for c in range(3):
        values = image[..., c].ravel().tolist()
        counts = [values.count(v) for v in range(256)]
        step = (len(values) - counts[max(values)]) // 255
        total, table = step // 2, []
        for count in counts:
            table.append(min(total // step, 255))
            total += count
        for y, x in np.ndindex(*image.shape[:2]):
            result[y, x, c] = table[image[y, x, c]]
    return result


def slow_color(image, factor):
    result = image.copy()
    for y, x in np.ndindex(*image.shape[:2]):
        red, green, blue = image[y, x].tolist()
        grey = int((0.2989 * red + 0.587 * green + 0.114 * blue) / 255 * 255.5)
        result[y, x] = [slow_blend(grey, value, factor) for value in (red, green, blue)]
    return result


def slow_contrast(image, factor):
    pixels = image.shape[0] * image.shape[1]
    return each_value(lambda value: slow_blend(min(pixels // 256, 255), value, factor))(image)


def slow_sharpness(image, factor):
    result = image.copy()
    for y in range(1, image.shape[0] - 1):
        for x in range(1, image.shape[1] - 1):
            for c in range(3):
                window = image[y - 1 : y + 2, x - 1 : x + 2, c].astype(int)
                smooth = (window.sum() + 4 * window[1, 1]) // 13
                result[y, x, c] = slow_blend(smooth, image[y, x, c], factor)
    return result


def slow_warp(image, matrix):
    """Nearest pixel, half away from zero, of float32 coordinates; 128 outside."""
    result = np.full_like(image, 128)
    rows = np.asarray(matrix, np.float32)
    for y, x in np.ndindex(*image.shape[:2]):
        across, down = (a * np.float32(x) + b * np.float32(y) + c for a, b, c in rows)
        across, down = (int(math.copysign(math.floor(abs(v) + 0.5), v)) for v in (across, down))
        if 0 <= down < image.shape[0] and 0 <= across < image.shape[1]:
            result[y, x] = image[down, across]
    return result


def slow_rotate(image, degrees):
    angle = np.float32(degrees * math.pi / 180)
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    w, h = np.float32(image.shape[1] - 1), np.float32(image.shape[0] - 1)
    across = [cos, -sin, (w - (cos * w - sin * h)) / np.float32(2)]
    down = [sin, cos, (h - (sin * w + cos * h)) / np.float32(2)]
    return slow_warp(image, [across, down])


def slow_cutout(image, radius, center_y, center_x):
    result = image.copy()
    center_y, center_x = math.floor(center_y * image.shape[0]), math.floor(center_x * image.shape[1])
    for y, x in np.ndindex(*image.shape[:2]):
        if -radius <= y - center_y < radius and -radius <= x - center_x < radius:
            result[y, x] = 128
    return result


# Name -> (reference operation, its arguments at the four magnitudes up to sign and position).
REFERENCES = {
    "AutoContrast": (slow_autocontrast, [()] * 4),
    "Equalize": (slow_equalize, [()] * 4),
    "Invert": (each_value(lambda v: 255 - v), [()] * 4),
    "Rotate": (slow_rotate, [(0,), (30,), (45,), (60,)]),
    "Posterize": (each_value(lambda v, bits: v - v % 2 ** (8 - max(bits, 1))), [(0,), (4,), (6,), (8,)]),
    "Solarize": (
        each_value(lambda v, threshold: v if v < threshold % 256 else 255 - v),
        [(0,), (256,), (384,), (512,)],
    ),
    "Color": (slow_color, [(0.1,), (1.9,), (2.8,), (3.7,)]),
    "Contrast": (slow_contrast, [(0.1,), (1.9,), (2.8,), (3.7,)]),
    "Brightness": (each_value(lambda v, factor: slow_blend(0, v, factor)), [(0.1,), (1.9,), (2.8,), (3.7,)]),
    "Sharpness": (slow_sharpness, [(0.1,), (1.9,), (2.8,), (3.7,)]),
    "ShearX": (lambda image, s: slow_warp(image, [[1, s, 0], [0, 1, 0]]), [(0,), (0.3,), (0.45,), (0.6,)]),
    "ShearY": (lambda image, s: slow_warp(image, [[1, 0, 0], [s, 1, 0]]), [(0,), (0.3,), (0.45,), (0.6,)]),
    "TranslateX": (
        lambda image, p: slow_warp(image, [[1, 0, p], [0, 1, 0]]),
        [(0,), (100,), (150,), (200,)],
    ),
    "TranslateY": (
        lambda image, p: slow_warp(image, [[1, 0, 0], [0, 1, p]]),
        [(0,), (100,), (150,), (200,)],
    ),
    "Cutout": (slow_cutout, [(0,), (40,), (60,), (80,)]),
    "SolarizeAdd": (
        each_value(lambda v, a: min(v + a, 255) if v < 128 else v),
        [(0,), (110,), (165,), (220,)],
    ),
}
SIGNED = ("Rotate", "ShearX", "ShearY", "TranslateX", "TranslateY")


def test_every_operation_has_a_reference():
    assert len(OPS) == 16
    assert set(OPS) == set(REFERENCES)


@pytest.mark.parametrize("magnitude", MAGNITUDES)
@pytest.mark.parametrize("name", OPS)
def test_arguments(name, magnitude):
    expected = REFERENCES[name][1][MAGNITUDES.index(magnitude)]
    arguments = OPS[name][1](magnitude, np.random.default_rng(0))
    if name in SIGNED:
        arguments = (abs(arguments[0]),)
    elif name == "Cutout":
        arguments = arguments[:1]
    assert arguments == pytest.approx(expected)


@pytest.mark.parametrize("magnitude", MAGNITUDES)
@pytest.mark.parametrize("name", OPS)
def test_operation_equals_its_reference(name, magnitude, image):
    before = image.copy()
    for seed in (0, 3):  # these draw both signs
        operation, arguments = OPS[name]
        drawn = arguments(magnitude, np.random.default_rng(seed))
        result = operation(image, *drawn)
        np.testing.assert_array_equal(result, REFERENCES[name][0](image, *drawn))
        assert result.dtype == np.uint8
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("name", SIGNED)
def test_sign_is_random(name):
    rng = np.random.default_rng(0)
    positive = sum(OPS[name][1](10, rng)[0] > 0 for _ in range(10_000))
    assert abs(positive - 5000) < 4 * math.sqrt(2500)  # four standard deviations


def test_cutout_is_anywhere():
    rng = np.random.default_rng(0)
    centers = np.array([OPS["Cutout"][1](10, rng)[1:] for _ in range(4000)])
    counts = np.histogram2d(*centers.T, bins=4, range=[[0, 1], [0, 1]])[0]
    assert np.abs(counts - 250).max() < 4 * math.sqrt(250)


@pytest.mark.parametrize(
    ("center", "rows", "columns"),
    [
        ((0.5, 0.5), slice(8, 14), slice(12, 18)),  # pixel (11, 15)
        ((0.0, 0.0), slice(0, 3), slice(0, 3)),
        ((0.999, 0.999), slice(19, 23), slice(27, 31)),  # pixel (22, 30)
    ],
)
def test_cutout_is_clipped_by_the_image(image, center, rows, columns):
    expected = image.copy()
    expected[rows, columns] = 128
    np.testing.assert_array_equal(randaugment.cutout(image, 3, *center), expected)


def test_translations_and_right_angles(image):
    filled = np.full_like(image, 128)
    left, down = filled.copy(), filled.copy()
    left[:, :-4] = image[:, 4:]
    down[5:] = image[:-5]
    np.testing.assert_array_equal(randaugment.translate_x(image, 4), left)
    np.testing.assert_array_equal(randaugment.translate_y(image, -5), down)
    np.testing.assert_array_equal(randaugment.rotate(image[:, :HEIGHT], 90), np.rot90(image[:, :HEIGHT]))
    np.testing.assert_array_equal(randaugment.rotate(image, 180), np.rot90(image, 2))


def test_shear_rounds_halves_away_from_zero(image):
    # With a slope of -1/2, row 1 takes its pixels from x - 0.5: the one at 0 from -1, outside.
    sheared = randaugment.shear_x(image, -0.5)
    np.testing.assert_array_equal(sheared[1, 0], [128] * 3)
    np.testing.assert_array_equal(sheared[1, 1:], image[1, 1:])
    np.testing.assert_array_equal(sheared[2, 1:], image[2, :-1])


def test_posterize_keeps_one_bit_where_the_reference_overflows(image):
    for bits in (0, 1, 9, 12):
        np.testing.assert_array_equal(randaugment.posterize(image, bits), image // 128 * 128)


def test_solarize_threshold_wraps(image):
    np.testing.assert_array_equal(randaugment.solarize(image, 256), 255 - image)
    np.testing.assert_array_equal(randaugment.solarize(image, 384), randaugment.solarize(image, 128))


def test_enhancement_at_level_five_is_the_identity(image):
    for name in ("Color", "Contrast", "Brightness", "Sharpness"):
        operation, arguments = OPS[name]
        (factor,) = arguments(5, np.random.default_rng(0))
        assert factor == 1
        np.testing.assert_array_equal(operation(image, factor), image)


def test_factor_zero_is_the_degenerate_image(image):
    np.testing.assert_array_equal(randaugment.brightness(image, 0), np.zeros_like(image))
    np.testing.assert_array_equal(randaugment.contrast(image, 0), np.full_like(image, HEIGHT * WIDTH // 256))
    assert np.ptp(randaugment.color(image, 0), axis=-1).max() == 0


def test_grey_is_the_same_on_every_processor():
    # Of all 16.7 million colours: the sums are integers, and the one product of floats is rounded as IEEE 754 says.
    # A matrix product of fractions differs from this in dozens of colours, in others on each processor.
    values = np.arange(256, dtype=np.uint8)
    colours = np.stack(np.meshgrid(values, values, values), axis=-1).reshape(4096, 4096, 3)
    sums = colours.astype(np.int32) @ np.array([2989, 5870, 1140], np.int32)  # of integers NumPy adds exactly
    expected = (sums.astype(np.float32) * np.float32(255.5 / 255 / 10_000)).astype(np.uint8)
    np.testing.assert_array_equal(randaugment.color(colours, 0)[..., 0], expected)


@pytest.mark.parametrize(("side", "grey"), [(224, 196), (255, 254), (256, 255), (448, 255)])
def test_contrast_depends_on_the_number_of_pixels(side, grey):
    for value in (0, 77):
        plain = np.full((side, side, 3), value, np.uint8)
        np.testing.assert_array_equal(randaugment.contrast(plain, 0), np.full_like(plain, grey))


def test_plain_images_stay():
    for value in (0, 1, 100, 254, 255):
        plain = np.full((20, 20, 3), value, np.uint8)
        for operation in (randaugment.autocontrast, randaugment.equalize):
            np.testing.assert_array_equal(operation(plain), plain)
        np.testing.assert_array_equal(randaugment.sharpness(plain, 0.1), plain)
        np.testing.assert_array_equal(randaugment.color(plain, 2.8), plain)


def test_autocontrast_treats_channels_apart():
    image = np.zeros((1, 3, 3), np.uint8)
    image[0] = [[10, 7, 0], [20, 7, 128], [30, 7, 255]]
    stretched = [[0, 7, 0], [127, 7, 128], [255, 7, 255]]
    np.testing.assert_array_equal(randaugment.autocontrast(image)[0], stretched)


def test_equalize_leaves_few_pixels_alone():
    few = np.arange(15 * 15 * 3, dtype=np.uint8).reshape(15, 15, 3)
    np.testing.assert_array_equal(randaugment.equalize(few), few)


def test_equalize_spreads_a_histogram():
    # Four values with 255 pixels each: three steps of 255 pixels below the brightest, so 0, 85, 170 and 255.
    values = np.repeat(np.array([3, 4, 5, 200], np.uint8), 255).reshape(20, 51)
    equalized = randaugment.equalize(np.stack([values] * 3, axis=-1))
    np.testing.assert_array_equal(np.unique(equalized), [0, 85, 170, 255])


def test_sharpness_leaves_the_border(image):
    sharp = randaugment.sharpness(image, 3.7)
    inside = np.zeros(image.shape, bool)
    inside[1:-1, 1:-1] = True
    np.testing.assert_array_equal(sharp[~inside], image[~inside])
    assert (sharp[inside] != image[inside]).any()
    tiny = image[:2, :2]
    np.testing.assert_array_equal(randaugment.sharpness(tiny, 3.7), tiny)


def test_operations_are_uniform_and_always_applied(monkeypatch, image):
    counts = dict.fromkeys(OPS, 0)

    def counter(name):
        def count(image):
            counts[name] += 1
            return image

        return count, lambda _level, _rng: ()

    monkeypatch.setattr(randaugment, "OPS", {name: counter(name) for name in OPS})
    rng = np.random.default_rng(0)
    for _ in range(4000):
        rand_augment(image, 2, 15, rng)
    drawn = np.array(list(counts.values()))
    assert drawn.sum() == 8000
    assert ((drawn - 500) ** 2 / 500).sum() < 37.7  # chi squared, 15 degrees of freedom, 99.9 %


def test_layers_are_applied_in_turn(image):
    names = list(OPS)
    rng = np.random.default_rng(5)
    expected = image
    for _ in range(3):
        operation, arguments = OPS[names[rng.integers(16)]]
        expected = operation(expected, *arguments(15, rng))
    np.testing.assert_array_equal(rand_augment(image, 3, 15, np.random.default_rng(5)), expected)
    assert rand_augment(image, 0, 15, np.random.default_rng(5)) is image


def test_equal_seeds_give_equal_images():
    image = np.random.default_rng(0).integers(0, 256, (160, 192, 3), dtype=np.uint8)
    images = [rand_augment(image, 2, 15, np.random.default_rng(seed)).tobytes() for seed in (1, 1, 2, 3)]
    assert images[0] == images[1]
    assert len(set(images)) == 3


def test_golden_value():
    # A change here changes every training run: find out why before you update it.
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (160, 192, 3), dtype=np.uint8)
    images = [rand_augment(image, 2, 15, rng) for _ in range(32)]
    assert zlib.crc32(np.stack(images).tobytes()) == 2908477784
