"""Weights in and out: files in every layout against a forward pass in the paper's notation, and what is refused."""

import contextlib
import dataclasses
import functools
import hashlib
import http.server
import os
import shutil
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
from flax.traverse_util import flatten_dict

from mixer_jax.errors import ConfigError
from mixer_jax.models import registry
from mixer_jax.models.mixer import VARIANTS
from mixer_jax.models.mixer_family import MixerFamily
from mixer_jax.weights import array_files
from mixer_jax.weights import downloads as published
from mixer_jax.weights.load import from_arrays, load_weights
from tests.weight_files import save_params

SMALL = {"patch_size": 4, "num_blocks": 11, "hidden_dim": 24, "tokens_mlp_dim": 10, "channels_mlp_dim": 40}


def random_mixer(
    *, patch_size, num_blocks, hidden_dim, tokens_mlp_dim, channels_mlp_dim, tokens, classes=7, normal=None
):
    """Random weights in the notation of Eq. (1): W1 (D_S, S), W2 (S, D_S), W3 (D_C, C), W4 (C, D_C), and the rest."""
    normal = normal or functools.partial(random_normal, np.random.default_rng(0))

    def mlp(width, hidden):
        kernels = normal(hidden, width, scale=width**-0.5), normal(width, hidden, scale=hidden**-0.5)
        return kernels[0], normal(hidden), kernels[1], normal(width)

    def norm():
        return normal(hidden_dim, mean=1.0), normal(hidden_dim)

    pixels = patch_size * patch_size * 3
    return {
        "stem": (normal(pixels, hidden_dim, scale=pixels**-0.5), normal(hidden_dim)),
        "blocks": [
            {
                "norm_1": norm(),
                "tokens": mlp(tokens, tokens_mlp_dim),
                "norm_2": norm(),
                "channels": mlp(hidden_dim, channels_mlp_dim),
            }
            for _ in range(num_blocks)
        ],
        "norm": norm(),
        "head": (normal(hidden_dim, classes), normal(classes)),
    }


def random_normal(rng, *shape, mean=0.0, scale=0.3):
    return (mean + scale * rng.standard_normal(shape, np.float32)).astype(np.float32)


def forward(mixer, image, patch_size):
    """Logits of one image (height, width, 3) by Eq. (1) in float64; `mixer` is of `random_mixer`."""

    def float64(arrays):
        return [np.asarray(array, np.float64) for array in arrays]

    def gelu(x):
        return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    def norm(x, arrays):
        scale, bias = float64(arrays)
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * scale + bias

    def mlp(x, arrays):  # on the columns of x
        w1, b1, w2, b2 = float64(arrays)
        return w2 @ gelu(w1 @ x + b1[:, None]) + b2[:, None]

    kernel, bias = float64(mixer["stem"])
    height, width = image.shape[0] // patch_size, image.shape[1] // patch_size
    patches = np.asarray(image, np.float64).reshape(height, patch_size, width, patch_size, 3).swapaxes(1, 2)
    x = patches.reshape(height * width, -1) @ kernel + bias
    for block in mixer["blocks"]:
        x = x + mlp(norm(x, block["norm_1"]), block["tokens"])
        x = x + mlp(norm(x, block["norm_2"]).T, block["channels"]).T
    kernel, bias = float64(mixer["head"])
    return norm(x, mixer["norm"]).mean(0) @ kernel + bias


def patches_of(mixer, patch_size):
    return mixer["stem"][0].reshape(patch_size, patch_size, 3, -1)


def official(mixer, patch_size):
    """The arrays of a published .npz file, by its keys."""
    arrays = {"stem/kernel": patches_of(mixer, patch_size), "stem/bias": mixer["stem"][1]}
    for i, block in enumerate(mixer["blocks"]):
        for name, (scale, bias) in (("LayerNorm_0", block["norm_1"]), ("LayerNorm_1", block["norm_2"])):
            arrays |= {f"MixerBlock_{i}/{name}/scale": scale, f"MixerBlock_{i}/{name}/bias": bias}
        for name, (w1, b1, w2, b2) in (("token_mixing", block["tokens"]), ("channel_mixing", block["channels"])):
            arrays |= {f"MixerBlock_{i}/{name}/Dense_0/kernel": w1.T, f"MixerBlock_{i}/{name}/Dense_0/bias": b1}
            arrays |= {f"MixerBlock_{i}/{name}/Dense_1/kernel": w2.T, f"MixerBlock_{i}/{name}/Dense_1/bias": b2}
    arrays |= {"pre_head_layer_norm/scale": mixer["norm"][0], "pre_head_layer_norm/bias": mixer["norm"][1]}
    return arrays | {"head/kernel": mixer["head"][0], "head/bias": mixer["head"][1]}


def older(mixer, patch_size, second_norm=1):
    """The same with the older keys, and the singleton axes of the MLPs."""
    arrays = {"embedding/kernel": patches_of(mixer, patch_size), "embedding/bias": mixer["stem"][1]}
    for i, block in enumerate(mixer["blocks"]):
        prefix = f"Mixer/encoderblock_{i}"
        for name, (scale, bias) in ((0, block["norm_1"]), (second_norm, block["norm_2"])):
            arrays |= {f"{prefix}/LayerNorm_{name}/scale": scale, f"{prefix}/LayerNorm_{name}/bias": bias}
        for name, (w1, b1, w2, b2) in (("token", block["tokens"]), ("channel", block["channels"])):
            arrays |= {f"{prefix}/{name}_mixing_phase_0/kernel1": w1.T[None, :, None]}
            arrays |= {f"{prefix}/{name}_mixing_phase_0/bias1": b1[None]}
            arrays |= {f"{prefix}/{name}_mixing_phase_0/kernel2": w2.T[None]}
            arrays |= {f"{prefix}/{name}_mixing_phase_0/bias2": b2[:, None]}
    arrays |= {"Mixer/encoder_norm/scale": mixer["norm"][0], "Mixer/encoder_norm/bias": mixer["norm"][1]}
    return arrays | {"head/kernel": mixer["head"][0], "head/bias": mixer["head"][1]}


def timm(mixer, patch_size):
    """The same as the state dict of a timm model: weights (out, in), and (out, in, height, width) of the stem."""
    arrays = {
        "stem.proj.weight": patches_of(mixer, patch_size).transpose(3, 2, 0, 1),
        "stem.proj.bias": mixer["stem"][1],
    }
    for i, block in enumerate(mixer["blocks"]):
        for name, (scale, bias) in (("norm1", block["norm_1"]), ("norm2", block["norm_2"])):
            arrays |= {f"blocks.{i}.{name}.weight": scale, f"blocks.{i}.{name}.bias": bias}
        for name, (w1, b1, w2, b2) in (("mlp_tokens", block["tokens"]), ("mlp_channels", block["channels"])):
            arrays |= {f"blocks.{i}.{name}.fc1.weight": w1, f"blocks.{i}.{name}.fc1.bias": b1}
            arrays |= {f"blocks.{i}.{name}.fc2.weight": w2, f"blocks.{i}.{name}.fc2.bias": b2}
    arrays |= {"norm.weight": mixer["norm"][0], "norm.bias": mixer["norm"][1]}
    arrays |= {"head.weight": mixer["head"][0].T, "head.bias": mixer["head"][1]}
    return {key: np.ascontiguousarray(array) for key, array in arrays.items()}


def write(path, arrays):
    safetensors.numpy.save_file(arrays, path) if path.suffix == ".safetensors" else np.savez(path, **arrays)
    return path


@pytest.fixture(scope="module")
def small():
    return random_mixer(**SMALL, tokens=9)


def image_of(size):
    return np.random.default_rng(1).uniform(-1, 1, (size, size, 3)).astype(np.float32)


@functools.partial(jax.jit, static_argnums=0)
def apply(model, params, images):
    return model.apply({"params": params}, images)


def logits(weights, image):
    return apply(weights.create_model(), weights.params, image[None])[0]


def assert_same_params(ours, theirs):
    assert jax.tree.structure(ours) == jax.tree.structure(theirs)
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


LAYOUTS = {"official": ("a.npz", official), "older official": ("b.npz", older), "timm": ("c.safetensors", timm)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_in_every_layout_give_the_logits_of_the_equations(layout, small, tmp_path):
    name, arrays = LAYOUTS[layout]
    weights = load_weights(write(tmp_path / name, arrays(small, 4)))
    expected = forward(small, image_of(12), 4)
    np.testing.assert_allclose(logits(weights, image_of(12)), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert weights.layout == layout
    assert weights.model == {"name": "mixer", "num_classes": 7, **SMALL}
    assert weights.image_size == 12


@pytest.mark.parametrize("name", VARIANTS)
def test_every_whole_variant_is_known_by_its_arrays(name):
    dimensions = VARIANTS[name]
    patch_size = dimensions["patch_size"]
    mixer = random_mixer(**dimensions, tokens=(224 // patch_size) ** 2, classes=1000, normal=zeros)
    for layout in (official, older):
        weights = from_arrays(layout(mixer, patch_size), source="file.npz")
        assert weights.model == {"name": name, "num_classes": 1000}
        assert weights.image_size == 224


@pytest.mark.large
@pytest.mark.parametrize("name", VARIANTS)
def test_files_of_every_whole_variant_give_the_logits_of_the_equations(name, tmp_path):
    dimensions = VARIANTS[name]
    patch_size = dimensions["patch_size"]
    mixer = random_mixer(**dimensions, tokens=(224 // patch_size) ** 2)
    expected = forward(mixer, image_of(224), patch_size)
    for file, arrays in LAYOUTS.values():
        weights = load_weights(write(tmp_path / file, arrays(mixer, patch_size)))
        (tmp_path / file).unlink()
        error = np.abs(logits(weights, image_of(224)) - expected).max() / np.abs(expected).max()
        print(f"{name}, {weights.layout} layout: largest error {error:.1e} of the largest logit")
        assert error < 1e-5


def zeros(*shape, mean=0.0, scale=0.0):
    """An array that takes no memory."""
    return np.broadcast_to(np.float32(mean * scale), shape)


def test_layer_norms_that_the_older_layout_numbers_with_other_modules_are_taken_in_order(small):
    numbered, expected = (from_arrays(older(small, 4, number), source="a.npz") for number in (2, 1))
    assert_same_params(numbered.params, expected.params)


def test_the_report_accounts_for_every_array_of_the_file(small, tmp_path):
    arrays = timm(small, 4) | {"num_batches_tracked": np.zeros(1, np.float32)}
    arrays["head.bias"] = arrays["head.bias"].astype(np.float16)
    weights = load_weights(write(tmp_path / "a.safetensors", arrays))
    assert {entry.key for entry in weights.entries} == set(arrays)
    assert [entry.name for entry in weights.entries if entry.name] == list_in_order(weights.params)
    assert weights.report().splitlines()[0] == (
        f"{tmp_path}/a.safetensors, timm layout: 138 arrays loaded, 138 renamed, 46 transposed, 1 cast, "
        "0 newly initialised, 1 left over"
    )
    lines = weights.report().splitlines()
    assert (
        "  MixerBlock_*/token_mixing/Dense_0/kernel (9, 10) <- blocks.*.mlp_tokens.fc1.weight: transposed (11 times)"
        in lines
    )
    assert "  head/bias (7,) <- head.bias: cast from float16" in lines
    assert lines[-1] == "  left over: num_batches_tracked (1,)"
    assert len(lines) == 1 + 12 + 6 + 1


def list_in_order(params):
    blocks = [f"MixerBlock_{i}" for i in range(11)]
    flat = flatten_dict(params, sep="/")
    order = [*blocks, "head", "pre_head_layer_norm", "stem"]
    return sorted(flat, key=lambda name: (order.index(name.split("/")[0]), name))


@pytest.mark.parametrize("names", [("a.npz", "b.npz"), ("a.npz", "a.safetensors", "b.npz"), ("a.safetensors",) * 2])
def test_round_trips_are_exact(names, small, tmp_path):
    start = from_arrays(official(small, 4), source="start")
    params = start.params
    for name in names:
        save_params(tmp_path / name, params)
        params = load_weights(tmp_path / name).params
    assert_same_params(params, start.params)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(set(names))  # and nothing beside


@pytest.mark.parametrize(("name", "arrays"), [("a.npz", official), ("a.safetensors", timm)])
def test_written_files_have_the_keys_and_arrays_of_the_layout(name, arrays, small, tmp_path):
    save_params(tmp_path / name, from_arrays(older(small, 4), source="start").params)
    written, expected = array_files.read(tmp_path / name).arrays, arrays(small, 4)
    assert set(written) == set(expected)
    for key, array in expected.items():
        np.testing.assert_array_equal(written[key], array, err_msg=key)


def test_untied_token_mixing_goes_to_npz_alone(tmp_path):
    model = registry.create_model("mixer", 7, **SMALL | {"num_blocks": 2}, untied_token_mixing=True)
    params = initial(model, 12)
    save_params(tmp_path / "a.npz", params)
    weights = load_weights(tmp_path / "a.npz")
    assert_same_params(weights.params, params)
    assert weights.create_model() == model
    with pytest.raises(ConfigError, match="timm has no untied token mixing"):
        save_params(tmp_path / "a.safetensors", params)


def test_sixteen_bit_floats_are_cast_without_loss(small, tmp_path):
    halves = {key: array.astype(ml_dtypes.bfloat16) for key, array in timm(small, 4).items()}
    weights = load_weights(write(tmp_path / "a.safetensors", halves))
    exact = from_arrays({key: array.astype(np.float32) for key, array in halves.items()}, source="a")
    assert_same_params(weights.params, exact.params)
    assert {entry.changes[-1] for entry in weights.entries} == {"cast from bfloat16"}


def drop(key):
    return lambda arrays: {k: v for k, v in arrays.items() if k != key}


def replace(key, array):
    return lambda arrays: arrays | {key: array}


@pytest.mark.parametrize(
    ("layout", "damage", "message"),
    [
        (
            official,
            drop("MixerBlock_3/token_mixing/Dense_1/bias"),
            r"MixerBlock_3/token_mixing/Dense_1/bias is missing; expected \(9,\)",
        ),
        (
            official,
            replace("MixerBlock_9/channel_mixing/Dense_1/kernel", np.zeros((40, 23), np.float32)),
            r"MixerBlock_9/channel_mixing/Dense_1/kernel has shape \(40, 23\); expected \(40, 24\)",
        ),
        (
            older,
            replace("Mixer/encoderblock_2/token_mixing_phase_0/kernel2", np.zeros((1, 11, 9), np.float32)),
            r"token_mixing_phase_0/kernel2 has shape \(1, 11, 9\), squeezed \(11, 9\); expected \(10, 9\)",
        ),
        (older, drop("Mixer/encoder_norm/scale"), r"Mixer/encoder_norm/scale is missing; expected \(24,\)"),
        (timm, drop("blocks.10.norm1.weight"), r"blocks.10.norm1.weight is missing; expected \(24,\)"),
        (
            timm,
            replace("head.weight", np.zeros((7, 25), np.float32)),
            r"head.weight has shape \(7, 25\), transposed \(25, 7\); expected \(24, 7\)",
        ),
        (timm, drop("head.bias"), r"head.bias is missing; expected \(7,\)"),
        (official, replace("stem/bias", np.zeros(24, np.int32)), r"stem/bias has dtype int32; expected floating-point"),
        (
            official,
            replace("stem/kernel", np.zeros((48, 24), np.float32)),
            r"stem/kernel has shape \(48, 24\); expected 4",
        ),
        (
            official,
            lambda _: {"w": np.zeros(3)},
            r"holds no model of a known family: expected one of the keys stem/kernel .*begin with w",
        ),
        (official, lambda _: {}, r"its 0 keys begin with nothing"),
    ],
)
def test_arrays_that_are_not_those_of_one_mixer_are_refused_by_key_and_shapes(layout, damage, message, small):
    with pytest.raises(ConfigError, match=f"^file.*{message}"):
        from_arrays(damage(layout(small, 4)), source="file")


@pytest.mark.parametrize("name", ["a.npz", "a.safetensors"])
@pytest.mark.parametrize(
    "damage", [lambda x: x[: len(x) // 2], lambda x: x[:-7], lambda x: x[:1], lambda _: b"no weights"]
)
def test_truncated_files_are_refused_by_name(name, damage, small, tmp_path):
    path = write(tmp_path / name, (official if name == "a.npz" else timm)(small, 4))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ConfigError, match=rf"{name} cannot be read; it is damaged, or no .{name.split('.')[1]} file"):
        load_weights(path)


def test_a_file_with_a_flipped_bit_is_refused(small, tmp_path):
    path = write(tmp_path / "a.npz", official(small, 4))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ConfigError, match="cannot be read; it is damaged.*CRC"):
        load_weights(path)


def test_files_that_are_not_there_and_unknown_endings_are_refused(small, tmp_path):
    with pytest.raises(ConfigError, match="imagenet1k/Mixer-B_16.npz: there is no such file"):
        load_weights("imagenet1k/Mixer-B_16.npz")
    params = from_arrays(official(small, 4), source="a").params
    with pytest.raises(ConfigError, match=r"a.h5: the ending '.h5' is unknown; known: .npz, .safetensors"):
        save_params(tmp_path / "a.h5", params)
    with pytest.raises(ConfigError, match=r"absent/a.npz cannot be written"):
        save_params(tmp_path / "absent" / "a.npz", params)


def init_params(num_classes=7, size=12, **overrides):
    return initial(registry.create_model("mixer", num_classes, **SMALL | overrides), size)


def initial(model, size):
    """Parameters of a model that are all different."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))["params"]
    rng = np.random.default_rng(2)
    return jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), shapes)


def test_a_new_head_is_the_models_own_and_the_old_one_is_left_over(small):
    weights, start = from_arrays(timm(small, 4), source="a"), init_params(num_classes=3)
    fitted = weights.into(start, new_head=True)
    assert_same_params(fitted.params.pop("head"), start["head"])
    assert_same_params(fitted.params, {k: v for k, v in weights.params.items() if k != "head"})
    lines = fitted.report().splitlines()
    assert "136 arrays loaded" in lines[0]
    assert "2 newly initialised, 2 left over" in lines[0]
    assert "  newly initialised: head/kernel (24, 3)" in lines
    assert lines[-2:] == ["  left over: head.bias (7,)", "  left over: head.weight (24, 7): transposed"]


def test_the_same_model_takes_all_weights_and_one_without_a_head_leaves_it(small):
    weights = from_arrays(official(small, 4), source="a")
    assert weights.into(init_params()) == weights
    headless = weights.into(init_params(num_classes=None))
    assert [entry.key for entry in headless.entries if not entry.name] == ["head/bias", "head/kernel"]
    assert headless.model["num_classes"] is None


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"num_classes": 3}, r"file: head/bias has shape \(7,\); the model needs \(3,\)"),
        ({"num_blocks": 12}, r"file: MixerBlock_11/LayerNorm_0/bias is missing; the model needs \(24,\)"),
        ({"num_blocks": 10}, r"file: MixerBlock_10/LayerNorm_0/bias has shape \(24,\); the model has no such array"),
        (
            {"size": 24},
            r"token_mixing/Dense_0/kernel has shape \(9, 10\); the model needs \(36, 10\); .* another image size",
        ),
    ],
)
def test_weights_of_another_model_are_refused_by_array_and_shapes(model, message, small):
    with pytest.raises(ConfigError, match=message):
        from_arrays(official(small, 4), source="file").into(init_params(**model))


def test_a_headless_file_needs_a_new_head(small):
    arrays = {key: array for key, array in official(small, 4).items() if not key.startswith("head/")}
    weights = from_arrays(arrays, source="file")
    with pytest.raises(ConfigError, match=r"file: head/bias is missing; the model needs \(7,\)"):
        weights.into(init_params())
    assert_same_params(weights.into(init_params(), new_head=True).params["head"], init_params()["head"])


class Site(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, half of a file whose name contains "L_16", and refuses those of "gsam" to anonymous readers."""

    requests = ()

    def log_message(self, *_):
        """Counts requests instead of printing them."""
        self.requests.append(self.path)

    def do_GET(self):
        """Answers a request, one in "timm/" by sending the client to another address first, as the hub does."""
        if "gsam" in self.path or "closed" in self.path:
            self.send_error(403, "Anonymous caller does not have storage.objects.get access")
        elif self.path.startswith("/timm/"):
            self.send_response(302)
            self.send_header("Location", f"/elsewhere{self.path}?signature=1")
            self.end_headers()
        else:
            super().do_GET()

    def copyfile(self, source, outputfile):
        content = source.read()
        outputfile.write(content[: len(content) // 2] if "L_16" in self.path else content)


@pytest.fixture
def site(tmp_path, monkeypatch, small):
    """The published weights at a server of this process's own, which lists its requests."""
    for name in list(registry.published())[:2]:
        (tmp_path / "site" / name).parent.mkdir(parents=True, exist_ok=True)
        write(tmp_path / "site" / f"{name}.npz", official(small, 4))
    (tmp_path / "site" / "elsewhere" / "timm").mkdir(parents=True)
    for name in ("mixer_b16_224.goog_in21k", "mixer_b16_224.miil_in21k"):
        write(tmp_path / "site" / "elsewhere" / "timm" / f"{name}.safetensors", timm(small, 4))
    monkeypatch.setattr(Site, "requests", [])
    handler = functools.partial(Site, directory=tmp_path / "site")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        moved = {
            name: dataclasses.replace(found, address=f"{address}/{name}{Path(found.address).suffix}")
            for name, found in MixerFamily.published.items()
        }
        monkeypatch.setattr(MixerFamily, "published", moved)
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(thread.join)
            cleanup.callback(server.shutdown)
            yield Site.requests


def test_published_weights_are_downloaded_once_and_checked_afterwards(site, small, tmp_path):
    cache = tmp_path / "cache"
    for _ in range(2):
        weights = load_weights("imagenet1k/Mixer-B_16", cache_dir=cache)
    assert_same_params(weights.params, from_arrays(official(small, 4), source="a").params)
    assert len(site) == 1
    file = cache / "imagenet1k" / "Mixer-B_16.npz"
    record = file.with_name("Mixer-B_16.npz.sha256")
    assert record.read_text() == f"{hashlib.sha256(file.read_bytes()).hexdigest()}  Mixer-B_16.npz\n"
    assert sorted(file.parent.iterdir()) == [file, record]
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(ConfigError, match=r"Mixer-B_16.npz has SHA-256 \w{64}; at its first use it had \w{64}"):
        published.fetch("imagenet1k/Mixer-B_16", cache)


@pytest.mark.parametrize(
    ("name", "reason"), [("imagenet1k/Mixer-L_16", "of .* bytes were received"), ("imagenet21k/Mixer-L_16", "404")]
)
@pytest.mark.usefixtures("site")
def test_a_failed_download_leaves_nothing_and_says_where_to_put_the_file(name, reason, tmp_path):
    cache = tmp_path / "cache"
    with pytest.raises(ConfigError, match=f"{name}.npz cannot be downloaded .*{reason}.*elsewhere and put it there"):
        published.fetch(name, cache)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_timms_weights_are_published_by_name(site, small, tmp_path):
    weights = load_weights("timm/mixer_b16_224.goog_in21k", cache_dir=tmp_path / "cache")
    assert_same_params(weights.params, from_arrays(timm(small, 4), source="a").params)
    assert len(site) == 2
    assert (tmp_path / "cache" / "timm" / "mixer_b16_224.goog_in21k.safetensors.sha256").exists()


@pytest.mark.usefixtures("site")
def test_weights_for_pixels_from_0_to_1_see_the_same_image(small, tmp_path):
    weights = load_weights("timm/mixer_b16_224.miil_in21k", cache_dir=tmp_path / "cache")
    image = image_of(12)
    expected = forward(small, (image + 1) / 2, 4)
    np.testing.assert_allclose(logits(weights, image), expected, rtol=0, atol=1e-5 * np.abs(expected).max())
    assert "2 rescaled" in weights.report()
    assert "stem.proj.bias: rescaled from pixels in [0, 1]" in weights.report()
    shutil.copy(tmp_path / "cache/timm/mixer_b16_224.miil_in21k.safetensors", tmp_path / "a.safetensors")
    assert "rescaled" not in load_weights(tmp_path / "a.safetensors").report()  # a file says nothing of pixels


def test_what_is_published_has_an_address_and_the_same_weights_elsewhere_are_named():
    published = registry.published()
    names = {
        *("imagenet1k/Mixer-B_16", "imagenet1k/Mixer-L_16", "imagenet21k/Mixer-B_16", "imagenet21k/Mixer-L_16"),
        *("sam/Mixer-B_16", "sam/Mixer-B_32", "gsam/Mixer-S_8", "gsam/Mixer-S_16", "gsam/Mixer-S_32"),
        *("gsam/Mixer-B_16", "gsam/Mixer-B_32"),
        *(f"timm/mixer_{size}_224.{kind}" for size in ("b16", "l16") for kind in ("goog_in21k", "goog_in21k_ft_in1k")),
        *("timm/mixer_b16_224.miil_in21k", "timm/mixer_b16_224.miil_in21k_ft_in1k"),
    }
    assert set(published) == names
    sam = "https://storage.googleapis.com/mixer_models/sam/Mixer-B_32.npz"
    assert (published["sam/Mixer-B_32"].address, published["sam/Mixer-B_32"].twin) == (sam, "")
    ours, theirs = "imagenet21k/Mixer-L_16", "timm/mixer_l16_224.goog_in21k"
    assert published[theirs].address == f"https://huggingface.co/{theirs}/resolve/main/model.safetensors"
    assert (published[ours].twin, published[theirs].twin) == (theirs, ours)
    assert {name for name, found in published.items() if found.pixels == (0.0, 1.0)} == {
        name for name in names if "miil" in name
    }
    assert all(published[found.twin].twin == name for name, found in published.items() if found.twin)


@pytest.mark.usefixtures("site")
def test_a_refused_download_names_the_other_source(monkeypatch, tmp_path):
    closed = dict(MixerFamily.published)
    found = closed["imagenet21k/Mixer-B_16"]
    closed["imagenet21k/Mixer-B_16"] = dataclasses.replace(
        found, address=found.address.replace("imagenet21k", "closed")
    )
    monkeypatch.setattr(MixerFamily, "published", closed)
    with pytest.raises(ConfigError, match="403.*put it there. The same .* 'timm/mixer_b16_224.goog_in21k', too"):
        published.fetch("imagenet21k/Mixer-B_16", tmp_path)
    with pytest.raises(ConfigError, match="403.*elsewhere and put it there$"):
        published.fetch("gsam/Mixer-S_8", tmp_path)


def test_what_is_no_file_in_the_cache_is_not_waited_for(tmp_path):
    file = tmp_path / "imagenet1k" / "Mixer-B_16.npz"
    file.parent.mkdir()
    os.mkfifo(file)
    with pytest.raises(ConfigError, match="Mixer-B_16.npz is no file; remove it"):
        published.fetch("imagenet1k/Mixer-B_16", tmp_path)
    file.unlink()
    file.write_bytes(b"x")
    record = file.with_name("Mixer-B_16.npz.sha256")
    os.mkfifo(record)
    with pytest.raises(ConfigError, match="Mixer-B_16.npz.sha256 is no file; remove it"):
        published.fetch("imagenet1k/Mixer-B_16", tmp_path)
    record.unlink()
    for content in (b"", b"\xff\xfe", b"x" * 60_000):
        record.write_bytes(content)
        with pytest.raises(ConfigError, match="Mixer-B_16.npz") as refused:
            published.fetch("imagenet1k/Mixer-B_16", tmp_path)
        assert len(str(refused.value)) < 1000


@pytest.mark.usefixtures("site")
def test_a_file_put_into_the_cache_by_hand_is_used(small, tmp_path):
    file = tmp_path / "imagenet21k" / "Mixer-B_16.npz"
    file.parent.mkdir()
    write(file, official(small, 4))
    assert published.fetch("imagenet21k/Mixer-B_16", tmp_path) == file
    assert file.with_name("Mixer-B_16.npz.sha256").exists()


def test_the_cache_is_where_the_desktop_standard_puts_it(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert published.default_cache_dir() == tmp_path / "mixer_jax"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert published.default_cache_dir() == tmp_path / "home" / ".cache" / "mixer_jax"


def test_unknown_names_are_refused_with_the_nearest_one():
    with pytest.raises(ConfigError, match="did you mean 'imagenet1k/Mixer-B_16'"):
        published.fetch("imagenet1k/Mixer-B_61")
    with pytest.raises(ConfigError, match="no published weights .*; did you mean 'timm/mixer_b16_224.goog_in21k'"):
        load_weights("timm/mixer_b16_224.goog_in22k")  # a dot begins no ending here
